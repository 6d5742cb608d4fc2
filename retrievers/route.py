"""Which knowledge bases may answer a question? Those whose descriptions and summaries are nearest to it.

A wrong choice cannot be mended later in the request, so it is a generous one: every knowledge base that is about as
near as the best is searched, and the reranker decides between their passages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.errors import NotFound, RagError
from core.text import question_terms, terms
from core.types import IndexKind, Vector
from models.embedders.base import Embedder
from retrievers.base import Scope

MOST_CHOSEN = 3
MARGIN = 0.04  # below the best, in `cosine + 0.1 * coverage`: about what a synonym costs
COVERAGE_WEIGHT = 0.1
SUMMARIES = 5  # of each knowledge base, looked at by vector and by words
AT_ONCE = 8  # knowledge bases asked at the same time
REMEMBERED = 1000  # vectors of descriptions


@dataclass(frozen=True, slots=True)
class Routed:
    """The chosen scopes, best first; `scores` for the trace; `failed`: what could not be asked, in words."""

    scopes: tuple[Scope, ...]
    scores: dict[str, float]
    failed: list[str] = field(default_factory=list)


class KbRouter:
    """Asks the summary index of every knowledge base, and compares."""

    def __init__(self) -> None:
        self._descriptions: dict[tuple[str, str], Vector] = {}

    async def route(self, question: str, scopes: Sequence[Scope]) -> Routed:
        """At most `MOST_CHOSEN` of the scopes; none where none holds anything.

        One whose store cannot be asked is left out and named; raises its error if none can be asked.
        """
        embedders = {scope.embedder.name: scope.embedder for scope in scopes}
        vectors = {name: (await each.embed_queries([question]))[0] for name, each in embedders.items()}
        words = set(question_terms(question))
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(scope: Scope) -> float | None:
            async with gate:
                return await self._score(vectors[scope.embedder.name], words, scope)

        answers = await asyncio.gather(*(ask(scope) for scope in scopes), return_exceptions=True)
        failed = []
        scored: list[tuple[float, Scope]] = []
        for scope, answer in zip(scopes, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, RagError) or len(scopes) == 1:
                    raise answer
                failed.append(f"knowledge base {scope.kb_name}: {answer.message}")
            elif answer is not None:
                scored.append((answer, scope))
        scored.sort(key=lambda pair: (-pair[0], pair[1].kb_name))
        chosen = tuple(s for score, s in scored[:MOST_CHOSEN] if score >= scored[0][0] - MARGIN)
        scores = {scope.kb_name: round(score, 3) for score, scope in scored[:10]}
        return Routed(chosen, scores, failed)

    async def _score(self, vector: Vector, words: set[str], scope: Scope) -> float | None:
        """`cosine + 0.1 * coverage` of the nearest summary or the description; None if nothing was ever indexed."""
        index, store = scope.index(IndexKind.SUMMARIES), scope.store
        try:
            dense = await store.search_dense(index, vector, k=SUMMARIES)
            lexical = await store.search_text(index, sorted(words), k=SUMMARIES)
        except NotFound:
            return None
        if not dense:
            return None
        cosines = [2 * hit.score - 1 for hit in dense]
        if scope.description:
            cosines.append(float(await self._described(scope.description, scope.embedder) @ vector))
        texts = [scope.description, *(hit.record.indexed_text for hit in [*dense, *lexical])]
        covered = max(len(words.intersection(terms(text))) for text in texts) / max(len(words), 1)
        return max(cosines) + COVERAGE_WEIGHT * covered

    async def _described(self, description: str, embedder: Embedder) -> Vector:
        key = embedder.name, description
        if key not in self._descriptions:
            if len(self._descriptions) >= REMEMBERED:
                self._descriptions.clear()
            self._descriptions[key] = (await embedder.embed_passages([description]))[0]
        return self._descriptions[key]
