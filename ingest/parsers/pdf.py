"""How is a PDF read? Its text page by page, scanned pages by OCR, and its outline (bookmarks) as sections; without an
outline, lines that are set larger than the text (`pdf_headings`). Ruled tables become rows (`pdf_tables`).

pdfium gives the text in the order of the file, with a line break where a line ends. Headers and footers that only
repeat are left out. A bookmark names only a page, so a section starts where its title stands on that page, else at the
top of the page.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UnreadableDocument
from core.types import ParsedDocument, Span
from ingest.parsers.base import Content, Format, Limits, TextBuilder, check_pages, clean, too_much_text
from ingest.parsers.ocr import INSTALL, LONGEST_SIDE, TALL, Recogniser, recogniser
from ingest.parsers.pdf_headings import Line, headings, lines_of
from ingest.parsers.pdf_tables import CJK, with_tables
from ingest.parsers.running_lines import without_running_lines

if TYPE_CHECKING:
    from PIL.Image import Image
    from pypdfium2 import PdfDocument, PdfObject, PdfPage

_log = logging.getLogger(__name__)

_MAGIC_WITHIN = 1024  # bytes: readers accept a PDF that starts with this much of something else
_MAX_BOOKMARKS = 10_000
_MAX_OBJECTS = 2_000  # looked at, of a page with (almost) no text
_IMAGE = 3  # FPDF_PAGEOBJ_IMAGE, https://pdfium.googlesource.com/pdfium/+/main/public/fpdfview.h
_STAMP = 30  # characters; "Scanned with CamScanner" has 20
_FINEST = 400 / 72  # pixels a point: small pages are not blown up beyond 400 dpi
_MOST_PIXELS = 50_000_000
_PASSWORD = 4  # FPDF_ERR_PASSWORD
_UNSUPPORTED_SECURITY = 5  # FPDF_ERR_SECURITY

# Letter-spaced Chinese comes out as "目 录 与 说 明"; three or more single characters in a row are one word,
# two may be the cells of a table.
_SPACED_OUT = re.compile(f"(?<!{CJK}){CJK}(?: {CJK}){{2,}}(?!{CJK})")
# Titles that a program made up.
_NO_TITLE = re.compile(
    r"\W*(?:untitled|anonymous|unspecified|unknown|无标题|未命名)\W*\d*\s*|.*\.\w{2,5}", re.I
)


def _recognises(content: Content) -> bool:
    return b"%PDF-" in content.head[:_MAGIC_WITHIN]


def _read(path: Path, limits: Limits) -> ParsedDocument:
    document = _open(path)
    try:
        builder = TextBuilder(limits)
        outline = list(_bookmarks(document))
        lines: list[Line] | None = None if outline else []
        spans = _add_pages(builder, document, limits, lines)
        if not any(len(span) for span in spans):
            raise UnreadableDocument(f"There is no text on the {len(spans)} page(s) of this PDF.")
        sections = outline or headings(lines or [])
        return _with_sections(builder, document, spans, sections, bookmarks=bool(outline))
    finally:
        document.close()


def _add_pages(
    builder: TextBuilder, document: PdfDocument, limits: Limits, lines: list[Line] | None
) -> list[Span]:
    """Append each page's text; returns where it lies, a span of no length for an empty page."""
    spans: list[Span] = []
    for text in without_running_lines(_page_texts(document, limits, lines)):
        builder.page()
        start = builder.add(text)
        end = builder.length
        spans.append(Span(end, end) if start is None else Span(start, end))
    return spans


def _page_texts(document: PdfDocument, limits: Limits, lines: list[Line] | None) -> list[str]:
    """The text of each page, recognised where it is a picture. `lines`: where to put those that are no pictures."""
    check_pages(len(document), limits)
    reader: Recogniser | None = None
    texts: list[str] = []
    characters = unread = 0
    for number in range(len(document)):
        page = document[number]
        try:
            text = clean(_text(page, number, lines))
            if _is_scan(page, text):
                reader = reader or recogniser(limits)
                if reader is None:
                    unread += 1
                else:
                    text = max(text, reader.text(_picture(page)), key=len)
        finally:
            page.close()
        texts.append(text)
        characters += len(text)
        if characters > limits.max_characters:
            raise too_much_text(limits)
    _check_unread(unread, len(texts))
    return texts


