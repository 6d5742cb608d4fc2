"""How is a CSV file read? Each record becomes one line that stands alone: `Name: Li; City: Beijing`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers.base import LINE, Content, Format, Limits, TextBuilder, clean, read_bytes, table_rows
from ingest.parsers.encoding import decode
from ingest.parsers.sniff import is_html_page, is_text

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 20


def _recognises(content: Content) -> bool:
    return is_text(content) and not is_html_page(content)


def _read(path: Path, limits: Limits) -> ParsedDocument:
    text = clean(decode(read_bytes(path, limits)))
    builder = TextBuilder(limits)
    try:
        records = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter_of(text))
        for line in table_rows(records):
            builder.add(line, gap=LINE)
    except csv.Error as error:
        raise UnreadableDocument(
            f"This is no CSV file: {error}.", hint="Look for a quote that is never closed."
        ) from error
    return builder.build()


def _delimiter_of(text: str) -> str:
    """The delimiter that splits most lines of the start into the same number of cells; a comma if none does."""
    return max(_DELIMITERS, key=lambda delimiter: _agreement(text, delimiter))


def _agreement(text: str, delimiter: str) -> tuple[int, int]:
    """How many of the first records have the most common width, and this width; (0, 0) if it splits none."""
    start = io.StringIO(text, newline="")
    widths: Counter[int] = Counter()
    try:
        for record, _ in zip(csv.reader(start, delimiter=delimiter), range(_SAMPLE_LINES), strict=False):
            widths[len(record)] += 1
    except csv.Error:
        return 0, 0  # not split, the lines are longer than a cell may be
    widths.pop(0, None)
    widths.pop(1, None)
    return max(((count, width) for width, count in widths.items()), default=(0, 0))


CSV = Format(
    name="CSV",
    label="a table in plain text (CSV)",
    extensions=(".csv", ".tsv"),
    mime_types=("text/csv", "text/tab-separated-values"),
    recognises=_recognises,
    read=_read,
)
