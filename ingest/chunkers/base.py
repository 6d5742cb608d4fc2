"""What every chunker offers, and how its spans become chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from core.types import ParsedDocument, Record, Span, derived_id

CountTokens = Callable[[str], int]


class Chunker(Protocol):
    """Cuts a document into spans.

    `name` identifies strategy and parameters: it is part of a chunk's id. Spans are in document order, do not
    cross a section's border, and are trimmed of white space.
    """

    @property
    def name(self) -> str: ...

    def cut(self, document: ParsedDocument) -> list[Span]: ...


def header(title: str, path: Sequence[str]) -> str:
    """What is embedded and searched with a chunk but never quoted: "title > section > subsection"."""
    parts = [title, *path] if not path or path[0] != title else list(path)
    return " > ".join(part for part in parts if part)


def to_records(
    spans: Sequence[Span], document: ParsedDocument, *, document_id: str, revision: str, title: str
) -> list[Record]:
    """The chunks that lie at `spans`. Their ids depend on document, revision and position only."""
    records = []
    for position, span in enumerate(spans):
        section = document.section_at(span.start)
        records.append(
            Record(
                id=derived_id(document_id, revision, "chunk", position),
                document_id=document_id,
                revision=revision,
                text=document.text[span.start : span.end],
                header=header(title, section.path if section else ()),
                section=section.label if section else "",
                start=span.start,
                end=span.end,
                page_start=document.page_at(span.start),
                page_end=document.page_at(max(span.start, span.end - 1)),
                position=position,
            )
        )
    return records
