"""How is Rich Text (RTF) read? As its text, by striprtf; a row of a table is a line of cells."""

from __future__ import annotations

from pathlib import Path

from core.types import ParsedDocument
from ingest.parsers.base import Content, Format, Limits, TextBuilder, read_bytes


def _recognises(content: Content) -> bool:
    return content.head.startswith(b"{\\rtf")


def _read(path: Path, limits: Limits) -> ParsedDocument:
    from striprtf.striprtf import rtf_to_text  # noqa: PLC0415  # only RTF needs it

    # RTF is ASCII, and writes other characters as escapes in the code page that it names.
    source = read_bytes(path, limits).decode("latin-1")
    builder = TextBuilder(limits)
    text: str = rtf_to_text(source, encoding="cp1252", errors="replace")
    builder.add(text)
    return builder.build()


RTF = Format(
    name="RTF",
    label="an RTF document",
    extensions=(".rtf",),
    mime_types=("application/rtf", "text/rtf"),
    recognises=_recognises,
    read=_read,
)
