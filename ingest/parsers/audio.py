"""Which files are recordings? What is said in them is asked of a server by `ingest.recordings`, not read here."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from core.errors import UnreadableDocument
from ingest.parsers.base import Content, Format, Limits

_STARTS = (
    b"ID3",
    b"\xff\xfb",
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xf1",
    b"\xff\xf9",
    b"OggS",
    b"fLaC",
    b"\x1aE\xdf\xa3",
)


def _recognises(content: Content) -> bool:
    head = content.head
    is_wave = head[:4] == b"RIFF" and head[8:12] == b"WAVE"
    return is_wave or head[4:8] == b"ftyp" or head.startswith(_STARTS)


def _read(path: Path, limits: Limits) -> NoReturn:
    raise UnreadableDocument(
        "Recordings are read by a transcription server, and none is set.",
        hint="Set RAG_INGEST__TRANSCRIPTION_URL and RAG_INGEST__TRANSCRIPTION_MODEL.",
    )


AUDIO = Format(
    name="a recording",
    label="a recording",
    extensions=(".mp3", ".wav", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".flac", ".webm"),
    mime_types=("audio/mpeg", "audio/wav", "audio/mp4", "audio/ogg", "audio/flac", "audio/webm"),
    recognises=_recognises,
    read=_read,
)
