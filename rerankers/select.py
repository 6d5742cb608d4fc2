"""Which of the ranked passages go on? Those that say something new, maybe those that are unlike each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.text import nfkc, terms
from core.types import Passage

SHINGLE = 5  # units: words, numbers, single Chinese characters
MOST_COMPARED = 100  # passages that are made diverse: the time grows with their square
_UNIT = re.compile(r"[-+−]?[$€£¥]?\d+(?:[.,:/-]\d+)*[%‰]?|[^\W\d_ᄀ-￿]+|[^\W_]")


@dataclass(frozen=True, slots=True)
class Selected:
    """The passages that go on, best first, and how many were left out as repetitions."""

    passages: tuple[Passage, ...]
    repeated: int = 0


def select(ranked: Sequence[Passage], *, most: int, distinct: bool, diversity: float) -> Selected:
    """At most `most` of the passages (best first). `diversity`: see `diverse`."""
    candidates = diverse(ranked[:MOST_COMPARED], diversity) if diversity > 0 else ranked
    if not distinct:
        return Selected(tuple(candidates[:most]))
    kept: list[Passage] = []
    known: set[tuple[str, ...]] = set()
    repeated = 0
    for passage in candidates:
        if len(kept) == most:
            break
        said = _shingles(passage.text)
        if _only_repeats(said, known):
            repeated += 1
            continue
        known.update(said)
        kept.append(passage)
    return Selected(tuple(kept), repeated)


def _only_repeats(said: Sequence[tuple[str, ...]], known: set[tuple[str, ...]]) -> bool:
    """Whether better passages say the same, word for word: a word more or less may turn it into its opposite."""
    return all(shingle in known for shingle in said)


def _shingles(text: str) -> list[tuple[str, ...]]:
    """All runs of `SHINGLE` units, in order, whatever the punctuation; of a shorter text all of it."""
    units = _UNIT.findall(nfkc(text).casefold())
    return [tuple(units[i : i + SHINGLE]) for i in range(max(1, len(units) - SHINGLE + 1))]


def diverse(ranked: Sequence[Passage], diversity: float) -> list[Passage]:
    """All passages by maximal marginal relevance (Carbonell and Goldstein 1998): the next one has the largest
    (1 - diversity) * relevance - diversity * similarity to the most similar one before it.

    Relevance is the score stretched to [0, 1], similarity the share of terms that both have of those that either has.
    """
    words = {passage.record.id: frozenset(terms(passage.record.text)) for passage in ranked}
    relevance = dict(zip((p.record.id for p in ranked), _stretched(ranked), strict=True))
    nearest = dict.fromkeys(words, 0.0)
    left, result = list(ranked), list[Passage]()
    while left:
        best = max(
            left, key=lambda p: (1 - diversity) * relevance[p.record.id] - diversity * nearest[p.record.id]
        )
        left.remove(best)
        result.append(best)
        for passage in left:
            alike = _jaccard(words[passage.record.id], words[best.record.id])
            nearest[passage.record.id] = max(nearest[passage.record.id], alike)
    return result


def _stretched(ranked: Sequence[Passage]) -> Iterator[float]:
    scores = [passage.score for passage in ranked]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return ((score - low) / (high - low) if high > low else 1.0 for score in scores)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0
