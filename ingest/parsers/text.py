"""How is plain text read? As it is, once its encoding is known."""

from __future__ import annotations

import re
from pathlib import Path

from core.types import ParsedDocument
from ingest.parsers.base import Content, Format, Limits, TextBuilder, read_bytes
from ingest.parsers.encoding import decode
from ingest.parsers.sniff import is_html_page, is_text

_XML_ENCODING = re.compile(rb"\s*<\?xml[^>]*encoding=[\"']([A-Za-z0-9._-]+)")


_PROSE = (".txt", ".text", ".log", ".rst", ".org", ".adoc", ".tex", ".srt", ".vtt")
_DATA = (".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".conf", ".properties", ".css")


def _recognises(content: Content) -> bool:
    return is_text(content) and not is_html_page(content)


def _read(path: Path, limits: Limits) -> ParsedDocument:
    data = read_bytes(path, limits)
    declared = _XML_ENCODING.match(data)
    builder = TextBuilder(limits)
    builder.add(decode(data, declared=declared[1].decode() if declared else None))
    return builder.build()


TEXT = Format(
    name="TXT",
    label="plain text",
    extensions=(*_PROSE, *_DATA),
    mime_types=("text/plain", "text/x-rst", "application/json", "application/xml", "text/xml"),
    recognises=_recognises,
    read=_read,
)
