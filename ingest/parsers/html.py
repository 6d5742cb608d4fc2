"""How is a web page read? Its main text without navigation and scripts; headings become sections.

White space is collapsed as browsers do (https://www.w3.org/TR/css-text-3/#line-break-transform): a line break
in the source is a blank, but nothing between two Chinese characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers.base import (
    LINE,
    PARAGRAPH,
    Format,
    Limits,
    TextBuilder,
    clean,
    read_bytes,
    table_row,
)
from ingest.parsers.encoding import decode
from ingest.parsers.sniff import is_text

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_DECLARED = re.compile(
    rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9._:-]+)|<\?xml[^>]*encoding=[\"']([\w.-]+)", re.I
)
_DECLARED_WITHIN = 4096  # bytes; the standard says 1024, real pages are sloppier
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")

_NOT_TEXT = frozenset(
    "script style noscript template svg math canvas iframe object embed audio video head nav footer aside form "
    "button select input textarea dialog menu rt rp".split()
)
_BOILERPLATE_ROLES = frozenset(
    ("navigation", "banner", "contentinfo", "search", "complementary", "menu", "alert")
)
# Whole words of `class` or `id` that name what no reader came for; the second line has makers of cookie banners.
_BOILERPLATE_NAMES = re.compile(
    "(?:cookie|gdpr|consent)s?[-_]?(?:banner|bar|consent|container|dialog|info|law|manager|message|modal|notice|overlay"
    "|popup|prompt|settings|wall)[\\w-]*|onetrust[\\w-]*|cybotcookiebot\\w*|cc-window|usercentrics-root|didomi-host"
    "|breadcrumbs?|pagination|skip-?(?:link|nav|to-content)|share-?(?:bar|buttons|links)|social-?(?:icons|links|share)"
    "|site-(?:header|footer)|related-(?:articles|posts)|newsletter-(?:form|signup)|advert(?:isement)?s?",
    re.I,
)
_NAMED_SHARE = 0.3  # of the page's text: what holds more is the page itself, whatever it is called
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "address article blockquote body caption center dd details div dl dt fieldset figcaption figure header hgroup "
    "hr html legend li main ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
_MAIN_SHARE = 0.3  # of the page's text must be in <main> or <article> to be all that counts

_EAST_ASIAN = "[\u2e80-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]"
_BREAK_IN_CHINESE = re.compile(rf"(?<={_EAST_ASIAN})[ \t]*\n\s*(?={_EAST_ASIAN})")
_WHITE = re.compile(r"[ \t\n\u00a0]+")
_KEPT_BREAK = "\ue000"  # stands for <br> while other line breaks collapse


def _read(path: Path, limits: Limits) -> ParsedDocument:
    data = read_bytes(path, limits)
    builder = TextBuilder(limits)
    source = clean(decode(data, declared=declared_encoding(data)))
    if not source.strip():
        return builder.build()
    page = page_of(source)
    title = page.findtext(".//title")
    add_page(builder, page)
    return builder.build(title)


def declared_encoding(data: bytes) -> str | None:
    """The encoding that a page names itself."""
    found = _DECLARED.search(data[:_DECLARED_WITHIN])
    return (found[1] or found[2]).decode() if found else None


def page_of(source: str) -> HtmlElement:
    """A web page as a tree. Raises `UnreadableDocument` if it nests so deeply that some of it would be missing."""
    from lxml.html import HTMLParser, document_fromstring  # noqa: PLC0415  # only web pages need it

    parser = HTMLParser(huge_tree=True)
    source = _XML_DECLARATION.sub("", source, count=1).replace(_KEPT_BREAK, "")
    page = document_fromstring(source if source.strip() else "<p></p>", parser=parser)
    # libxml2 mends bad markup, but where it gives up the rest of the page is missing.
    if any(entry.level_name == "FATAL" for entry in parser.error_log):
        raise UnreadableDocument(
            "The page is nested too deeply.", hint="Save it from a browser as plain text or PDF."
        )
    return page


def add_page(builder: TextBuilder, page: HtmlElement) -> None:
    """Append the main text of a page, whose tree is changed on the way."""
    _drop_boilerplate(page)
    _Walk(builder).through(_main_part(page))


def _drop_boilerplate(page: HtmlElement) -> None:
    for element in list(page.iter()):
        if not isinstance(element.tag, str) or _is_boilerplate(element):
            _drop(element)
    most = _NAMED_SHARE * len(page.text_content())
    for element in list(page.iter()):
        if _is_named_boilerplate(element) and len(element.text_content()) < most:
            _drop(element)


def _is_named_boilerplate(element: HtmlElement) -> bool:
    if element.tag in ("html", "body", "main", "article", *_HEADINGS):
        return False
    names = f"{element.get('class') or ''} {element.get('id') or ''}".split()
    return any(map(_BOILERPLATE_NAMES.fullmatch, names))


def _drop(element: HtmlElement) -> None:
    """Remove an element but not the text that follows it. A comment or a root stays out of the way."""
    if element.getparent() is not None:
        element.drop_tree()


def _is_boilerplate(element: HtmlElement) -> bool:
    style = (element.get("style") or "").replace(" ", "").lower()
    return (
        element.tag in _NOT_TEXT
        or (element.get("role") or "").lower() in _BOILERPLATE_ROLES
        or element.get("hidden") is not None
        or (element.get("aria-hidden") or "").lower() == "true"
        or "display:none" in style
        or element.get("hreflang") is not None  # the list of the page's other languages
        or "mw-editsection" in (element.get("class") or "")  # "[edit]" beside each heading of a wiki
        or (element.tag == "header" and _is_of_the_site(element))
    )


def _is_of_the_site(header: HtmlElement) -> bool:
    """Whether this is no article's header: it stands on the page itself, or outside articles and without a title."""
    parent = header.getparent()
    if parent is None or parent.tag == "body":
        return parent is not None
    inside = any(True for _ in header.iterancestors("article", "main", "section"))
    return not inside and header.find(".//h1") is None


