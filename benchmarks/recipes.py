"""What is measured? Our service's own objects, and the recipe of the textbooks to compare them with.

The recipes of other libraries are in `benchmarks/peers.py`.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import migrations
from benchmarks.cache import CachedEmbedder
from benchmarks.dataset import CorpusDocument
from benchmarks.metrics import Found
from core.db import documents as stored
from core.db.models import Document, DocumentStatus, KnowledgeBase
from core.db.session import Database
from core.settings import Settings
from core.text import language, weight
from core.types import IndexKind, ParsedDocument, Passage, Query
from ingest.chunkers.recursive import RecursiveChunker
from ingest.pipeline import IngestPipeline, Source, Target
from ingest.summarise import always_extractive
from models.embedders.base import Embedder, Embedders
from rag_service.answering.trace import Trace
from rag_service.local.postgres import EmbeddedPostgres
from rag_service.new_kb import default_chunking
from rag_service.wiring import make_chunker
from rerankers.base import Reranker
from rerankers.compress import SentenceCompressor
from rerankers.order import BestAtBothEnds
from rerankers.rerank import CoverageReranker, KeepOrder
from rerankers.select import select
from rerankers.sentences import SentenceMatcher, shifted
from retrievers.base import Mode, Scope
from retrievers.documents import StoredDocuments
from retrievers.expand import Expander
from retrievers.links import LinkFollower
from retrievers.overview import OverviewRetriever
from retrievers.rewrite import FollowUpRules
from retrievers.structure import Structure
from retrievers.two_stage import TwoStageRetriever
from retrievers.whole_document import whole_document_question
from stores.live import LiveStores
from stores.pgvector import PgVectorStore

KB = "bench"
SEPARATOR = "/"  # between the names of a knowledge base and a document: ids are unique in the database
PROGRESS_EVERY = 50  # documents
SENT = 5  # passages that a peer sends to the model
RANKED = 20  # passages of a ranking of ours; ten short ones would not fill 1,200 tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a recipe makes of one question.

    `ranking`: passages, best first, at least ten where there are as many. `sent`: what goes into the prompt, best
    first. `half`: the same cut to half its weight, and `read`: in the order in which a model reads it, where the
    recipe has such stages. `stages`: milliseconds of each.
    """

    ranking: Sequence[Found]
    sent: Sequence[Found]
    half: Sequence[Found] | None = None
    read: Sequence[Found] | None = None
    stages: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_ranking(cls, ranking: Sequence[Found]) -> Outcome:
        """Of a recipe that sends its five best passages."""
        return cls(ranking, ranking[:SENT])


class Recipe(Protocol):
    """A way to cut, index and search documents."""

    @property
    def name(self) -> str: ...

    @property
    def peer(self) -> bool:
        """Whether this is not ours but what we compare ourselves with."""
        ...

    async def search(self, question: str) -> Outcome: ...


