"""Which parser reads this file? Its name and its content must agree.

A new format is a new file in this folder and one line in `FORMATS`.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePath

from core.errors import RagError, UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers.audio import AUDIO
from ingest.parsers.base import Content, Format, Limits
from ingest.parsers.code import CODE
from ingest.parsers.csv import CSV
from ingest.parsers.docx import DOCX
from ingest.parsers.epub import EPUB
from ingest.parsers.html import HTML
from ingest.parsers.image import IMAGE
from ingest.parsers.mail import MAIL
from ingest.parsers.markdown import MARKDOWN
from ingest.parsers.ocr import NeedsRecognition
from ingest.parsers.pdf import PDF
from ingest.parsers.pptx import PPTX
from ingest.parsers.rtf import RTF
from ingest.parsers.sniff import OLE, content_of, is_html_page, signature_of
from ingest.parsers.text import TEXT
from ingest.parsers.xlsx import XLSX

__all__ = ["FORMATS", "ZIP_EXTENSION", "Format", "Limits", "NeedsRecognition", "parse", "sniff"]

# In this order a file without extension is tried.
FORMATS = (PDF, DOCX, PPTX, XLSX, EPUB, RTF, IMAGE, TEXT, HTML, MARKDOWN, CSV, MAIL, CODE, AUDIO)

ZIP_EXTENSION = ".zip"  # `ingest.archive` unpacks them

_log = logging.getLogger(__name__)
# Old Office formats, and encrypted new ones, are both OLE containers.
_SAVE_AS = {
    ".doc": ".docx",
    ".dot": ".docx",
    ".ppt": ".pptx",
    ".pps": ".pptx",
    ".xls": ".xlsx",
    ".xlt": ".xlsx",
}


def parse(path: Path, name: str, limits: Limits) -> ParsedDocument:
    """Read the file at `path`, which the user calls `name`, into text with pages and sections.

    Raises `UnreadableDocument`, in words for the user, whatever is wrong with the file.
    """
    found = sniff(path, name)
    try:
        return found.read(path, limits)
    except NeedsRecognition:
        raise
    except UnreadableDocument as error:
        raise UnreadableDocument(f"{name}: {error.message}", hint=error.hint) from error
    except (RagError, MemoryError, RecursionError):
        raise
    except Exception as error:
        # Each library has its own zoo of errors for files that are not what they should be.
        _log.warning("%s could not be read as %s", name, found.name, exc_info=True)
        raise UnreadableDocument(
            f"{name} is damaged: it cannot be read as {found.name} ({type(error).__name__}: {error}).",
            hint="Open it in the program it was made with and save it again.",
        ) from error


def sniff(path: Path, name: str) -> Format:
    """The format of a file, by its content and by the extension of `name`.

    Raises `UnreadableDocument` if it is empty, of no supported format, or not what its name says.
    """
    content = content_of(path)
    if not content.head:
        raise UnreadableDocument(f"{name} is empty.")
    extension = PurePath(name).suffix.lower()
    if content.head.startswith(OLE) or extension in _SAVE_AS:
        raise _old_office(name, extension, content)
    if not extension:
        return _by_content(name, content)
    for candidate in FORMATS:
        if extension in candidate.extensions:
            if candidate.recognises(content):
                return candidate
            raise UnreadableDocument(
                f"{name} is named like {candidate.label}, but its content looks like {_looks_like(content)}.",
                hint="Give it the extension of its real type, or save it again.",
            )
    if extension == ZIP_EXTENSION:
        raise UnreadableDocument(
            f"{name} is an archive inside an archive, which is not opened.", hint="Upload it by itself."
        )
    raise UnreadableDocument(f"{name}: files of type {extension} cannot be read.", hint=_supported())


def _by_content(name: str, content: Content) -> Format:
    for candidate in FORMATS:
        if candidate.recognises(content):
            return candidate
    raise UnreadableDocument(f"{name} looks like {_looks_like(content)}.", hint=_supported())


def _looks_like(content: Content) -> str:
    for candidate in (PDF, DOCX, PPTX, XLSX, EPUB):
        if candidate.recognises(content):
            return candidate.label
    if is_html_page(content):
        return HTML.label
    return signature_of(content) or TEXT.label


def _old_office(name: str, extension: str, content: Content) -> UnreadableDocument:
    if extension in (".docx", ".pptx", ".xlsx", ".xlsm"):
        return UnreadableDocument(
            f"{name} is encrypted with a password, or an old Office file under a new name.",
            hint=f"Open it in an office program and save it as {extension} without a password.",
        )
    if extension in _SAVE_AS:
        return UnreadableDocument(
            f"{name} is of the old Office format {extension}, which cannot be read.",
            hint=f"Open it in an office program and save as {_SAVE_AS[extension]}.",
        )
    return UnreadableDocument(f"{name} looks like {_looks_like(content)}.", hint=_supported())


def _supported() -> str:
    extensions = [extension for known in FORMATS for extension in known.extensions]
    return f"Supported are {', '.join([*extensions, ZIP_EXTENSION])}."
