"""The domain's words as types: what flows through the two pipelines.

A *document* is what the user uploaded (never a stored piece of it). A *chunk* is a piece of a document, a
*summary* a short text about a document or a section; stores keep both as `Record`s, one index for each. A
*hit* is what a store returns for a search; a *passage* is a hit on its way into the prompt; a *citation*
links a place in the answer to a span of a document. All are frozen; all offsets are characters (Unicode
code points) into the parsed text of the document, end exclusive.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]
else:
    Vector = Any  # importing numpy would cost every parser child 0.2 s

Scalar = str | int | float | bool
Metadata = Mapping[str, Scalar | Sequence[str]]


# Keys of a record's metadata that are ours: what takes a small chunk's place in the prompt (document offsets).
PARENT_START = "parent_start"
PARENT_END = "parent_end"
# Of a section's summary: the positions of the first and last chunk that it is about.
FIRST_CHUNK = "first_chunk"
LAST_CHUNK = "last_chunk"
KEY_SENTENCES = "key_sentences"  # of a summary: the document's sentences that tell most, as "start-end"


class IndexKind(StrEnum):
    """Which of a knowledge base's two indexes."""

    CHUNKS = "chunks"
    SUMMARIES = "summaries"


_INDEX_NAME = re.compile(r"kb_(.+)_g([1-9]\d*)_(chunks|summaries)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class IndexName:
    """One index of one generation of one knowledge base: the unit a store creates, searches and drops."""

    kb_id: str
    generation: int
    kind: IndexKind

    def __str__(self) -> str:
        return f"kb_{self.kb_id}_g{self.generation}_{self.kind.value}"

    @classmethod
    def read(cls, text: str) -> IndexName | None:
        """The name whose text this is, or None if it is that of something else."""
        found = _INDEX_NAME.fullmatch(text)
        return cls(found[1], int(found[2]), IndexKind(found[3])) if found else None


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters in the parsed text of a document."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a document (1-based number) and the span of its text. Slides and sheets count as pages."""

    number: int
    span: Span


@dataclass(frozen=True, slots=True)
class Section:
    """A heading path such as ("Handbook", "Leave", "Parental leave") and the span of its own text.

    `span` starts at the heading and ends where the next heading (of any level) starts, so the sections of
    a document do not overlap.
    """

    path: tuple[str, ...]
    span: Span

    @property
    def label(self) -> str:
        return " > ".join(self.path)


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser makes of a file: plain text, and where its pages and sections lie in it.

    `pages` is empty for formats without pages, `sections` for text without headings. `title` is the
    document's own title where it has one, never the file name.
    """

    text: str
    title: str | None = None
    pages: tuple[Page, ...] = ()
    sections: tuple[Section, ...] = ()

    def page_at(self, offset: int) -> int | None:
        """The number of the page that holds the character at `offset`, or None without pages."""
        place = bisect_right(self.pages, offset, key=lambda page: page.span.start)
        return self.pages[place - 1].number if place else None

    def section_at(self, offset: int) -> Section | None:
        """The section that holds the character at `offset`, or None before the first heading."""
        place = bisect_right(self.sections, offset, key=lambda section: section.span.start)
        return self.sections[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Record:
    """One chunk or summary, as stores keep it and give it back.

    `text` is what may be quoted; `header` (title and section path) is embedded and searched with it but
    never quoted. For a chunk, `text` is exactly the document's characters `start:end`; for a summary,
    `start:end` is the span it is about. `revision` names the version of the document it belongs to.
    """

    id: str
    document_id: str
    revision: str
    text: str
    header: str = ""
    section: str = ""
    start: int = 0
    end: int = 0
    page_start: int | None = None
    page_end: int | None = None
    position: int = 0
    metadata: Metadata = field(default_factory=dict)

    @property
    def indexed_text(self) -> str:
        """What is embedded and tokenised: the header, a line break, the text."""
        return f"{self.header}\n{self.text}" if self.header else self.text

    @property
    def parent(self) -> Span | None:
        """The larger stretch of the document that goes into the prompt in the place of this chunk, if there is one."""
        start, end = self.metadata.get(PARENT_START), self.metadata.get(PARENT_END)
        return Span(start, end) if isinstance(start, int) and isinstance(end, int) else None

    @property
    def key_sentences(self) -> tuple[Span, ...]:
        """Of a summary: the document's own sentences that tell most about what it is about, in order."""
        stored = self.metadata.get(KEY_SENTENCES, ())
        if isinstance(stored, str | int | float):
            return ()
        pairs = (pair.split("-") for pair in stored)
        return tuple(Span(int(start), int(end)) for start, end in pairs)

    @property
    def title(self) -> str:
        """The document's title: the first part of its header."""
        return self.header.partition("\n")[0].partition(" > ")[0]

    @property
    def table_head(self) -> str:
        """The header row of the table that the chunk continues: what stands in its header below the first line."""
        return self.header.partition("\n")[2]


@dataclass(frozen=True, slots=True)
class EmbeddedRecord:
    """A record with its unit-length vector (shape (dim,), float32) and its search terms."""

    record: Record
    vector: Vector
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A record a store found. Larger scores are better; dense ones lie in [0, 1], text ones only rank."""

    record: Record
    score: float


@dataclass(frozen=True, slots=True)
class TermStats:
    """How common terms are in an index: `total` records, and for each term the number that hold it."""

    total: int
    document_frequency: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Query:
    """A question on its way through the pipeline.

    `text` is what the user asked, `searches` are the texts to search for (the rewriter fills them; the
    first is the standalone question). `imagined` is a passage that might answer it: it is searched near that, too.
    """

    text: str
    searches: tuple[str, ...]
    imagined: str = ""

    @property
    def standalone(self) -> str:
        return self.searches[0]


@dataclass(frozen=True, slots=True)
class Near:
    """How near a sentence (document offsets) is to the question: the cosine of their vectors, less half of what the
    sentence is nearer to any question than other sentences are (`rerankers.sentences`).
    """

    span: Span
    closeness: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk on its way into the prompt.

    `dense`, `coverage` and `summary` are the parts of `score` that retrieval knows, each in [0, 1].
    `spans` are the parts of the chunk that stay after compression (document offsets); empty means all. A passage that
    stands for a `whole` document is its key sentences. `lead` goes into the prompt in front, but is never quoted.
    `foreign`: it is in the other script (Chinese, or alphabetic) than the question; `shift` is what its dense score
    lacks for that (`core.scripts`), and `near` are its sentences, which were compared with the question one by one.
    """

    record: Record
    document_name: str
    score: float
    dense: float = 0.0
    coverage: float = 0.0
    summary: float = 0.0
    spans: tuple[Span, ...] = ()
    whole: bool = False
    lead: str = ""
    kb: str = ""  # name of the knowledge base that it is from
    foreign: bool = False
    shift: float = 0.0
    near: tuple[Near, ...] = ()

    @property
    def text(self) -> str:
        """The text that goes into the prompt: the kept spans in order, gaps marked by an ellipsis.

        In front of it the lead, and the header row of the table that it continues, if it does.
        """
        return "\n".join(filter(None, (self.lead, self.record.table_head, self.kept_text)))

    @property
    def kept_text(self) -> str:
        """The kept spans in order, gaps marked by an ellipsis."""
        record = self.record
        pieces = (record.text[s.start - record.start : s.end - record.start].strip() for s in self.spans)
        return " … ".join(pieces) if self.spans else record.text

    def with_score(self, score: float) -> Passage:
        """As `dataclasses.replace`, in half the time: every candidate of a search gets several scores."""
        return Passage(
            self.record,
            self.document_name,
            score,
            self.dense,
            self.coverage,
            self.summary,
            self.spans,
            self.whole,
            self.lead,
            self.kb,
            self.foreign,
            self.shift,
            self.near,
        )


@dataclass(frozen=True, slots=True)
class Citation:
    """A checked link from the answer to a document: `quote` is exactly the document's `start:end`.

    `number` is the mark in the answer, as in `[1]`; one number for each span cited.
    """

    number: int
    document_id: str
    document_name: str
    chunk_id: str
    start: int
    end: int
    quote: str
    page: int | None = None
    section: str = ""
    kb: str = ""


def derived_id(*parts: str | int) -> str:
    """An id that depends on nothing but its parts, so that a re-run writes the same rows: 32 hex digits."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:32]


def record_id(document_id: str, revision: str, kind: IndexKind, position: int) -> str:
    """The id of a document's chunk or summary at this position."""
    what = "chunk" if kind == IndexKind.CHUNKS else "summary"
    return derived_id(document_id, revision, what, position)
