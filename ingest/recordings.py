"""How does a recording become a document? As what is said, in sections named by the time at which they begin.

A citation then names its place as `[00:01:05]`: the section is the anchor, as a page is elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers import Limits
from ingest.parsers.audio import AUDIO
from ingest.parsers.base import LINE, TextBuilder
from ingest.pipeline import Parse
from models.transcription import Said, Transcriber

SECTION_S = 60.0  # seconds of speech under one time stamp


class ParseWithTranscription:
    """Reads recordings by a transcription server, and all other files by `parse`."""

    def __init__(self, parse: Parse, transcriber: Transcriber, limits: Limits) -> None:
        self._parse = parse
        self._transcriber = transcriber
        self._limits = limits

    async def __call__(self, path: Path, name: str) -> ParsedDocument:
        if PurePath(name).suffix.lower() not in AUDIO.extensions:
            return await self._parse(path, name)
        said = await self._transcriber.transcribe(path, name)
        if not any(each.text.strip() for each in said):
            raise UnreadableDocument(f"{name}: nothing is said in this recording.")
        return spoken_document(said, self._limits)


def spoken_document(said: Sequence[Said], limits: Limits) -> ParsedDocument:
    """The document that a transcript makes: a line for each stretch, a section for each minute or so."""
    builder = TextBuilder(limits)
    section_s: float | None = None
    for each in said:
        start = builder.add(each.text, gap=LINE)
        if start is None or each.start_s is None:
            continue
        if section_s is None or each.start_s - section_s >= SECTION_S:
            section_s = each.start_s
            builder.section(1, time_stamp(section_s), start)
    return builder.build()


def time_stamp(seconds: float) -> str:
    """Hours, minutes and seconds as `[00:01:05]`."""
    whole = int(seconds)
    return f"[{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}]"
