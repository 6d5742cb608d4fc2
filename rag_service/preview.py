"""What chunks would a document become? Cut, but not embedded and not stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.types import ParsedDocument, Record, Span
from ingest.chunkers.base import Chunker, Chunking, to_records
from models.embedders.base import Embedder
from rag_service.wiring import make_chunker

MOST_CHARACTERS = (
    100_000  # of a document that a preview looks at: about a second, with `semantic` half a minute
)


@dataclass(frozen=True, slots=True)
class Preview:
    """The chunks with their tokens as the embedder counts them, header included. `cut_off`: only a beginning."""

    chunker: Chunker
    chunks: list[Record]
    tokens: list[int]
    cut_off: bool


async def preview(document: ParsedDocument, chunking: Chunking, embedder: Embedder, *, title: str) -> Preview:
    chunker = make_chunker(embedder, chunking)
    beginning = first_characters(document, MOST_CHARACTERS)
    pieces = await chunker.cut(beginning)
    chunks = to_records(pieces, beginning, document_id="", revision="", title=title)
    tokens = [embedder.count_tokens(chunk.indexed_text) for chunk in chunks]
    return Preview(chunker, chunks, tokens, len(beginning.text) < len(document.text))


def first_characters(document: ParsedDocument, most: int) -> ParsedDocument:
    """The document's first `most` characters, with the pages and sections that lie in them."""
    if len(document.text) <= most:
        return document
    return replace(
        document,
        text=document.text[:most],
        pages=tuple(replace(p, span=_until(p.span, most)) for p in document.pages if p.span.start < most),
        sections=tuple(
            replace(s, span=_until(s.span, most)) for s in document.sections if s.span.start < most
        ),
    )


def _until(span: Span, end: int) -> Span:
    return Span(span.start, min(span.end, end))