def _main_part(page: HtmlElement) -> HtmlElement:
    """`<main>`, or a single `<article>`, if it holds a good part of the text; else the whole page."""
    candidates = page.xpath("//main | //*[@role='main']") or page.xpath("//article")
    if len(candidates) != 1:
        return page
    share = len(candidates[0].text_content()) / max(1, len(page.text_content()))
    return candidates[0] if share >= _MAIN_SHARE else page


class _Walk:
    """Goes through the elements in order and gathers their text into blocks. Not recursive: pages nest deep."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._inline: list[str] = []
        self._gap = PARAGRAPH

    def through(self, root: HtmlElement) -> None:
        from lxml.etree import iterwalk  # noqa: PLC0415  # see above

        walker = iterwalk(root, events=("start", "end"))
        for event, element in walker:
            if event == "end":
                self._leave(element)
                self._inline.append(element.tail or "")
            elif self._taken_whole(element):
                walker.skip_subtree()
            else:
                self._enter(element)
        self._flush()

    def _taken_whole(self, element: HtmlElement) -> bool:
        """Headings, code and tables of plain cells are read at once."""
        if element.tag in _HEADINGS:
            self._flush()
            self._builder.heading(_HEADINGS[element.tag], _collapse(_content(element)).replace("\n", " "))
        elif element.tag == "pre":
            self._flush()
            self._builder.add(_content(element).replace(_KEPT_BREAK, "\n"))
        elif element.tag == "table" and _is_data_table(element):
            self._flush()
            self._builder.add("\n".join(_rows(element)))
        elif element.tag == "br":
            self._inline.append(_KEPT_BREAK)
        else:
            return False
        return True

    def _enter(self, element: HtmlElement) -> None:
        if element.tag in _BLOCKS:
            self._flush()
            self._gap = LINE if element.tag in ("li", "dt", "dd", "tr") else PARAGRAPH
        if element.tag == "li":
            self._inline.append("- ")
        self._inline.append(element.text or "")

    def _leave(self, element: HtmlElement) -> None:
        if element.tag in _BLOCKS:
            self._flush()

    def _flush(self) -> None:
        text = _collapse("".join(self._inline))
        self._inline.clear()
        if text and text != "-":
            self._builder.add(text, gap=self._gap)
            self._gap = PARAGRAPH


def _content(element: HtmlElement) -> str:
    """All text inside, with a mark for each `<br>`."""
    return "".join(_pieces(element))


def _pieces(root: HtmlElement) -> Iterator[str]:
    from lxml.etree import iterwalk  # noqa: PLC0415  # see above

    for event, element in iterwalk(root, events=("start", "end")):
        if event == "end":
            yield (element.tail or "") if element is not root else ""
        else:
            yield _KEPT_BREAK if element.tag == "br" else "\n" if element.tag in _BLOCKS else ""
            yield element.text or ""


def _collapse(text: str) -> str:
    text = _WHITE.sub(" ", _BREAK_IN_CHINESE.sub("", text))
    return "\n".join(line.strip() for line in text.split(_KEPT_BREAK)).strip()


def _is_data_table(table: HtmlElement) -> bool:
    """A table of plain cells; one with headings, lists or tables inside was made for the layout."""
    return not table.xpath(".//table | .//h1 | .//h2 | .//h3 | .//h4 | .//pre | .//article | .//section")


def _rows(table: HtmlElement) -> Iterator[str]:
    for caption in table.iterchildren("caption"):
        yield _collapse(_content(caption)).replace("\n", " ")
    for row in table.iter("tr"):
        line = table_row(_collapse(_content(cell)) for cell in row.iterchildren("td", "th"))
        if line:
            yield line


HTML = Format(
    name="HTML",
    label="an HTML page",
    extensions=(".html", ".htm", ".xhtml"),
    mime_types=("text/html", "application/xhtml+xml"),
    recognises=is_text,
    read=_read,
)
