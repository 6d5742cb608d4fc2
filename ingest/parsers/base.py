"""What is a format, what may a document cost, and how does text get its pages and sections?

A format is one file of this folder: its name, extensions, MIME types, how its content is recognised, and the
function that reads it. Readers append to a `TextBuilder`, which cleans the text and keeps exact offsets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import UnreadableDocument
from core.types import Page, ParsedDocument, Section, Span

PARAGRAPH = "\n\n"  # between paragraphs and before pages
LINE = "\n"  # between list items and table rows


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost. Beyond it, `UnreadableDocument`."""

    max_pages: int = 5000
    max_characters: int = 20_000_000
    max_expanded_bytes: int = 200 * 2**20  # of all files in a DOCX, PPTX, XLSX or EPUB archive
    ocr: bool = False  # whether pictures of text may be recognised, which takes seconds for each page


@dataclass(frozen=True, slots=True)
class Content:
    """What a file's bytes say about it: its first 64 KiB, and for a ZIP the `[Content_Types].xml` in it."""

    head: bytes
    is_zip: bool
    office_types: str


@dataclass(frozen=True, slots=True)
class Format:
    """One file format. `extensions` are lower-case with the dot, `label` completes "it looks like …"."""

    name: str
    label: str
    extensions: tuple[str, ...]
    mime_types: tuple[str, ...]
    recognises: Callable[[Content], bool]
    read: Callable[[Path, Limits], ParsedDocument]


# Characters that carry no text: controls (but tab and line breaks), soft hyphens, byte-order marks, lone
# surrogates, non-characters. pdfium writes U+FFFE where a line ends in a hyphen.
_DROPPED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\ufeff\ufffe\uffff\ud800-\udfff]")
_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")


def clean(text: str) -> str:
    """`text` with every line break as `\\n` and without characters that carry no text; else as it is."""
    return _DROPPED.sub("", _LINE_BREAK.sub("\n", text))


def tidy(text: str) -> str:
    """`text` cleaned, without blank lines around it. What `TextBuilder.add` appends."""
    text = clean(text).rstrip()
    indented_start = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, indented_start) + 1 :]


def one_line(text: str) -> str:
    """`text` cleaned, each run of white space as one blank."""
    return " ".join(clean(text).split())


def table_row(cells: Iterable[str]) -> str:
    """One row of a table as `| a | b |`, empty if all cells are."""
    flat = [one_line(cell) for cell in cells]
    return f"| {' | '.join(flat)} |" if any(flat) else ""


def table_rows(rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Rows of a sheet as lines. Below a heading row, each line stands alone: `Name: Li; City: Beijing`.

    The first row is a heading row if it has two or more cells, all filled, all different and none a number.
    """
    heading: list[str] | None = None
    first = True
    for row in rows:
        cells = _without_tail([one_line(cell) for cell in row])
        if not cells:
            continue
        if first:
            first = False
            heading = cells if _is_heading_row(cells) else None
            yield table_row(cells)
        elif heading and len(cells) <= len(heading):
            named = zip(heading, cells, strict=False)
            yield "; ".join(f"{name}: {cell}" for name, cell in named if cell)
        else:
            yield table_row(cells)


def _without_tail(cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _is_heading_row(cells: list[str]) -> bool:
    return len(cells) > 1 and len(set(cells)) == len(cells) and all(map(_is_name, cells))


def _is_name(cell: str) -> bool:
    return any(character.isalpha() for character in cell) and not cell[0].isdecimal()


class TextBuilder:
    """Puts the text of a document together, piece by piece, with the spans of its pages and sections.

    Raises `UnreadableDocument` as soon as `limits` is passed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0
        self._pages: list[Span | None] = []
        self._sections: list[tuple[tuple[str, ...], int, int]] = []  # path, start, end (-1: still open)
        self._headings: list[tuple[int, str]] = []

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def page(self) -> None:
        """Begin the next page, slide or sheet."""
        check_pages(len(self._pages) + 1, self._limits)
        self._pages.append(None)

    def add(self, text: str, *, gap: str = PARAGRAPH) -> int | None:
        """Append a block, `gap` after the one before. Returns where it starts; None if it is blank."""
        block = tidy(text)
        if not block:
            return None
        starts_page = bool(self._pages) and self._pages[-1] is None
        if self._length:
            self._append(PARAGRAPH if starts_page else gap)
        start = self._length
        self._append(block)
        if self._pages:
            page = self._pages[-1]
            self._pages[-1] = Span(page.start if page else start, self._length)
        return start

    def heading(self, level: int, title: str) -> None:
        """Append a heading, which begins a section. Level 1 is the outermost."""
        start = self.add(title)
        if start is not None:
            self.section(level, title, start)

    def section(self, level: int, title: str, start: int) -> None:
        """Begin a section at `start`, where its heading already stands in the text."""
        self._headings = [heading for heading in self._headings if heading[0] < level]
        self._headings.append((level, one_line(title)))
        path = tuple(name for _, name in self._headings)
        self._close(start)
        self._sections.append((path, start, -1))

    def end_section(self) -> None:
        """What follows belongs to no section until the next heading."""
        self._close(self._length)

    def build(self, title: str | None = None) -> ParsedDocument:
        """The finished document. Raises `UnreadableDocument` if it has no text."""
        if not self._length:
            raise UnreadableDocument("There is no text in this document.")
        self._close(self._length)
        return ParsedDocument(
            text=self.text,
            title=one_line(title or "") or None,
            pages=self._numbered_pages(),
            sections=tuple(Section(path, Span(start, end)) for path, start, end in self._sections),
        )

    def _append(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._limits.max_characters:
            raise too_much_text(self._limits)
        self._parts.append(text)

    def _close(self, end: int) -> None:
        if self._sections and self._sections[-1][2] < 0:
            path, start, _ = self._sections[-1]
            self._sections[-1] = (path, start, end)

    def _numbered_pages(self) -> tuple[Page, ...]:
        """An empty page lies, with no length, where the next page's text starts."""
        pages = []
        following = self._length
        for number in range(len(self._pages), 0, -1):
            span = self._pages[number - 1] or Span(following, following)
            following = span.start
            pages.append(Page(number, span))
        return tuple(reversed(pages))


def check_pages(pages: int, limits: Limits) -> None:
    """Raise `UnreadableDocument` if these are too many."""
    if pages > limits.max_pages:
        raise UnreadableDocument(
            f"The document has more than {limits.max_pages} pages.",
            hint="Split it, or raise `ingest.max_pages`.",
        )


def too_much_text(limits: Limits) -> UnreadableDocument:
    return UnreadableDocument(
        f"The document has more than {limits.max_characters} characters of text.",
        hint="Split it, or raise `ingest.max_characters`.",
    )


def read_bytes(path: Path, limits: Limits) -> bytes:
    """All bytes of a text file, refused if they cannot be fewer characters than allowed (4 bytes each)."""
    if path.stat().st_size > 4 * limits.max_characters + 4:
        raise too_much_text(limits)
    return path.read_bytes()
