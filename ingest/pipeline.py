"""From a stored file to two indexes: parse → chunk → summarise → embed → index.

Every step is idempotent: ids are derived from document, content and recipe, so a run that is repeated, or
killed and started again, writes the same records. What readers see does not change here; that is the flip
in `ingest.runner`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UnreadableDocument
from core.text import language, terms
from core.types import (
    FIRST_CHUNK,
    KEY_SENTENCES,
    LAST_CHUNK,
    EmbeddedRecord,
    IndexKind,
    IndexName,
    ParsedDocument,
    Record,
    Vector,
    derived_id,
    record_id,
)
from ingest.chunkers.base import Chunker, Chunking, header, to_records
from ingest.summarise import Part, SummariserOf, Summary, parts, summary_of
from models.embedders.base import Embedder, Embedders
from stores.base import VectorStore
from stores.live import LiveStores

RECIPE_VERSION = 5  # raise it when parsing or chunking changes, so that re-uploads are read again
BATCH = 16  # chunks embedded and written at a time: bounds memory and makes progress visible

# Share of the whole at which each stage begins and ends, in percent; embedding takes nearly all the time.
STAGE_PERCENT = {
    "parsing": (0, 5),
    "chunking": (5, 8),
    "summarising": (8, 15),
    "embedding": (15, 95),
    "indexing": (95, 99),
}

Parse = Callable[[Path, str], Awaitable[ParsedDocument]]
Report = Callable[[str, int, int], Awaitable[None]]  # stage, done, total


@dataclass(frozen=True, slots=True)
class Target:
    """The knowledge base that a document goes into, as far as the pipeline needs to know it."""

    kb_id: str
    generation: int
    store: str
    embedder: str
    chunking: Chunking
    summariser: str | None = None  # a language model of its own choice

    def index(self, kind: IndexKind) -> IndexName:
        return IndexName(self.kb_id, self.generation, kind)


@dataclass(frozen=True, slots=True)
class Source:
    """A stored file, and the document that it is the content of."""

    document_id: str
    name: str
    sha256: str
    path: Path


@dataclass(frozen=True, slots=True)
class Ingested:
    """What the pipeline made of a document."""

    parsed: ParsedDocument
    language: str
    chunks: int
    summaries: int
    summary: str

    def columns(self) -> dict[str, Any]:
        """What the row of the document says of it, whatever generation it is in."""
        return {
            "title": self.parsed.title,
            "language": self.language,
            "pages": len(self.parsed.pages) or None,
            "characters": len(self.parsed.text),
            "chunks": self.chunks,
            "summaries": self.summaries,
            "summary": self.summary,
        }


class IngestPipeline:
    """The stages of ingestion, each an object; `run` is the whole flow."""

    def __init__(
        self,
        *,
        parse: Parse,
        make_chunker: Callable[[Embedder, Chunking], Chunker],
        summariser_of: SummariserOf,
        embedders: Embedders,
        stores: LiveStores,
    ) -> None:
        self._parse = parse
        self._make_chunker = make_chunker
        self._summariser_of = summariser_of
        self._embedders = embedders
        self._stores = stores

    def check(self, target: Target) -> None:
        """Raises `Conflict` if the target's embedder is not there."""
        self._embedders.of(target.embedder)

    def revision(self, target: Target, sha256: str) -> str:
        """Names what `run` would make of this content: same name, same records. Raises as `run` about embedders."""
        chunker = self._chunker(target)
        made_by: list[str | int] = [chunker.name, target.embedder, target.generation, RECIPE_VERSION]
        if target.summariser is not None:
            made_by.append(target.summariser)
        return derived_id(sha256, *made_by)[:16]

    async def run(self, source: Source, target: Target, report: Report) -> Ingested:
        """Write the document's chunks and summaries beside those that are there.

        Raises `UnreadableDocument` if nothing can be made of the file, `Conflict` if the target's embedder is not
        there, `StoreUnavailable` and the like if a server is down.
        """
        embedder = self._embedders.of(target.embedder)
        store = await self._stores.get(target.store)
        revision = self.revision(target, source.sha256)
        dim = await embedder.dimension()
        for kind in IndexKind:  # first: a server that is away shows before the work is done
            await store.ensure_index(target.index(kind), dim=dim)

        await report("parsing", 0, 1)
        parsed = await self._parse(source.path, source.name)
        title = parsed.title or Path(source.name).stem

        await report("chunking", 0, 1)
        pieces = await self._chunker(target).cut(parsed)
        if not pieces:
            raise UnreadableDocument(f"{source.name} holds no text.")
        chunks = to_records(pieces, parsed, document_id=source.document_id, revision=revision, title=title)

        todo = parts(parsed, chunks)
        summariser = await self._summariser_of(target.summariser)
        summaries: list[Summary] = []
        for number, part in enumerate(todo):
            await report("summarising", number, len(todo))
            text = parsed.text[part.span.start : part.span.end]
            summaries.append(summary_of(part, text, await summariser.summarise(text)))

        vectors: list[NDArray[np.float32]] = []
        for batch in _batches(chunks):
            await report("embedding", batch[0].position, len(chunks))
            vectors.append(await embedder.embed_passages([chunk.indexed_text for chunk in batch]))
            await store.upsert(target.index(IndexKind.CHUNKS), _embedded(batch, vectors[-1]))

        await report("indexing", 0, 1)
        records = [
            _summary_record(summary, number, source.document_id, revision, title)
            for number, summary in enumerate(summaries)
        ]
        await self._index_summaries(store, target, embedder, records, summaries, np.concatenate(vectors))
        return Ingested(parsed, language(parsed.text), len(chunks), len(summaries), summaries[0].text)

    def _chunker(self, target: Target) -> Chunker:
        return self._make_chunker(self._embedders.of(target.embedder), target.chunking)

    async def _index_summaries(
        self,
        store: VectorStore,
        target: Target,
        embedder: Embedder,
        records: Sequence[Record],
        summaries: Sequence[Summary],
        chunk_vectors: NDArray[np.float32],
    ) -> None:
        for batch in _batches(records):
            vectors = [
                await _summary_vector(embedder, record, summaries[record.position].part, chunk_vectors)
                for record in batch
            ]
            await store.upsert(target.index(IndexKind.SUMMARIES), _embedded(batch, vectors))


