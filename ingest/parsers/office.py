"""Is this Office archive safe to open? DOCX, PPTX and XLSX are ZIP files of XML, and both can explode.

Checked before any library sees the file: how large it is when expanded, and that no XML part declares
entities ("billion laughs"): Office files never hold a document type declaration.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from core.errors import UnreadableDocument
from ingest.parsers.base import Content, Limits

_MAX_RATIO = 200  # XML of real sheets shrinks to a twentieth or a fiftieth
_RATIO_MATTERS = 16 * 2**20  # bytes expanded; below it a high ratio harms nobody
_BLOCK = 2**20  # bytes read at once
_XML_SUFFIXES = (".xml", ".rels", ".vml")
_DECLARATION = "<!DOCTYPE"
_FORBIDDEN = tuple(_DECLARATION.encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be"))
_LONGEST = max(map(len, _FORBIDDEN))


def is_office(content: Content, main_part: str) -> bool:
    """Whether the archive declares a main part of this type, as `wordprocessingml.document`."""
    return f"{main_part}.main+xml" in content.office_types


def check_archive(path: Path, limits: Limits, *, xml: bool = True) -> None:
    """Raise `UnreadableDocument` if the archive is damaged, expands too far or (with `xml`) declares XML entities.

    `zipfile` never yields more of a member than its declared size, so the declared sizes can be trusted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path.stat().st_size, limits)
            for member in archive.infolist():
                if xml and member.filename.lower().endswith(_XML_SUFFIXES):
                    _check_entities(archive, member)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UnreadableDocument(f"The file is damaged: {error}.", hint="Save it again.") from error


def _check_size(archive: zipfile.ZipFile, packed: int, limits: Limits) -> None:
    expanded = sum(member.file_size for member in archive.infolist())
    if expanded <= limits.max_expanded_bytes and (
        expanded <= _RATIO_MATTERS or expanded <= _MAX_RATIO * packed
    ):
        return
    raise UnreadableDocument(
        f"The file expands from {packed} to {expanded} bytes, which no ordinary document does.",
        hint="If it is genuine, save it as PDF or split it.",
    )


def _check_entities(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    tail = b""
    for block in _blocks(archive, member):
        window = tail + block
        if any(mark in window for mark in _FORBIDDEN):
            raise UnreadableDocument(
                f"The part {member.filename} declares XML entities, which Office documents never do.",
                hint="Open the file in an office program and save it again.",
            )
        tail = window[-_LONGEST:]


def _blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(member) as stream:
        while block := stream.read(_BLOCK):
            yield block
