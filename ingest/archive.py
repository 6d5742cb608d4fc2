"""Which files are in a ZIP archive, and what may unpacking them cost? Each becomes a document `archive.zip/path`.

Bounded before anything is unpacked: the list of files, how many they are, and their sizes together. `zipfile` never
yields more of a file than its declared size, so the declared sizes can be trusted. Archives inside archives are refused
by `ingest.parsers.sniff`. "APPNOTE" is https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import asyncio
import stat
import zipfile
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from core.errors import UnreadableDocument
from ingest.parsers import ZIP_EXTENSION
from ingest.parsers.encoding import decode
from ingest.parsers.sniff import list_length

_MAX_RATIO = 200
_RATIO_MATTERS = 16 * 2**20  # bytes expanded; below it a high ratio harms nobody
_LIST_BYTES = 1024  # of the list of files, for each file that is allowed
_BLOCK = 2**20  # bytes unpacked at a time
_UTF8_NAME = 0x800  # bit of the flags of an entry, APPNOTE 4.4.4
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What one archive may hold. Beyond it, `UnreadableDocument`."""

    max_files: int = 1000
    max_bytes: int = 2**30  # of all files together, unpacked


def is_archive(name: str) -> bool:
    """Whether an upload of this name is unpacked."""
    return PurePath(name).suffix.lower() == ZIP_EXTENSION


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive. `name` is as the archive has it, decoded but not cleaned."""

    name: str
    member: zipfile.ZipInfo


class Archive:
    """An open ZIP archive. Use it as a context manager; raises `UnreadableDocument` if it may not be unpacked."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        with _in_words():
            _check_list(path, limits)
            self._zip = zipfile.ZipFile(path)
        try:
            self.entries = list(_entries(self._zip))
            _check(self.entries, path.stat().st_size, limits)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    async def blocks(self, entry: Entry) -> AsyncGenerator[bytes, None]:
        """The unpacked content. Raises `UnreadableDocument` if it is no ordinary file or damaged."""
        _check_entry(entry)
        with _in_words(), self._zip.open(entry.member) as stream:
            while block := await asyncio.to_thread(stream.read, _BLOCK):
                yield block


def _entries(archive: zipfile.ZipFile) -> Iterator[Entry]:
    """The files, without folders, hidden files and what macOS adds."""
    members = archive.infolist()
    for name, member in zip(_names(members), members, strict=True):
        parts = name.replace("\\", "/").split("/")
        if not member.is_dir() and not any(map(_is_hidden, parts)):
            yield Entry(name, member)


def _is_hidden(part: str) -> bool:
    return part == "__MACOSX" or (part.startswith(".") and part not in (".", ".."))


def _names(members: list[zipfile.ZipInfo]) -> list[str]:
    """The names. Those not marked as UTF-8 are in the encoding of the system that made the archive, all in one:
    GB18030 of a Chinese Windows, mostly, and zipfile takes it for code page 437."""
    foreign = {number: raw for number, member in enumerate(members) if (raw := _raw_name(member))}
    names = [member.filename for member in members]
    try:
        decoded = _decode(b"\n".join(foreign.values())).split("\n")
    except UnicodeDecodeError:
        return names
    if len(decoded) == len(foreign):
        for number, name in zip(foreign, decoded, strict=True):
            names[number] = name
    return names


def _decode(names: bytes) -> str:
    """Too few for certainty they may still be GB2312: the bytes of its characters are seldom letters elsewhere."""
    try:
        return decode(names)
    except UnreadableDocument:
        return names.decode("gb2312")


def _raw_name(member: zipfile.ZipInfo) -> bytes | None:
    """The bytes of a name that does not say how it is encoded."""
    if member.flag_bits & _UTF8_NAME or member.filename.isascii():
        return None
    try:
        return member.filename.encode("cp437").replace(b"\n", b" ")
    except UnicodeEncodeError:  # it came from the field for Unicode names, APPNOTE 4.6.9
        return None


def _check(entries: list[Entry], packed: int, limits: ArchiveLimits) -> None:
    if not entries:
        raise UnreadableDocument("There are no files in the archive.")
    if len(entries) > limits.max_files:
        raise UnreadableDocument(
            f"There are {len(entries)} files in the archive, more than {limits.max_files}.",
            hint="Split it, or raise RAG_SERVER__MAX_ARCHIVE_FILES.",
        )
    expanded = sum(entry.member.file_size for entry in entries)
    if expanded > limits.max_bytes:
        raise UnreadableDocument(
            f"The files in the archive have {expanded} bytes, more than {limits.max_bytes}.",
            hint="Split it, or raise RAG_SERVER__MAX_ARCHIVE_MB.",
        )
    if expanded > max(_RATIO_MATTERS, _MAX_RATIO * packed):
        raise UnreadableDocument(
            f"The archive expands from {packed} to {expanded} bytes, which no ordinary documents do.",
            hint="If it is genuine, upload the files without it.",
        )


def _check_entry(entry: Entry) -> None:
    name, member = entry.name, entry.member
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UnreadableDocument(
            f"{name} is a link, not a file.", hint="Put the file itself into the archive."
        )
    if member.flag_bits & _ENCRYPTED:
        raise UnreadableDocument(f"{name} is encrypted.", hint="Make the archive without a password.")
    # The other methods take memory as the archive asks for, up to 4 GiB.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableDocument(
            f"{name} is packed by a method that is not unpacked here.", hint="Make an ordinary ZIP (deflate)."
        )


def _check_list(path: Path, limits: ArchiveLimits) -> None:
    length = list_length(path)
    if length > _LIST_BYTES * limits.max_files:
        raise UnreadableDocument(
            f"The archive's list of files has {length} bytes, too many for {limits.max_files} files.",
            hint="Split it, or raise RAG_SERVER__MAX_ARCHIVE_FILES.",
        )


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise UnreadableDocument(f"The archive is damaged: {error}.", hint="Make it again.") from error