class Peer(Recipe, Protocol):
    """A recipe of others, with an index of its own."""

    async def index(self) -> int:
        """Returns the number of chunks."""
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

    async def search(self, question: str) -> Outcome:
        query = (await self._embedder.embed_queries([question]))[0]
        best = np.argsort(-(self._vectors @ query), kind="stable")[: self.top_k]
        return Outcome.of_ranking([self._chunks[number] for number in best])


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
        documents = StoredDocuments(database)
        self._retriever = TwoStageRetriever(documents=documents, chosen=settings.retrieval.documents)
        self._overview = OverviewRetriever(documents=documents, retriever=self._retriever)
        self._sentences = SentenceMatcher()
        self._links = LinkFollower(names=documents, retriever=self._retriever)
        self._expander = Expander(documents)

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
            make_chunker=make_chunker,
            summariser_of=always_extractive,
            embedders=Embedders(self._embedder),
            stores=LiveStores.of(self._store),
        )
        rows, texts = [], []
        for document in with_progress(documents, "ours"):
            sha256 = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{document.id}.txt"
            source = Source(f"{kb}{SEPARATOR}{document.id}", name, sha256, Path(document.id))
            await pipeline.run(source, target, _no_report)
            revision = pipeline.revision(target, sha256)
            rows.append(_row(kb, source, document, revision))
            texts.append((source.document_id, revision, ParsedDocument(document.text)))
        async with self._database.transaction() as session:
            session.add(_kb(kb, self._embedder.name, await self._embedder.dimension()))
            await session.flush()
            session.add_all(rows)
            await session.flush()
            for text in texts:
                await stored.put_text(session, *text)
        return await self._store.count(target.index(IndexKind.CHUNKS))

    async def search(
        self,
        question: str,
        *,
        top_k: int,
        mode: Mode | None = None,
        kb: str = KB,
        reranker: Reranker | None = None,
        sentences: bool = True,
        links: bool = True,
        trace: Trace | None = None,
    ) -> list[Passage]:
        """The best chunks that the API's search works with, for a question that comes without history."""
        trace = trace or Trace()
        query = await FollowUpRules().rewrite(question, ())
        scope = Scope(kb, 1, self._store, self._embedder)
        pool = self._settings.retrieval.pool
        with trace.stage("retrieve", inputs=1):
            found = await self._retriever.retrieve(query, scope, mode=mode or self.default_mode, pool=pool)
        with trace.stage("sentences", inputs=pool):
            candidates = shifted(found.passages)
            if sentences:
                candidates = await self._sentences.measured(
                    query, candidates, {scope.kb_name: self._embedder}
                )
        with trace.stage("rerank", inputs=pool):
            ranked = await (reranker or CoverageReranker()).rerank(query, candidates, top_k=pool)
        if links:
            with trace.stage("links", inputs=len(ranked)):
                followed = await self._links.followed(
                    query, ranked, candidates, [scope], top_k=self._settings.retrieval.top_k
                )
                ranked = followed.passages
        return ranked[:top_k]

    async def overview(self, question: str, *, kb: str = KB) -> list[Passage]:
        """The passages that stand for whole documents, if the question is about those."""
        asked = whole_document_question(question)
        return (
            await self._overview.retrieve(asked, Scope(kb, 1, self._store, self._embedder)) if asked else []
        )

    async def sent(self, ranked: Sequence[Passage], trace: Trace) -> Sequence[Passage]:
        """What becomes of the best chunks: the passages that go into the prompt, best first."""
        top_k = self._settings.retrieval.top_k
        with trace.stage("select", inputs=len(ranked)):
            selected = select(ranked, most=top_k, distinct=True, diversity=0.0).passages
        with trace.stage("expand", inputs=len(selected)):
            return (await self._expander.expand(selected, top_k=top_k, how=Structure())).passages


class Ours:
    """The service with its defaults, or (named) with another mode or reranker."""

    peer = False

    def __init__(
        self,
        service: Service,
        embedder: CachedEmbedder,
        *,
        name: str = "ours",
        mode: Mode | None = None,
        reranker: Reranker | None = None,
        sentences: bool = True,
        links: bool = True,
    ) -> None:
        self._service = service
        self._embedder = embedder
        self._mode = mode
        self._reranker = reranker
        self._sentences = sentences
        self._links = links
        self.name = name

    async def search(self, question: str) -> Outcome:
        trace, before = Trace(), self._embedder.asked_s
        ranked = await self._service.search(
            question,
            mode=self._mode,
            top_k=RANKED,
            reranker=self._reranker,
            sentences=self._sentences,
            links=self._links,
            trace=trace,
        )
        sent = await self._service.sent(ranked, trace)
        with trace.stage("compress", inputs=len(sent)):
            total = sum(weight(passage.text) for passage in sent)
            half = await SentenceCompressor().compress(Query(question, (question,)), sent, budget=total / 2)
        with trace.stage("order", inputs=len(sent)):
            read = BestAtBothEnds().order(sent)
        stages = {stage.stage: stage.milliseconds for stage in trace.stages}
        stages["embed"] = 1000 * (self._embedder.asked_s - before)
        stages["retrieve"] -= stages["embed"]
        return Outcome(_found(ranked), _found(sent), _found(half), _found(read), stages)


def _found(passages: Sequence[Passage]) -> list[Found]:
    return [Found(p.record.document_id.partition(SEPARATOR)[2], p.text) for p in passages]


def variants(service: Service, embedder: CachedEmbedder) -> list[Ours]:
    """The defaults first, then each with one stage changed."""
    return [
        Ours(service, embedder),
        Ours(service, embedder, name="ours, no reranker", reranker=KeepOrder()),
        Ours(service, embedder, name="ours, no sentences", sentences=False),
        Ours(service, embedder, name="ours, no links", links=False),
        Ours(service, embedder, name="ours, no summary stage", mode=Mode.FLAT),
        Ours(service, embedder, name="ours, strict", mode=Mode.STRICT),
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


def _row(kb: str, source: Source, document: CorpusDocument, revision: str) -> Document:
    return Document(
        id=source.document_id,
        kb_id=kb,
        name=source.name,
        status=DocumentStatus.READY,
        sha256=source.sha256,
        size=len(document.text),
        title=document.title or None,
        language=language(document.text),
        live_sha256=source.sha256,
        live_revision=revision,
        attributes={},
    )
