"""What do a file's bytes look like, whatever its name says?"""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

from ingest.parsers.base import Content

_HEAD = 64 * 1024  # bytes
_MAX_TYPES = 2**20  # bytes of [Content_Types].xml; real ones have a few KiB

# The ends of a ZIP: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.14 to 4.3.16
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = 20  # bytes
_LONGEST_COMMENT = 0xFFFF
_MAX_LIST = 2 * 2**20  # bytes of the list of parts: 25,000 of them

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

# First bytes of what people upload by mistake: https://en.wikipedia.org/wiki/List_of_file_signatures
_SIGNATURES = (
    (OLE, "an old Office file (.doc, .xls, .ppt, .msg)"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"ID3", "an MP3 recording"),
    (b"RIFF", "an image, a sound or a video (RIFF)"),
    (b"OggS", "an Ogg recording"),
)
_MAKES_VIDEO = b"ftyp"  # after four bytes of length
# Atomic and possessive: else n comments before something else can be read in 2^n ways, all of which are tried.
_HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml[^>]*+>\s*+)?(?:(?><!--.*?-->)\s*+)*+<(?:!doctype\s+html|html)[\s>]",
    re.I | re.S,
)


def content_of(path: Path) -> Content:
    """Look at a file's first bytes and, in a ZIP, at the list of Office part types. Never raises for content."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    is_zip = head.startswith(b"PK\x03\x04")
    return Content(head, is_zip, _office_types(path) if is_zip else "")


def _office_types(path: Path) -> str:
    try:
        if list_length(path) > _MAX_LIST:
            return ""
        with zipfile.ZipFile(path) as archive, archive.open("[Content_Types].xml") as stream:
            return stream.read(_MAX_TYPES).decode("utf-8", errors="replace")
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, NotImplementedError, RuntimeError, ValueError):
        return ""


def list_length(path: Path) -> int:
    """The length in bytes of a ZIP's list of files, as `zipfile` will read it: it needs ten times that in memory.

    Raises `BadZipFile` if there is none.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _END.size - _LONGEST_COMMENT - _LOCATOR64 - _END64.size))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise zipfile.BadZipFile("it has no list of files")
    at64 = at - _LOCATOR64 - _END64.size
    if at64 >= 0 and tail[at64 : at64 + 4] == b"PK\x06\x06":
        return int(_END64.unpack_from(tail, at64)[8])
    return int(_END.unpack_from(tail, at)[5])


def signature_of(content: Content) -> str | None:
    """In words what the content is ("a PNG image"); None if it may be text."""
    for signature, label in _SIGNATURES:
        if content.head.startswith(signature):
            return label
    return "a video" if content.head[4:8] == _MAKES_VIDEO else None


def is_text(content: Content) -> bool:
    """Whether nothing speaks against text; `decode` has the last word."""
    return signature_of(content) is None


def is_html_page(content: Content) -> bool:
    return _HTML_START.match(content.head) is not None
