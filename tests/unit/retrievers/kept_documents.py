"""Documents in memory, cut and indexed by the real pipeline: what tests of retrieval search in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.db.documents import Live, Named
from core.db.models import CJK_HEAD, HEAD
from core.text import language as language_of
from core.types import ParsedDocument, Passage
from ingest.chunkers.base import Chunking, to_records
from ingest.pipeline import IngestPipeline, Source, Target
from ingest.summarise import always_extractive
from models.embedders.base import Embedders
from models.embedders.bundled import BundledEmbedder
from rag_service.wiring import make_chunker
from retrievers.base import Scope
from retrievers.documents import Place
from retrievers.names import folded as fold
from stores.live import LiveStores
from stores.memory import MemoryStore


class KeptDocuments:
    """The `Documents` that a dict holds; every one is live in the revision `r`."""

    def __init__(self, documents: Mapping[str, ParsedDocument], revisions: Mapping[str, str] | None = None):
        self._documents = documents
        self._revisions = revisions or dict.fromkeys(documents, "r")

    async def live(self, scope: Scope, document_ids: Collection[str]) -> dict[str, Live]:
        return {i: Live(i, f"{i}.md", self._revisions[i]) for i in document_ids if i in self._documents}

    async def foreign(self, scope: Scope, language: str) -> tuple[str, ...]:
        searched = self._documents if scope.document_ids is None else scope.document_ids
        return tuple(i for i in searched if language_of(self._documents[i].text) != language)

    async def named(
        self, scope: Scope, folded: str, heads: Collection[str], files: Collection[str]
    ) -> list[Named]:
        searched = self._documents if scope.document_ids is None else scope.document_ids
        titles = {i: self._documents[i].title for i in searched}
        called = {i: _called(title or i) for i, title in titles.items()}
        found = [
            Named(i, name, titles[i], f"{i}.md")
            for i, name in called.items()
            if f"{i}.md" in files
            or (name[: HEAD if name[0].isascii() else CJK_HEAD] in heads and name in folded)
        ]
        return sorted(found, key=lambda document: (-len(document.known_as), document.known_as, document.id))

    async def texts(self, places: Sequence[Place]) -> list[str | None]:
        return [
            document.text[place.span.start : place.span.end]
            if (document := self._documents.get(place.document_id))
            else None
            for place in places
        ]

    async def layout(self, document_id: str, revision: str) -> ParsedDocument | None:
        document = self._documents.get(document_id)
        return replace(document, text="") if document else None


def _called(title: str) -> str:
    """Enough of what `core.db.models.KNOWN_AS` does for the titles of these tests."""
    return fold(title).partition(" (")[0].strip('《》!."').removeprefix("the ").removeprefix("1. ")


async def chunks_of(document: ParsedDocument, chunking: Chunking, document_id: str = "d") -> list[Passage]:
    """The document's chunks as passages, all with the same score."""
    pieces = await make_chunker(BundledEmbedder(), chunking).cut(document)
    records = to_records(pieces, document, document_id=document_id, revision="r", title="T")
    return [Passage(record, f"{document_id}.md", 1.0) for record in records]


async def indexed(
    documents: Mapping[str, ParsedDocument], chunking: Chunking, embedder: BundledEmbedder
) -> tuple[Scope, KeptDocuments]:
    """The documents in the two indexes of a memory store."""
    store = MemoryStore()
    target = Target("kb", 1, store.kind, embedder.name, chunking)

    async def parse(path: Path, name: str) -> ParsedDocument:
        return documents[name]

    async def report(stage: str, done: int, total: int) -> None:
        return

    pipeline = IngestPipeline(
        parse=parse,
        make_chunker=make_chunker,
        summariser_of=always_extractive,
        embedders=Embedders(embedder),
        stores=LiveStores.of(store),
    )
    for name in documents:
        await pipeline.run(Source(name, name, name, Path(name)), target, report)
    revisions = {name: pipeline.revision(target, name) for name in documents}
    return Scope("kb", 1, store, embedder), KeptDocuments(documents, revisions)
