"""What stores that rank for themselves share of BM25: the score of one record, and which terms to look for first.

The exact store (`stores.memory`) has its own score on purpose: it is what the others are tested against.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from stores.base import K1, B


def bm25(counts: Iterable[tuple[float, int]], length: int, average_length: float) -> float:
    """The score of a record of `length` terms.

    `counts` has for each term of the question its idf, and how often the record holds it.
    """
    damping = K1 * (1 - B + B * length / max(average_length, 1e-9))
    return math.fsum(weight * (K1 + 1) * n / (n + damping) for weight, n in counts if n)


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
