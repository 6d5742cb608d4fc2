"""How is an e-book (EPUB) read? Its chapters in reading order, each read as the web page that it is.

A chapter without headings becomes a section by its title in the table of contents.
https://www.w3.org/TR/epub-33/ (container.xml, package document, spine, navigation document)
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers.base import Content, Format, Limits, TextBuilder, clean
from ingest.parsers.encoding import decode
from ingest.parsers.html import add_page, declared_encoding, page_of
from ingest.parsers.office import check_archive

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_MIME = b"application/epub+zip"  # the first member, stored uncompressed, holds it: 38 bytes into the file
_CONTAINER = "META-INF/container.xml"
_ENCRYPTED = "META-INF/encryption.xml"
_CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def _recognises(content: Content) -> bool:
    return content.is_zip and _MIME in content.head[:100]


def _read(path: Path, limits: Limits) -> ParsedDocument:
    check_archive(path, limits, xml=False)
    with zipfile.ZipFile(path) as archive:
        book = _Book(archive)
        builder = TextBuilder(limits)
        for name, title in book.chapters():
            _add_chapter(builder, archive.read(name), title)
        if not builder.length and _ENCRYPTED in archive.namelist():
            raise UnreadableDocument("The e-book is encrypted (DRM).", hint="Upload a copy without it.")
        return builder.build(book.title)


def _add_chapter(builder: TextBuilder, data: bytes, title: str | None) -> None:
    builder.end_section()
    source = clean(decode(data, declared=declared_encoding(data)))
    if not source.strip():
        return
    page = page_of(source)
    if title and not page.xpath("//h1 | //h2 | //h3 | //h4 | //h5 | //h6"):
        builder.heading(1, title)
    add_page(builder, page)


class _Book:
    """The package document: what is in the book and in which order."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._there = frozenset(archive.namelist())
        rootfile = next(_elements(self._xml(_CONTAINER), "rootfile"), None)
        if rootfile is None:
            raise UnreadableDocument(
                "The e-book does not say where its contents are.", hint="Convert it to PDF."
            )
        self._package_name = rootfile.get("full-path", "")
        self._package = self._xml(self._package_name)
        self._items = {item.get("id", ""): item for item in _elements(self._package, "item")}

    @property
    def title(self) -> str | None:
        return next((element.text for element in _elements(self._package, "title")), None)

    def chapters(self) -> Iterator[tuple[str, str | None]]:
        """The member and the title, if it has one, of each chapter in reading order."""
        titles = self._titles()
        left = set(self._there)  # the standard forbids to name a chapter twice
        for reference in _elements(self._package, "itemref"):
            item = self._items.get(reference.get("idref", ""))
            if item is None or item.get("media-type") not in _CHAPTER_TYPES:
                continue
            if "nav" in item.get("properties", "").split():
                continue  # the table of contents
            name = self._member(self._package_name, item.get("href", ""))
            if name in left:
                left.remove(name)
                yield name, titles.get(name)

    def _titles(self) -> dict[str, str]:
        """The titles by member, of the navigation document (EPUB 3) or of the NCX (EPUB 2)."""
        titles: dict[str, str] = {}
        for item in self._items.values():
            name = self._member(self._package_name, item.get("href", ""))
            if name not in self._there:
                continue
            if "nav" in item.get("properties", "").split():
                links = [
                    (a.get("href", ""), "".join(map(str, a.itertext())))
                    for a in _elements(self._xml(name), "a")
                ]
            elif item.get("media-type") == "application/x-dtbncx+xml":
                links = [_ncx_link(point) for point in _elements(self._xml(name), "navPoint")]
            else:
                continue
            for href, title in links:
                titles.setdefault(self._member(name, href), title.strip())
        return titles

    def _member(self, base: str, href: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(urldefrag(href)[0])))

    def _xml(self, name: str) -> Element:
        """A member as XML. Entities are not expanded and nothing is loaded from elsewhere."""
        from lxml.etree import XMLParser, fromstring  # noqa: PLC0415  # only e-books and web pages need it

        parser = XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
        root = fromstring(self._archive.read(name), parser)
        if root is None:
            raise UnreadableDocument(f"The part {name} of the e-book is damaged.", hint="Convert it to PDF.")
        return root


def _elements(root: Element, name: str) -> Iterator[Element]:
    """Elements of this local name, whatever their namespace."""
    return root.iter(f"{{*}}{name}")


def _ncx_link(point: Element) -> tuple[str, str]:
    content = next(_elements(point, "content"), None)
    label = next(_elements(point, "text"), None)
    return "" if content is None else content.get("src", ""), "" if label is None else label.text or ""


EPUB = Format(
    name="EPUB",
    label="an e-book",
    extensions=(".epub",),
    mime_types=("application/epub+zip",),
    recognises=_recognises,
    read=_read,
)
