"""What is measured? Our service's own objects, and the recipe of the textbooks to compare them with."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import migrations
from benchmarks.dataset import CorpusDocument
from benchmarks.metrics import Found
from core.db.models import Document, DocumentStatus, KnowledgeBase
from core.db.session import Database
from core.settings import Settings
from core.types import IndexKind, ParsedDocument, Passage
from ingest.chunkers.recursive import RecursiveChunker
from ingest.pipeline import IngestPipeline, Source, Target
from ingest.summarise import ExtractiveSummariser
from models.embedders.base import Embedder
from rag_service.local.postgres import EmbeddedPostgres
from rag_service.new_kb import default_chunking
from rag_service.wiring import make_chunker
from rerankers.rerank import CoverageReranker
from retrievers.base import Mode, Scope
from retrievers.documents import StoredDocuments
from retrievers.rewrite import FollowUpRules
from retrievers.two_stage import TwoStageRetriever
from stores.live import LiveStores
from stores.pgvector import PgVectorStore

KB = "bench"
SEPARATOR = "/"  # between the names of a knowledge base and a document: ids are unique in the database
PROGRESS_EVERY = 50  # documents


class Recipe(Protocol):
    """A way to cut, index and search documents."""

    @property
    def name(self) -> str: ...

    @property
    def peer(self) -> bool:
        """Whether this is not ours but what we compare ourselves with."""
        ...

    async def search(self, question: str) -> Sequence[Found]:
        """Passages, best first; more than ten only where ten are short."""
        ...


class SeedFlat:
    """500 characters a chunk, no header, the nearest by vector, exact: the flat recipe."""

    name = "seed-flat"
    peer = True
    top_k = 20  # ten of 500 Latin characters would not fill 1,200 tokens

    def __init__(self, embedder: Embedder, documents: Sequence[CorpusDocument]) -> None:
        self._embedder = embedder
        self._documents = documents
        self._chunks: list[Found] = []
        self._vectors: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    async def index(self) -> int:
        """Returns the number of chunks."""
        chunker = RecursiveChunker(characters=500, overlap=0)
        vectors = []
        for document in with_progress(self._documents, self.name):
            spans = [piece.span for piece in await chunker.cut(ParsedDocument(document.text))]
            texts = [document.text[span.start : span.end] for span in spans]
            self._chunks += [Found(document.id, text) for text in texts]
            vectors.append(await self._embedder.embed_passages(texts))
        self._vectors = np.concatenate(vectors)
        return len(self._chunks)

    async def search(self, question: str) -> Sequence[Found]:
        query = (await self._embedder.embed_queries([question]))[0]
        best = np.argsort(-(self._vectors @ query), kind="stable")[: self.top_k]
        return [self._chunks[number] for number in best]


class Service:
    """Knowledge bases made and searched by the objects that the service is made of, with its defaults.

    Only the parsers are left out: the data sets hold plain text. Open it with `open_service`.
    """

    def __init__(
        self, embedder: Embedder, database: Database, store: PgVectorStore, settings: Settings
    ) -> None:
        self._embedder = embedder
        self._database = database
        self._store = store
        self._settings = settings
        self._retriever = TwoStageRetriever(
            embedder=embedder, documents=StoredDocuments(database), chosen=settings.retrieval.documents
        )

    @property
    def default_mode(self) -> Mode:
        return Mode(self._settings.retrieval.mode)

    async def index(self, documents: Sequence[CorpusDocument], *, kb: str = KB) -> int:
        """Make the knowledge base `kb`; returns the number of its chunks."""
        target = Target(kb, 1, "pgvector", self._embedder.name, default_chunking(self._settings))
        by_name = {f"{document.id}.txt": document for document in documents}

        async def parse(path: Path, name: str) -> ParsedDocument:
            document = by_name[name]
            return ParsedDocument(document.text, title=document.title or None)

        pipeline = IngestPipeline(
            parse=parse,
            make_chunker=partial(make_chunker, self._embedder),
            summariser=ExtractiveSummariser(),
            embedder=self._embedder,
            stores=LiveStores.of(self._store),
        )
        rows = []
        for document in with_progress(documents, "ours"):
            sha256 = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{document.id}.txt"
            source = Source(f"{kb}{SEPARATOR}{document.id}", name, sha256, Path(document.id))
            await pipeline.run(source, target, _no_report)
            rows.append(_row(kb, source, len(document.text), pipeline.revision(target, sha256)))
        async with self._database.transaction() as session:
            session.add(_kb(kb, self._embedder.name, await self._embedder.dimension()))
            await session.flush()
            session.add_all(rows)
        return await self._store.count(target.index(IndexKind.CHUNKS))

    async def search(
        self, question: str, *, top_k: int, mode: Mode | None = None, kb: str = KB
    ) -> list[Passage]:
        """What the API's search does with a question that comes without history."""
        query = await FollowUpRules().rewrite(question, ())
        scope = Scope(kb, 1, self._store)
        pool = self._settings.retrieval.pool
        retrieved = await self._retriever.retrieve(query, scope, mode=mode or self.default_mode, pool=pool)
        return await CoverageReranker().rerank(query, retrieved.passages, top_k=top_k)


class Ours:
    """The service in one of its modes; the default one is called `ours`."""

    peer = False

    def __init__(self, service: Service, mode: Mode) -> None:
        self._service = service
        self._mode = mode
        self.name = "ours" if mode == service.default_mode else f"ours-{mode.value}"

    async def search(self, question: str) -> Sequence[Found]:
        passages = await self._service.search(question, mode=self._mode, top_k=10)
        return [
            Found(passage.record.document_id.partition(SEPARATOR)[2], passage.record.text)
            for passage in passages
        ]


@asynccontextmanager
async def open_service(embedder: Embedder, settings: Settings | None = None) -> AsyncIterator[Service]:
    """A `Service` on an embedded PostgreSQL of its own, which is removed at the end."""
    settings = settings or Settings()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_short_folder())
        server = stack.enter_context(EmbeddedPostgres(folder))
        migrations.upgrade(server.url)
        database = Database(server.url, pool_size=settings.database.pool_size)
        stack.push_async_callback(database.close)
        store = PgVectorStore(server.url, settings.database.pool_size)
        await store.open()
        stack.push_async_callback(store.close)
        yield Service(embedder, database, store, settings)


def with_progress(documents: Sequence[CorpusDocument], name: str) -> Iterator[CorpusDocument]:
    """The documents, with a line on stderr now and then."""
    for number, document in enumerate(documents):
        if number % PROGRESS_EVERY == 0:
            print(f"{name}: {number} of {len(documents)} documents indexed", file=sys.stderr, flush=True)
        yield document


@contextmanager
def _short_folder() -> Iterator[Path]:
    # Where PostgreSQL's own user can enter (when run as root) and a socket's path stays short enough.
    folder = Path(tempfile.mkdtemp(prefix="rag-bench-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _no_report(stage: str, done: int, total: int) -> None:
    return


def _kb(kb: str, embedder: str, dim: int) -> KnowledgeBase:
    return KnowledgeBase(
        id=kb,
        name=kb,
        description="",
        store="pgvector",
        embedder=embedder,
        dim=dim,
        settings={},
    )


def _row(kb: str, source: Source, size: int, revision: str) -> Document:
    return Document(
        id=source.document_id,
        kb_id=kb,
        name=source.name,
        status=DocumentStatus.READY,
        sha256=source.sha256,
        size=size,
        live_sha256=source.sha256,
        live_revision=revision,
        attributes={},
    )
