"""Rerankers that need no model: keep the order of the search, or score by cosine and coverage."""

from __future__ import annotations

from collections.abc import Sequence

from core.types import Passage, Query

# Five standard deviations of the cosines in a corpus under the bundled embedder. On CMRC and SQuAD questions
# cosine + 0.1 * coverage ranked better than dense alone and than reciprocal rank fusion (docs/benchmarks.md).
COVERAGE_WEIGHT = 0.1


class KeepOrder:
    """Takes the best of the search as they are."""

    async def rerank(self, query: Query, passages: Sequence[Passage], *, top_k: int) -> list[Passage]:
        return list(passages)


class CoverageReranker:
    """Scores a passage by its cosine plus the weighted share of the question's words in it.

    Where its sentences were compared one by one, the cosine is a third of its own and two of its best sentence's; in
    another script than the question it is moved up (`core.scripts`). For passages in the question's script the score
    does not depend on what else was found, unlike the search's own.
    """

    def __init__(self, coverage_weight: float = COVERAGE_WEIGHT) -> None:
        self._weight = coverage_weight

    async def rerank(self, query: Query, passages: Sequence[Passage], *, top_k: int) -> list[Passage]:
        scored = [p.with_score(_cosine(p) + self._weight * p.coverage) for p in passages]
        return sorted(scored, key=lambda p: (-p.score, p.record.id))


def _cosine(passage: Passage) -> float:
    own = 2 * passage.dense - 1
    if passage.near:
        own = (own + 2 * max(near.closeness for near in passage.near)) / 3
    return own + 2 * passage.shift
