"""What stores that rank for themselves share of BM25: the score of one record, and which terms to look for first.

The exact store (`stores.memory`) has its own score on purpose: it is what the others are tested against.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from stores.base import K1, B


def bm25(words: Sequence[str], weights: Mapping[str, float], average_length: float) -> float:
    """The score of a record with these words; `weights` has the idf of each term of the question."""
    damping = K1 * (1 - B + B * len(words) / max(average_length, 1e-9))
    counted = Counter(word for word in words if word in weights)
    return math.fsum(weights[word] * (K1 + 1) * n / (n + damping) for word, n in counted.items())


def scored_terms(terms: list[int], frequency: Mapping[int, int], most: int) -> list[int]:
    """The `most` rarest of `terms`, rarest first, and last those that no record held when counted.

    One of those may have been written since.
    """
    return sorted(terms, key=lambda term: (frequency[term] == 0, frequency[term]))[:most]


def rarest_terms(terms: list[int], frequency: Mapping[int, int], most_rows: int) -> list[int]:
    """The first of `terms` (as `scored_terms` orders them) that together occur in about `most_rows` records.

    At least one that occurs, and all that do not.
    """
    chosen: list[int] = []
    rows = 0
    for term in terms:
        if rows and rows + frequency[term] > most_rows and frequency[term]:
            continue
        chosen.append(term)
        rows += frequency[term]
    return chosen
