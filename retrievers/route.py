"""Which knowledge bases may answer a question? Those whose descriptions and summaries are nearest to it.

A wrong choice cannot be mended later in the request, so it is a generous one: every knowledge base that is about as
near as the best is searched, and the reranker decides between their passages. What is in another script than the
question is always less near (`core.scripts`), so it is compared with its like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.errors import NotFound, RagError
from core.text import is_cjk, question_terms, terms
from core.types import IndexKind, Vector
from models.embedders.base import Embedder
from retrievers.base import Scope

MOST_CHOSEN = 3
MARGIN = 0.04  # below the best, in `cosine + 0.1 * coverage`: about what a synonym costs
OTHER_SCRIPT = 0.12  # below the best: as near must be what is in the other script
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


@dataclass(frozen=True, slots=True)
class _Scored:
    """How near a knowledge base is; `foreign`: what is nearest in it is in the other script than the question."""

    scope: Scope
    score: float
    foreign: bool


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

        async def ask(scope: Scope) -> _Scored | None:
            async with gate:
                return await self._scored(question, vectors[scope.embedder.name], words, scope)

        answers = await asyncio.gather(*(ask(scope) for scope in scopes), return_exceptions=True)
        failed = []
        scored: list[_Scored] = []
        for scope, answer in zip(scopes, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, RagError) or len(scopes) == 1:
                    raise answer
                failed.append(f"knowledge base {scope.kb_name}: {answer.message}")
            elif answer is not None:
                scored.append(answer)
        scored.sort(key=lambda each: (-each.score, each.scope.kb_name))
        scores = {each.scope.kb_name: round(each.score, 3) for each in scored[:10]}
        return Routed(tuple(each.scope for each in _chosen(scored)), scores, failed)

    async def _scored(self, question: str, vector: Vector, words: set[str], scope: Scope) -> _Scored | None:
        """`cosine + 0.1 * coverage` of the nearest summary or the description; None if nothing was ever indexed."""
        index, store = scope.index(IndexKind.SUMMARIES), scope.store
        try:
            dense = await store.search_dense(index, vector, k=SUMMARIES)
            lexical = await store.search_text(index, sorted(words), k=SUMMARIES)
        except NotFound:
            return None
        if not dense:
            return None
        cosines = [(2 * hit.score - 1, hit.record.text) for hit in dense]
        if scope.description:
            described = await self._described(scope.description, scope.embedder)
            cosines.append((float(described @ vector), scope.description))
        texts = [scope.description, *(hit.record.indexed_text for hit in [*dense, *lexical])]
        covered = max(len(words.intersection(terms(text))) for text in texts) / max(len(words), 1)
        cosine, nearest = max(cosines)
        return _Scored(scope, cosine + COVERAGE_WEIGHT * covered, is_cjk(nearest) != is_cjk(question))

    async def _described(self, description: str, embedder: Embedder) -> Vector:
        key = embedder.name, description
        if key not in self._descriptions:
            if len(self._descriptions) >= REMEMBERED:
                self._descriptions.clear()
            self._descriptions[key] = (await embedder.embed_passages([description]))[0]
        return self._descriptions[key]


def _chosen(scored: Sequence[_Scored]) -> list[_Scored]:
    """About as near as the best in each script, best first; at most `MOST_CHOSEN`, of which one in the other script."""
    own = _best([each for each in scored if not each.foreign])
    other = _best([each for each in scored if each.foreign])
    if own and other and other[0].score < own[0].score - OTHER_SCRIPT:
        other = []
    kept = own[: MOST_CHOSEN - 1] + other[:1] if own and other else own or other
    return sorted(kept, key=lambda each: (-each.score, each.scope.kb_name))[:MOST_CHOSEN]


def _best(scored: Sequence[_Scored]) -> list[_Scored]:
    return [each for each in scored if each.score >= scored[0].score - MARGIN]