def _check_unread(unread: int, pages: int) -> None:
    """Pictures on text pages are not read either, so a few picture pages are left out; a scan is refused."""
    if 2 * unread > pages:
        raise UnreadableDocument(
            f"{unread} of {pages} page(s) are pictures without a text layer, "
            "which need text recognition (OCR).",
            hint=INSTALL,
        )
    if unread:
        _log.warning("%d of %d pages are pictures and were left out. %s", unread, pages, INSTALL)


def _open(path: Path) -> PdfDocument:
    from pypdfium2 import PdfDocument, PdfiumError  # noqa: PLC0415  # 20 MiB that only PDFs need

    try:
        return PdfDocument(path)
    except PdfiumError as error:
        if getattr(error, "err_code", None) in (_PASSWORD, _UNSUPPORTED_SECURITY):
            raise UnreadableDocument(
                "The PDF is encrypted with a password.", hint="Save it without the password."
            ) from error
        raise UnreadableDocument(f"The PDF is damaged: {error}", hint="Save it again as PDF.") from error


def _text(page: PdfPage, number: int, lines: list[Line] | None) -> str:
    text_page = page.get_textpage()
    # Not get_text_bounded: on rotated pages it runs lines together.
    text: str = text_page.get_text_range()
    if lines is not None:
        lines += lines_of(number, text, text_page)
    text = with_tables(text, page, text_page)
    text_page.close()
    return _SPACED_OUT.sub(lambda match: match[0].replace(" ", ""), text)


def _is_scan(page: PdfPage, text: str) -> bool:
    """Whether the page is a picture: with no text, or with no more of it than a scanner's stamp."""
    characters = len("".join(text.split()))
    if characters > _STAMP:
        return False
    pictures = list(islice(page.get_objects(), _MAX_OBJECTS))
    if not characters:
        return bool(pictures)
    largest = max((_area(shape) for shape in pictures if shape.type == _IMAGE), default=0.0)
    return bool(largest > 0.5 * page.get_width() * page.get_height())


def _area(shape: PdfObject) -> float:
    """Square points that an object covers."""
    left, bottom, right, top = shape.get_bounds()
    return float((right - left) * (top - bottom))


def _picture(page: PdfPage) -> Image:
    """The page as it would be printed, as large as recognition needs it."""
    width, height = (max(side, 1.0) for side in page.get_size())
    tall = height > TALL * width
    side = width if tall else max(width, height)
    scale = min(LONGEST_SIDE / side, _FINEST, (_MOST_PIXELS / (width * height)) ** 0.5)
    image: Image = page.render(scale=scale).to_pil()
    return image


def _with_sections(
    builder: TextBuilder,
    document: PdfDocument,
    spans: list[Span],
    sections: Sequence[tuple[int, str, int]],
    *,
    bookmarks: bool,
) -> ParsedDocument:
    text = builder.text
    found: dict[int, tuple[int, str]] = {}
    after = -1
    for level, title, page in sections:
        if page >= len(spans):
            continue
        start = _start_of(title, text, spans[page], after)
        if start is None:
            if not bookmarks:
                continue  # a running header, which is left out
            start = spans[page].start
        # A later bookmark with no place of its own (same start) is deeper and replaces its parent.
        after = start
        found[after] = (level, title)
    for start, (level, title) in sorted(found.items()):
        builder.section(level, title, start)
    title = document.get_metadata_value("Title").strip()
    return builder.build(None if _NO_TITLE.fullmatch(title) else title)


def _bookmarks(document: PdfDocument) -> Iterator[tuple[int, str, int]]:
    """(level from 1, title, page from 0) of each bookmark that leads to a page."""
    for bookmark in islice(document.get_toc(), _MAX_BOOKMARKS):
        destination = bookmark.get_dest()
        page = destination.get_index() if destination else None
        title = bookmark.get_title().strip()
        if page is not None and title:
            yield bookmark.level + 1, title, page


def _start_of(title: str, text: str, page: Span, after: int) -> int | None:
    """Where `title` stands on the page, if it does, whatever its white space: after the last heading on this page if
    it can, at the start of a line if it can."""
    pattern = r"\s*".join(re.escape(character) for character in title if not character.isspace())
    hits = [match.start() for match in re.finditer(pattern, text[page.start : page.end], re.I)]
    starts = [page.start + hit for hit in hits]
    fresh = [start for start in starts if start > after] or starts
    at_line_start = [start for start in fresh if start == page.start or text[start - 1] == "\n"]
    return next(iter(at_line_start or fresh), None)


PDF = Format(
    name="PDF",
    label="a PDF",
    extensions=(".pdf",),
    mime_types=("application/pdf",),
    recognises=_recognises,
    read=_read,
)
