"""What every chunker offers, how a knowledge base says which one it wants, and how pieces become chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.types import PARENT_END, PARENT_START, IndexKind, ParsedDocument, Record, Span, record_id

CountTokens = Callable[[str], int]


class Strategy(StrEnum):
    """The ways to cut a document; docs/howto/chunking.md says which suits what."""

    SENTENCE = "sentence"
    RECURSIVE = "recursive"
    HEADING_TREE = "heading-tree"
    PARENT_CHILD = "parent-child"
    SENTENCE_WINDOW = "sentence-window"
    SEMANTIC = "semantic"
    PAGE = "page"
    TABLE_AWARE = "table-aware"


# Settings that only one strategy reads, with the value that says nothing.
_OF_ONE = {
    "overlap": (Strategy.RECURSIVE, 0),
    "child_characters": (Strategy.PARENT_CHILD, 100),
    "window": (Strategy.SENTENCE_WINDOW, 2),
    "breakpoint": (Strategy.SEMANTIC, 90),
}


class Chunking(BaseModel):
    """How the documents of a knowledge base are cut. Lengths are in Chinese characters, Latin ones count 0.4."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Strategy = Field(Strategy.SENTENCE, description="How documents are cut.")
    characters: int = Field(
        400,
        ge=50,
        le=4000,
        description="Longest chunk in Chinese characters, 2.5 times as many in alphabetic scripts. Of `parent-child` "
        "and `sentence-window`: the text that goes into the prompt.",
    )
    overlap: int = Field(
        0, ge=0, le=2000, description="`recursive` only: characters that a chunk repeats of the one before."
    )
    child_characters: int = Field(
        100, ge=20, le=1000, description="`parent-child` only: longest piece that is embedded and searched."
    )
    window: int = Field(
        2, ge=1, le=10, description="`sentence-window` only: sentences on each side that go into the prompt."
    )
    breakpoint: int = Field(
        90,
        ge=50,
        le=99,
        description="`semantic` only: a chunk ends where the distance between neighbouring sentences is above this "
        "percentile of the document's.",
    )

    @model_validator(mode="after")
    def _only_what_is_read(self) -> Self:
        for name, (strategy, silent) in _OF_ONE.items():
            if self.strategy != strategy and getattr(self, name) != silent:
                raise ValueError(f"{name} is for the strategy {strategy}, not for {self.strategy}")
        if self.overlap >= self.characters:
            raise ValueError("overlap must be smaller than characters")
        if self.strategy == Strategy.PARENT_CHILD and self.child_characters >= self.characters:
            raise ValueError("child_characters must be smaller than characters")
        return self

    @classmethod
    def of_kb(cls, settings: Mapping[str, Any]) -> Self:
        """What the `settings` of a knowledge base say; those made before there were strategies give a length only."""
        if (chunking := settings.get("chunking")) is not None:
            return cls.model_validate(chunking)
        return cls(characters=settings["chunk_characters"]) if "chunk_characters" in settings else cls()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document that becomes a chunk.

    `span` is embedded, searched and quoted. `parent`, where there is one, contains it and takes its place in the
    prompt. `head` is the header row of the table that the piece continues.
    """

    span: Span
    parent: Span | None = None
    head: str = ""


class Chunker(Protocol):
    """Cuts a document into pieces.

    `name` identifies strategy and parameters: it is part of a chunk's id. Pieces are in document order and trimmed
    of white space, and do not cross the border of a section; those of `heading-tree` and `page` may hold whole ones.
    """

    @property
    def name(self) -> str: ...

    async def cut(self, document: ParsedDocument) -> list[Piece]: ...


def header(title: str, path: Sequence[str], head: str = "") -> str:
    """What is embedded and searched with a chunk but never quoted: "title > section > subsection".

    `head`, a table's header row, is a line of its own below.
    """
    parts = [title, *path] if not path or path[0] != title else list(path)
    line = " > ".join(part for part in parts if part)
    return f"{line}\n{head}" if head else line


def to_records(
    pieces: Sequence[Piece], document: ParsedDocument, *, document_id: str, revision: str, title: str
) -> list[Record]:
    """The chunks that lie at `pieces`. Their ids depend on document, revision and position only."""
    records = []
    for position, piece in enumerate(pieces):
        span, section = piece.span, document.section_at(piece.span.start)
        parent = piece.parent
        records.append(
            Record(
                id=record_id(document_id, revision, IndexKind.CHUNKS, position),
                document_id=document_id,
                revision=revision,
                text=document.text[span.start : span.end],
                header=header(title, section.path if section else (), piece.head),
                section=section.label if section else "",
                start=span.start,
                end=span.end,
                page_start=document.page_at(span.start),
                page_end=document.page_at(max(span.start, span.end - 1)),
                position=position,
                metadata={PARENT_START: parent.start, PARENT_END: parent.end} if parent else {},
            )
        )
    return records