async def _summary_vector(
    embedder: Embedder, record: Record, part: Part, chunk_vectors: NDArray[np.float32]
) -> Vector:
    """Half the summary's own vector, half the centroid of its chunks; of one chunk, the chunk's own.

    A centroid finds the documents of detail questions, whose words a summary leaves out: used as a filter,
    centroids lose 1 to 4 points of recall where lead sentences lose up to 16 (docs/benchmarks.md).
    """
    centroid = _unit(chunk_vectors[list(part.chunks)].mean(axis=0))
    if len(part.chunks) == 1:
        return (
            centroid  # the summary repeats the chunk: embedding it would double the work for short documents
        )
    own = await embedder.embed_passages([record.indexed_text])
    return _unit(own[0] + centroid)


def percent_done(stage: str, done: int, total: int) -> int:
    """How much of a document is read when it is this far."""
    first, last = STAGE_PERCENT[stage]
    return first + (last - first) * done // max(total, 1)


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), BATCH):
        yield records[start : start + BATCH]


def _embedded(
    records: Sequence[Record], vectors: Sequence[Vector] | NDArray[np.float32]
) -> list[EmbeddedRecord]:
    return [
        EmbeddedRecord(record, np.asarray(vector, dtype=np.float32), tuple(terms(record.indexed_text)))
        for record, vector in zip(records, vectors, strict=True)
    ]


def _summary_record(summary: Summary, position: int, document_id: str, revision: str, title: str) -> Record:
    part = summary.part
    covered = {FIRST_CHUNK: part.chunks[0], LAST_CHUNK: part.chunks[-1]} if position else {}
    return Record(
        id=record_id(document_id, revision, IndexKind.SUMMARIES, position),
        document_id=document_id,
        revision=revision,
        text=summary.text,
        header=header(title, part.path),
        section=" > ".join(part.path),
        start=part.span.start,
        end=part.span.end,
        position=position,
        metadata={KEY_SENTENCES: [f"{s.start}-{s.end}" for s in summary.key], **covered},
    )


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), dtype=np.float32)
