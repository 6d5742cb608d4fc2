"""The two-stage search: summaries choose documents, chunks inside them and chunks found directly are fused.

As a union it never loses what a flat search finds; the strict mode is for huge knowledge bases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nlargest

from core.db.documents import Live
from core.errors import NotFound
from core.scripts import NEAREST, foreign, other_script, shift
from core.text import is_cjk, language, question_terms, term_finder
from core.types import FIRST_CHUNK, LAST_CHUNK, Hit, IndexKind, Passage, Query, Record, Vector
from models.embedders.base import Embedder
from retrievers import fusion
from retrievers.base import Mode, Retrieved, Scope
from retrievers.documents import Documents
from stores.filters import And, Eq, Filter, Gte, In, Lte, Or

MOST_SECTIONS = 20  # chosen by a recursive search
ENOUGH = 0.25  # of the hits everywhere: where so many are inside the chosen documents, the best ones there are known


@dataclass(frozen=True, slots=True)
class _Section:
    """A stretch of a document's chunks whose summary was found."""

    document_id: str
    first: int
    last: int
    score: float

    def holds(self, chunk: Record) -> bool:
        return self.document_id == chunk.document_id and self.first <= chunk.position <= self.last

    @property
    def where(self) -> Filter:
        return And(
            (
                Eq("document_id", self.document_id),
                Gte("position", self.first),
                Lte("position", self.last),
            )
        )


@dataclass(frozen=True)
class _Chosen:
    """What the summary stage chose: documents with their scores in [0, 1], and (recursive) sections of them.

    `everything`: all documents that there are, whole.
    """

    documents: dict[str, float] = field(default_factory=dict)
    sections: tuple[_Section, ...] = ()
    everything: bool = False

    @cached_property
    def whole(self) -> dict[str, float]:
        """The chosen documents of which no section is chosen."""
        parted = {section.document_id for section in self.sections}
        return {i: score for i, score in self.documents.items() if i not in parted}

    @property
    def where(self) -> Filter:
        whole = In("document_id", tuple(self.whole))
        return Or((whole, *(section.where for section in self.sections))) if self.sections else whole

    def holds(self, chunk: Record) -> bool:
        return chunk.document_id in self.whole or any(section.holds(chunk) for section in self.sections)

    def score(self, chunk: Record) -> float:
        inside = [section.score for section in self.sections if section.holds(chunk)]
        return max(inside, default=self.whole.get(chunk.document_id, 0.0))


