"""The two-stage search: summaries choose documents, chunks inside them and chunks found directly are fused.

As a union it never loses what a flat search finds; the strict mode is for huge knowledge bases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from core.db import documents
from core.db.documents import Live
from core.db.session import Database
from core.errors import NotFound
from core.text import question_terms, terms
from core.types import Hit, IndexKind, Passage, Query, Record, Vector
from models.embedders.base import Embedder
from retrievers import fusion
from retrievers.base import Mode, Retrieved, Scope
from stores.filters import And, Filter, In


class TwoStageRetriever:
    """Searches the two indexes of a knowledge base by vector and by keyword, and fuses what it finds."""

    def __init__(self, *, embedder: Embedder, database: Database, documents: int) -> None:
        self._embedder = embedder
        self._database = database
        self._documents = documents  # how many the summary stage chooses

    async def retrieve(self, query: Query, scope: Scope, *, mode: Mode, pool: int) -> Retrieved:
        if scope.document_ids == ():
            return Retrieved((), {"candidates": 0})
        vectors = await self._embedder.embed_queries(query.searches)
        found = await asyncio.gather(
            *(
                self._search(text, vector, scope, mode=mode, pool=pool)
                for text, vector in zip(query.searches, vectors, strict=True)
            )
        )
        best: dict[str, Passage] = {}
        for passage in (passage for passages in found for passage in passages):
            known = best.get(passage.record.id)
            if known is None or passage.score > known.score:
                best[passage.record.id] = passage
        ranked = sorted(best.values(), key=lambda p: (-p.score, p.record.id))[:pool]
        return Retrieved(tuple(ranked), {"candidates": len(best), "mode": mode.value})

    async def _search(
        self, text: str, vector: Vector, scope: Scope, *, mode: Mode, pool: int
    ) -> list[Passage]:
        words = question_terms(text)
        try:
            chosen = {} if mode == Mode.FLAT else await self._choose_documents(words, vector, scope)
            dense, lexical = await self._find_chunks(words, vector, scope, mode, pool, list(chosen))
            stats = await scope.store.term_stats(scope.index(IndexKind.CHUNKS), words)
        except NotFound:  # nothing was ever indexed here
            return []
        records = {hit.record.id: hit.record for hit in [*dense, *lexical]}
        live = await self._live(records.values())
        kept = [r for r in records.values() if _is_live(r, live)]
        if not kept:
            return []
        cosines = await self._dense_scores(kept, dense, vector, scope)
        keyword = {hit.record.id: hit.score for hit in lexical}
        idf = fusion.inverse_document_frequency(stats, words)
        covered = [fusion.coverage(idf, set(terms(record.indexed_text))) for record in kept]
        summary = [chosen.get(record.document_id, 0.0) for record in kept]
        scores = fusion.convex(
            [cosines[r.id] for r in kept],
            [keyword.get(r.id, 0.0) for r in kept],
            summary,
            best_coverage=max(covered),
        )
        return [
            Passage(record, live[record.document_id].name, score, cosines[record.id], cover, part)
            for record, score, cover, part in zip(kept, scores, covered, summary, strict=True)
        ]

    async def _choose_documents(self, words: Sequence[str], vector: Vector, scope: Scope) -> dict[str, float]:
        """The documents whose summaries fit best, with a score in [0, 1] (1: the best)."""
        index, where = scope.index(IndexKind.SUMMARIES), _within(scope.document_ids)
        k = 3 * self._documents  # a long document has several summaries
        dense, lexical = await asyncio.gather(
            scope.store.search_dense(index, vector, k=k, where=where),
            scope.store.search_text(index, words, k=k, where=where),
        )
        keyword = dict(
            zip([h.record.id for h in lexical], fusion.by_maximum([h.score for h in lexical]), strict=True)
        )
        closeness = fusion.min_max([hit.score for hit in dense])
        best: dict[str, float] = {}
        for hit, close in zip(dense, closeness, strict=True):
            score = 0.7 * close + 0.3 * keyword.pop(hit.record.id, 0.0)
            best[hit.record.document_id] = max(best.get(hit.record.document_id, 0.0), score)
        for hit in lexical:
            if hit.record.id in keyword:
                score = 0.3 * keyword[hit.record.id]
                best[hit.record.document_id] = max(best.get(hit.record.document_id, 0.0), score)
        ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
        return dict(ranked[: self._documents])

    async def _find_chunks(
        self,
        words: Sequence[str],
        vector: Vector,
        scope: Scope,
        mode: Mode,
        pool: int,
        chosen: Sequence[str],
    ) -> tuple[list[Hit], list[Hit]]:
        """Chunks by vector and by keyword: inside the chosen documents, and (unless strict) everywhere."""
        index, store = scope.index(IndexKind.CHUNKS), scope.store
        everywhere, inside = _within(scope.document_ids), _within(tuple(chosen))
        searches: list[Filter | None] = []
        if mode != Mode.STRICT:
            searches.append(everywhere)
        if mode != Mode.FLAT:
            searches.append(And((inside, everywhere)) if everywhere and inside else inside)
        dense = await asyncio.gather(
            *(store.search_dense(index, vector, k=pool, where=where) for where in searches)
        )
        lexical = await asyncio.gather(
            *(store.search_text(index, words, k=pool, where=where) for where in searches)
        )
        return [h for hits in dense for h in hits], [h for hits in lexical for h in hits]

    async def _dense_scores(
        self, records: Sequence[Record], dense: Iterable[Hit], vector: Vector, scope: Scope
    ) -> dict[str, float]:
        """The dense score of every record; those found by keyword only are looked up."""
        scores = {hit.record.id: hit.score for hit in dense}
        missing = tuple(record.id for record in records if record.id not in scores)
        if missing:
            hits = await scope.store.search_dense(
                scope.index(IndexKind.CHUNKS), vector, k=len(missing), where=In("id", missing)
            )
            scores |= {hit.record.id: hit.score for hit in hits}
        return {record.id: scores.get(record.id, 0.0) for record in records}

    async def _live(self, records: Iterable[Record]) -> dict[str, Live]:
        async with self._database.transaction() as session:
            return await documents.live(session, {record.document_id for record in records})


def _within(document_ids: tuple[str, ...] | None) -> Filter | None:
    return None if document_ids is None else In("document_id", document_ids)


def _is_live(record: Record, live: dict[str, Live]) -> bool:
    """Whether readers may see the record: its document is there, in this revision."""
    document = live.get(record.document_id)
    return document is not None and document.revision == record.revision
