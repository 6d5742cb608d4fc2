"""How is a Word document read? Paragraphs and tables in their order; headings become sections.

The XML is walked rather than python-docx's paragraphs, which leave out content controls, links' texts inside
them and tracked insertions. https://ecma-international.org/publications-and-standards/standards/ecma-376/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core.types import ParsedDocument
from ingest.parsers.base import LINE, PARAGRAPH, Content, Format, Limits, TextBuilder, table_row
from ingest.parsers.office import check_archive, is_office

if TYPE_CHECKING:
    from docx.document import Document
    from lxml.etree import _Element as Element

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# Heading styles by name, as Word writes them in other languages and WPS in Chinese.
_HEADING_NAME = re.compile(
    r"(?:heading|标题|標題|見出し|제목|titre|überschrift|título|titolo|kop|заголовок)\s*([1-9])", re.I
)
_TITLE_NAMES = ("title", "标题", "標題", "表題", "제목")
_BODY_LEVEL = 9  # w:outlineLvl counts from 0, 9 is body text
_WRITTEN_AS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
# Deleted text, the second version of a drawing, and text that lies elsewhere on the page.
_LEFT_OUT = (f"{_W}del", f"{_W}moveFrom", _FALLBACK, f"{_W}instrText", f"{_W}pPr", f"{_W}rPr")


def _recognises(content: Content) -> bool:
    return is_office(content, "wordprocessingml.document")


def _read(path: Path, limits: Limits) -> ParsedDocument:
    check_archive(path, limits)
    from docx import Document  # noqa: PLC0415  # only Word documents need it

    document = Document(str(path))
    styles = _Styles(document)
    builder = TextBuilder(limits)
    title = None
    for element in _blocks(document.element.body):
        if element.tag == f"{_W}tbl":
            builder.add("\n".join(_table(element)))
            continue
        text, style = _text(element), _style_id(element)
        level = styles.level_of(element)
        if level and text.strip():
            builder.heading(level, text)
        else:
            builder.add(text, gap=LINE if _is_list_item(element) else PARAGRAPH)
        if title is None and styles.is_title(style):
            title = text
    return builder.build(title or document.core_properties.title)


class _Styles:
    """Which paragraph styles are headings, and of which level: by name or by outline level, inherited."""

    def __init__(self, document: Document) -> None:
        by_id = {style.style_id: style.element for style in document.styles}
        self._levels = {style_id: _style_level(element, by_id) for style_id, element in by_id.items()}
        self._titles = {
            style_id
            for style_id, element in by_id.items()
            if (_value(element, "name") or "").lower() in _TITLE_NAMES
        }

    def level_of(self, paragraph: Element) -> int | None:
        """The heading level of a paragraph, from 1; None for body text."""
        own = _outline_level(paragraph)
        level = self._levels.get(_style_id(paragraph)) if own is None else own
        return level or None

    def is_title(self, style_id: str) -> bool:
        return style_id in self._titles


def _style_level(style: Element, by_id: dict[str, Element]) -> int | None:
    """The heading level of a style: its own, else that of the style it is based on."""
    seen: set[str] = set()
    current: Element | None = style
    while current is not None:
        named = _HEADING_NAME.fullmatch(_value(current, "name") or "")
        level = int(named[1]) if named else _outline_level(current)
        base = _value(current, "basedOn") or ""
        if level is not None or base in seen:
            return level
        seen.add(base)
        current = by_id.get(base)
    return None


def _blocks(parent: Element) -> Iterator[Element]:
    """Paragraphs and tables in order, those inside content controls and tracked insertions too."""
    for child in parent:
        if child.tag in (f"{_W}p", f"{_W}tbl"):
            yield child
        elif child.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml", f"{_W}smartTag"):
            yield from _blocks(child)


def _text(element: Element) -> str:
    """The visible text below an element."""
    return "".join(_pieces(element))


def _pieces(element: Element) -> Iterator[str]:
    for child in element:
        if child.tag in _LEFT_OUT:
            continue
        name = child.tag.removeprefix(_W) if isinstance(child.tag, str) else ""
        if name == "t":
            yield child.text or ""
        elif name in _WRITTEN_AS:
            yield _WRITTEN_AS[name]
        elif name == "p":  # of a text box, anchored in this paragraph
            yield "\n" + _text(child)
        else:
            yield from _pieces(child)


def _table(table: Element) -> Iterator[str]:
    """Each row as a line; a table inside a cell is part of the cell's text."""
    for row in _children(table, "tr"):
        line = table_row(_text(cell) for cell in _children(row, "tc"))
        if line:
            yield line


def _children(parent: Element, name: str) -> Iterator[Element]:
    """Children of this name, those inside content controls too."""
    for child in parent:
        if child.tag == _W + name:
            yield child
        elif child.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins"):
            yield from _children(child, name)


def _style_id(paragraph: Element) -> str:
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return "" if style is None else style.get(f"{_W}val", "")


def _is_list_item(paragraph: Element) -> bool:
    return paragraph.find(f"{_W}pPr/{_W}numPr") is not None


def _outline_level(element: Element) -> int | None:
    """The outline level that a paragraph or style sets itself: from 1, 0 for body text, None if it sets none."""
    level = element.find(f"{_W}pPr/{_W}outlineLvl")
    value = "" if level is None else level.get(f"{_W}val", "")
    if not value.isdecimal():
        return None
    return 0 if int(value) >= _BODY_LEVEL else int(value) + 1


def _value(element: Element, name: str) -> str | None:
    child = element.find(_W + name)
    return None if child is None else child.get(f"{_W}val")


DOCX = Format(
    name="DOCX",
    label="a Word document",
    extensions=(".docx",),
    mime_types=("application/vnd.openxmlformats-officedocument.wordprocessingml.document",),
    recognises=_recognises,
    read=_read,
)