class TwoStageRetriever:
    """Searches the two indexes of a knowledge base by vector and by keyword, and fuses what it finds."""

    def __init__(self, *, documents: Documents, chosen: int) -> None:
        self._documents = documents
        self._most_chosen = chosen  # documents that the summary stage chooses

    async def retrieve(
        self, query: Query, scope: Scope, *, mode: Mode, pool: int, recursive: bool = False
    ) -> Retrieved:
        if scope.document_ids == ():
            return Retrieved((), {"candidates": 0})
        vectors = await _vectors(query, scope.embedder)
        found = await asyncio.gather(
            *(
                self._search(text, vector, scope, mode=mode, pool=pool, recursive=recursive)
                for text, vector in zip(query.searches, vectors, strict=True)
            )
        )
        best: dict[str, Passage] = {}
        for passage in (passage for passages in found for passage in passages):
            known = best.get(passage.record.id)
            if known is None or passage.score > known.score:
                best[passage.record.id] = passage
        ranked = sorted(best.values(), key=lambda p: (-p.score, p.record.id))
        return Retrieved(
            tuple(_best(ranked, pool)), {"candidates": len(best), "mode": mode.value, "recursive": recursive}
        )

    async def _search(
        self, text: str, vector: Vector, scope: Scope, *, mode: Mode, pool: int, recursive: bool
    ) -> list[Passage]:
        words = question_terms(text)
        try:
            chosen, dense, lexical, live = await self._look(text, words, vector, scope, mode, pool, recursive)
            stats = await scope.store.term_stats(scope.index(IndexKind.CHUNKS), words)
        except NotFound:  # nothing was ever indexed here
            return []
        records = {hit.record.id: hit.record for hit in [*dense, *lexical]}
        kept = [r for r in records.values() if _is_live(r, live)]
        if not kept:
            return []
        cosines = await self._dense_scores(kept, dense, vector, scope)
        keyword = {hit.record.id: hit.score for hit in lexical}
        idf = fusion.inverse_document_frequency(stats, words)
        terms_in = term_finder(idf)
        covered = [fusion.coverage(idf, terms_in(record.indexed_text)) for record in kept]
        cjk = is_cjk(text)
        found = [
            Passage(
                record,
                live[record.document_id].name,
                0.0,
                cosines[record.id],
                cover,
                chosen.score(record),
                kb=scope.kb_name,
                foreign=other_script(record.text, cjk=cjk),
            )
            for record, cover in zip(kept, covered, strict=True)
        ]
        lacking = shift(found)
        scores = fusion.convex(
            [passage.dense + lacking * passage.foreign for passage in found],
            [keyword.get(passage.record.id, 0.0) for passage in found],
            [passage.summary for passage in found],
            best_coverage=max(covered),
        )
        return [passage.with_score(score) for passage, score in zip(found, scores, strict=True)]

    async def _look(
        self,
        text: str,
        words: Sequence[str],
        vector: Vector,
        scope: Scope,
        mode: Mode,
        pool: int,
        recursive: bool,
    ) -> tuple[_Chosen, list[Hit], list[Hit], dict[str, Live]]:
        """What is found by vector and by keyword, and the documents that readers may see of it.

        A version that became visible while the searches ran may have been written after some of them: its document
        would be seen in part. So where another version of a document than the visible one is found, a second look
        is taken, which began when that one was whole.
        """
        seen: dict[str, str] = {}
        while True:
            chosen = _Chosen() if mode == Mode.FLAT else await self._choose(words, vector, scope, recursive)
            dense, lexical = await self._find_chunks(words, vector, scope, mode, pool, chosen)
            if mode != Mode.STRICT:
                dense += await self._find_foreign(text, vector, scope, dense)
            records = [hit.record for hit in [*dense, *lexical]]
            live = await self._documents.live(scope, {record.document_id for record in records})
            doubtful = {
                r.document_id: live[r.document_id].revision
                for r in records
                if r.document_id in live and not _is_live(r, live)
            }
            if doubtful.items() <= seen.items():
                return chosen, dense, lexical, live
            seen |= doubtful

    async def _choose(self, words: Sequence[str], vector: Vector, scope: Scope, recursive: bool) -> _Chosen:
        """The documents (and sections of them) whose summaries fit best, with scores in [0, 1] (1: the best)."""
        index, where = scope.index(IndexKind.SUMMARIES), within(scope.document_ids)
        k = 3 * self._most_chosen  # a long document has several summaries
        dense, lexical = await asyncio.gather(
            scope.store.search_dense(index, vector, k=k, where=where),
            scope.store.search_text(index, words, k=k, where=where),
        )
        keyword = dict(
            zip([h.record.id for h in lexical], fusion.by_maximum([h.score for h in lexical]), strict=True)
        )
        closeness = fusion.min_max([hit.score for hit in dense])
        near = {hit.record.id: close for hit, close in zip(dense, closeness, strict=True)}
        summaries = {hit.record.id: hit.record for hit in [*dense, *lexical]}
        scores = {i: 0.7 * near.get(i, 0.0) + 0.3 * keyword.get(i, 0.0) for i in summaries}
        best: dict[str, float] = {}
        for record in summaries.values():
            best[record.document_id] = max(best.get(record.document_id, 0.0), scores[record.id])
        ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
        documents = dict(ranked[: self._most_chosen])
        if recursive:
            return _Chosen(documents, _sections(summaries.values(), scores, documents))
        return _Chosen(documents, everything=len(dense) < k and len(documents) == len(best))

    async def _find_chunks(
        self,
        words: Sequence[str],
        vector: Vector,
        scope: Scope,
        mode: Mode,
        pool: int,
        chosen: _Chosen,
    ) -> tuple[list[Hit], list[Hit]]:
        """Chunks by vector and by keyword: inside the chosen documents, and (unless strict) everywhere.

        In a small knowledge base that is the same, and one search does.
        """
        index, store = scope.index(IndexKind.CHUNKS), scope.store

        async def by_vector(k: int, where: Filter | None) -> list[Hit]:
            return await store.search_dense(index, vector, k=k, where=where)

        async def by_keyword(k: int, where: Filter | None) -> list[Hit]:
            return await store.search_text(index, words, k=k, where=where)

        everywhere = within(scope.document_ids)

        async def find(search: Callable[[int, Filter | None], Awaitable[list[Hit]]]) -> list[Hit]:
            if mode == Mode.FLAT or (mode == Mode.UNION and chosen.everything):
                return await search(pool, everywhere)
            inside = And((chosen.where, everywhere)) if everywhere else chosen.where
            if mode == Mode.STRICT:
                return await search(pool, inside)
            return await _in_both(search, everywhere, inside, chosen, pool)

        dense, lexical = await asyncio.gather(find(by_vector), find(by_keyword))
        return dense, lexical

    async def _find_foreign(self, text: str, vector: Vector, scope: Scope, dense: Iterable[Hit]) -> list[Hit]:
        """The nearest chunks of documents in another language, where those in the question's crowd them out."""
        cjk = is_cjk(text)
        if len({h.record.id for h in dense if other_script(h.record.text, cjk=cjk)}) >= NEAREST:
            return []
        ids = await self._documents.foreign(scope, language(text))
        if not ids:
            return []
        where = In("document_id", ids)
        return await scope.store.search_dense(scope.index(IndexKind.CHUNKS), vector, k=NEAREST, where=where)

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


