"""How scores of different kinds become one: convex fusion that adapts to whether the words match at all.

A convex sum of normalised scores beats reciprocal rank fusion nearly everywhere (Bruch, Gai and Ingber 2023,
"An analysis of fusion functions for hybrid retrieval"; our own table is in docs/benchmarks.md). With a
question in one language and documents in the other, keyword hits are accidents: the lexical weight shrinks
with the share of the question that the best passage covers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from core.types import TermStats
from stores.base import idf

LEXICAL_WEIGHT = 0.5  # of a question whose words all occur in one passage
FULL_COVERAGE = 0.6  # from this best coverage on, the lexical weight is whole
SUMMARY_WEIGHT = 0.1  # what the summary stage adds at most
# Records without any term of the question that every index is taken to hold besides its own. In an index of
# two chunks a word that is in both would weigh an eighth of one that is in neither, and no passage could cover
# much of the question; with the prior they weigh about the same. In an index of thousands it changes nothing.
PRIOR_RECORDS = 100


def inverse_document_frequency(stats: TermStats, terms: Collection[str]) -> dict[str, float]:
    """For each term ln(1 + (N - n + 0.5) / (n + 0.5)), the form of BM25 that is never negative.

    N is the number of records plus `PRIOR_RECORDS`. A term that the index does not hold gets the largest
    value: not finding it should count.
    """
    total = stats.total + PRIOR_RECORDS
    return {term: idf(total, stats.document_frequency.get(term, 0)) for term in terms}


def coverage(idf: Mapping[str, float], passage_terms: Collection[str]) -> float:
    """The share of the question's idf mass whose terms occur in the passage, in [0, 1]."""
    mass = sum(idf.values())
    if mass == 0:
        return 0.0
    return sum(weight for term, weight in idf.items() if term in passage_terms) / mass


def min_max(scores: Sequence[float]) -> list[float]:
    """Scores stretched to [0, 1]; all 1 if they are equal."""
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    if high == low:
        return [1.0] * len(scores)
    return [(score - low) / (high - low) for score in scores]


def by_maximum(scores: Sequence[float]) -> list[float]:
    """Scores divided by the largest one: 0 stays 0, "not found by keyword"."""
    high = max(scores, default=0.0)
    return [score / high if high > 0 else 0.0 for score in scores]


def lexical_weight(best_coverage: float) -> float:
    """`LEXICAL_WEIGHT`, reduced in proportion when even the best passage covers little of the question."""
    return LEXICAL_WEIGHT * min(1.0, best_coverage / FULL_COVERAGE)


def convex(
    dense: Sequence[float], lexical: Sequence[float], summary: Sequence[float], *, best_coverage: float
) -> list[float]:
    """One score for each candidate from its dense, keyword and summary scores (0: not found that way)."""
    weight = lexical_weight(best_coverage)
    return [
        (1 - weight) * d + weight * t + SUMMARY_WEIGHT * s
        for d, t, s in zip(min_max(dense), by_maximum(lexical), summary, strict=True)
    ]
