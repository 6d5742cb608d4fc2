"""Reranking by a model that reads question and passage together."""

from __future__ import annotations

from collections.abc import Sequence

from core.types import Passage, Query
from models.rerankers.base import RerankModel


class ModelReranker:
    """Scores the best `pool` passages of the search with a model; what the search ranked below them is left out.

    A failure is the model's error, which the answering pipeline reports as `degraded`.
    """

    def __init__(self, model: RerankModel, *, pool: int) -> None:
        self._model = model
        self._pool = pool

    async def rerank(self, query: Query, passages: Sequence[Passage], *, top_k: int) -> list[Passage]:
        candidates = passages[: max(self._pool, top_k)]
        scores = await self._model.scores(
            query.standalone, [passage.record.indexed_text for passage in candidates]
        )
        scored = [passage.with_score(score) for passage, score in zip(candidates, scores, strict=True)]
        return sorted(scored, key=lambda p: (-p.score, p.record.id))