async def _in_both(
    search: Callable[[int, Filter | None], Awaitable[list[Hit]]],
    everywhere: Filter | None,
    inside: Filter,
    chosen: _Chosen,
    pool: int,
) -> list[Hit]:
    """The best `pool` hits everywhere and, unless enough of them are inside what was chosen, the best there.

    A search among few is dear, and what it would add ranks too low to be read (docs/benchmarks.md).
    """
    found = await search(pool, everywhere)
    if sum(chosen.holds(hit.record) for hit in found) >= ENOUGH * pool:
        return found
    return [*found, *await search(pool, inside)]


async def _vectors(query: Query, embedder: Embedder) -> Sequence[Vector]:
    """One for each search; with an imagined passage, between the question and it (the mean, as HyDE has it)."""
    vectors = list(await embedder.embed_queries(query.searches))
    if query.imagined:
        between = vectors[0] + (await embedder.embed_passages([query.imagined]))[0]
        vectors[0] = between / float((between @ between) ** 0.5)
    return vectors


def _sections(
    summaries: Iterable[Record], scores: Mapping[str, float], documents: Collection[str]
) -> tuple[_Section, ...]:
    """The best sections of the chosen documents."""
    found = []
    for record in summaries:
        first, last = record.metadata.get(FIRST_CHUNK), record.metadata.get(LAST_CHUNK)
        if record.document_id in documents and isinstance(first, int) and isinstance(last, int):
            found.append(_Section(record.document_id, first, last, scores[record.id]))
    found.sort(key=lambda section: (-section.score, section.document_id, section.first))
    return tuple(found[:MOST_SECTIONS])


def _best(ranked: Sequence[Passage], pool: int) -> list[Passage]:
    """The best of the passages (best first), and the nearest in another script, which no words speak for."""
    others = {p.record.id for p in nlargest(min(NEAREST, pool // 2), foreign(ranked), key=lambda p: p.dense)}
    rest = [passage.record.id for passage in ranked if passage.record.id not in others]
    kept = others.union(rest[: pool - len(others)])
    return [passage for passage in ranked if passage.record.id in kept]


def within(document_ids: tuple[str, ...] | None) -> Filter | None:
    """The filter that keeps a search inside these documents; None for all."""
    return None if document_ids is None else In("document_id", document_ids)


def _is_live(record: Record, live: dict[str, Live]) -> bool:
    """Whether readers may see the record: its document is there, in this revision."""
    document = live.get(record.document_id)
    return document is not None and document.revision == record.revision
