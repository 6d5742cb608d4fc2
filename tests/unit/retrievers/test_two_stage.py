"""The two-stage search over a memory store, with the real embedder: modes, and recursion into sections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from kept_documents import KeptDocuments, indexed

from core.text import question_terms
from core.types import (
    EmbeddedRecord,
    Hit,
    IndexKind,
    IndexName,
    ParsedDocument,
    Passage,
    Query,
    Section,
    Span,
)
from ingest.chunkers.base import Chunking
from models.embedders.bundled import BundledEmbedder
from retrievers.base import Mode, Scope
from retrievers.two_stage import TwoStageRetriever
from stores.filters import Eq, Filter
from stores.memory import MemoryStore

SUBJECTS = {
    "leave": "Employees take annual leave of ten days, and sick leave with a doctor's note.",
    "travel": "Business trips are booked by the travel desk, and flights go in economy class.",
    "safety": "In case of fire leave the building by the stairs and meet at the car park.",
}


def manual() -> ParsedDocument:
    """Three sections of five chunks each: a long document, whose sections have summaries."""
    text, sections = "", []
    for name, sentence in SUBJECTS.items():
        body = "".join(f"{sentence} Rule {n} on {name}.\n\n" for n in range(5))
        sections.append(Section((name,), Span(len(text), len(text) + len(body))))
        text += body
    return ParsedDocument(text, title="Manual", sections=tuple(sections))


@pytest.fixture(scope="module")
def found_in() -> Iterator[tuple[Scope, KeptDocuments, BundledEmbedder]]:
    embedder = BundledEmbedder()
    documents = {"manual": manual(), "menu": ParsedDocument("The canteen offers soup on Mondays.")}
    scope, kept = asyncio.run(indexed(documents, Chunking(characters=50), embedder))
    yield scope, kept, embedder
    asyncio.run(embedder.close())


async def retrieve(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder], question: str, mode: Mode, *, recursive: bool
) -> list[Passage]:
    scope, kept, _ = found_in
    retriever = TwoStageRetriever(documents=kept, chosen=1)
    query = Query(question, (question,))
    return list((await retriever.retrieve(query, scope, mode=mode, pool=40, recursive=recursive)).passages)


FIRE = "Where do I go in case of fire?"


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("recursive", [False, True])
async def test_every_mode_finds_the_section_that_answers(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder], mode: Mode, recursive: bool
) -> None:
    found = await retrieve(found_in, FIRE, mode, recursive=recursive)
    assert found[0].record.section == "safety"


async def test_a_strict_search_stays_in_the_chosen_document_a_union_does_not(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder],
) -> None:
    strict = await retrieve(found_in, FIRE, Mode.STRICT, recursive=False)
    union = await retrieve(found_in, FIRE, Mode.UNION, recursive=False)
    assert {p.record.document_id for p in strict} == {"manual"}
    assert {p.record.document_id for p in union} == {"manual", "menu"}


async def test_recursion_scores_chunks_by_their_section_s_summary(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder],
) -> None:
    flat = await retrieve(found_in, FIRE, Mode.UNION, recursive=False)
    assert len({p.summary for p in flat if p.record.document_id == "manual"}) == 1
    recursive = await retrieve(found_in, FIRE, Mode.UNION, recursive=True)
    best = {p.record.section: p.summary for p in recursive}
    assert best["safety"] > max(best["leave"], best["travel"])


async def test_a_strict_recursive_search_leaves_out_other_sections(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder],
) -> None:
    found = await retrieve(found_in, FIRE, Mode.STRICT, recursive=True)
    assert {p.record.section for p in found} < set(SUBJECTS)


class Counting(MemoryStore):
    """Remembers in which of the chunks was searched."""

    def __init__(self) -> None:
        super().__init__()
        self.filters: list[Filter | None] = []

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        if index.kind == IndexKind.CHUNKS:
            self.filters.append(where)
        return await super().search_text(index, terms, k=k, where=where)


async def counting(scope: Scope, embedder: BundledEmbedder) -> tuple[Scope, Counting]:
    """The same indexes in a store that counts; every chunk holds the word "fire", one more of it than the last."""
    store = Counting()
    for kind in (IndexKind.CHUNKS, IndexKind.SUMMARIES):
        await store.ensure_index(scope.index(kind), dim=await embedder.dimension())
        found = await scope.store.scan(scope.index(kind))
        records = [EmbeddedRecord(r, vector, ("fire",) * (n + 1)) for n, (r, vector) in enumerate(found)]
        await store.upsert(scope.index(kind), records)
    return Scope(scope.kb_id, scope.generation, store, embedder), store


async def test_where_all_documents_are_chosen_one_search_does(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder],
) -> None:
    scope, store = await counting(found_in[0], found_in[2])
    retriever = TwoStageRetriever(documents=found_in[1], chosen=2)
    found = await retriever.retrieve(Query(FIRE, (FIRE,)), scope, mode=Mode.UNION, pool=40)
    assert store.filters == [None]
    assert {p.record.document_id for p in found.passages} == {"manual", "menu"}


async def test_the_chosen_document_is_searched_apart_only_where_others_crowd_it_out(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder],
) -> None:
    scope, store = await counting(found_in[0], found_in[2])
    retriever = TwoStageRetriever(documents=found_in[1], chosen=1)
    index, searches = scope.index(IndexKind.CHUNKS), set()
    for question, inside in (
        (FIRE, "manual"),
        ("Does the canteen offer soup on Mondays while there is a fire?", "menu"),
    ):
        [vector] = await scope.embedder.embed_queries([question])
        for pool in (1, 2, 3, 5, 8, 20):
            found = await retriever.retrieve(Query(question, (question,)), scope, mode=Mode.UNION, pool=pool)
            searches.add(len(store.filters))
            expected = set()
            for search, asked in (store.search_dense, vector), (store.search_text, question_terms(question)):
                hits = await search(index, asked, k=pool, where=None)
                if sum(hit.record.document_id == inside for hit in hits) < pool / 4:
                    hits += await search(index, asked, k=pool, where=Eq("document_id", inside))
                expected |= {hit.record.id for hit in hits}
            assert found.notes["candidates"] == len(expected)
            store.filters.clear()
    assert searches == {1, 2}


class Replacing(MemoryStore):
    """Between the searches by vector and those by keyword of the first question, a new version becomes visible."""

    def __init__(self, revisions: dict[str, str]) -> None:
        super().__init__()
        self.revisions = revisions

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        if index.kind == IndexKind.CHUNKS and self.revisions["manual"] == "old":
            written = [
                EmbeddedRecord(replace(record, id=f"new {record.id}", revision="new"), vector, ("nothing",))
                for record, vector in await self.scan(index)
            ]
            await self.upsert(index, written)
            self.revisions["manual"] = "new"
        return await super().search_text(index, terms, k=k, where=where)


@pytest.mark.parametrize("mode", Mode)
async def test_a_version_that_becomes_visible_while_a_search_runs_is_found_whole(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder], mode: Mode
) -> None:
    scope, _, embedder = found_in
    revisions = {"manual": "old"}
    store = Replacing(revisions)
    for kind in (IndexKind.CHUNKS, IndexKind.SUMMARIES):
        await store.ensure_index(scope.index(kind), dim=await embedder.dimension())
        records = [
            EmbeddedRecord(replace(record, revision="old"), vector, ("fire",))
            for record, vector in await scope.store.scan(scope.index(kind))
            if record.document_id == "manual"
        ]
        await store.upsert(scope.index(kind), records)
    place = (
        Scope(scope.kb_id, scope.generation, store, embedder),
        KeptDocuments({"manual": manual()}, revisions),
        embedder,
    )
    found = await retrieve(place, FIRE, mode, recursive=False)
    assert {p.record.revision for p in found} == {"new"}
    assert len(found) == await store.count(scope.index(IndexKind.CHUNKS)) / 2


async def test_the_nearest_in_the_other_script_are_among_the_candidates_however_small_the_pool(
    found_in: tuple[Scope, KeptDocuments, BundledEmbedder],
) -> None:
    _, _, embedder = found_in
    chinese = {f"制度{n}": ParsedDocument(f"考勤制度第{n}条：员工每天九点上班。") for n in range(12)}
    documents = {
        **chinese,
        "fire": ParsedDocument(SUBJECTS["safety"]),
        "table": ParsedDocument("14.5 | 31 | 2022"),
    }
    scope, kept = await indexed(documents, Chunking(characters=50), embedder)
    question = "着火时在哪里集合？"
    retriever = TwoStageRetriever(documents=kept, chosen=3)
    found = await retriever.retrieve(Query(question, (question,)), scope, mode=Mode.UNION, pool=4)
    assert len(found.passages) == 4
    assert [p.record.document_id for p in found.passages if p.foreign] == ["fire"]  # numbers are in no script
