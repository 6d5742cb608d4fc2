"""How is Markdown read? The source stays as it is; its headings become sections.

https://spec.commonmark.org decides what a heading is: a `#` in a fenced code block is none.
"""

from __future__ import annotations

import re
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from core.types import ParsedDocument
from ingest.parsers.base import Format, Limits, TextBuilder, read_bytes, tidy
from ingest.parsers.encoding import decode
from ingest.parsers.sniff import is_text

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# Metadata between two lines of three hyphens at the very top, as static site generators have it.
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.M | re.I)


def _read(path: Path, limits: Limits) -> ParsedDocument:
    builder = TextBuilder(limits)
    text = tidy(decode(read_bytes(path, limits)))
    builder.add(text)
    front = _FRONT_MATTER.match(text)
    body_start = front.end() if front else 0
    headings = _headings(text[body_start:])
    for level, title, offset in headings:
        builder.section(level, title, body_start + offset)
    return builder.build(_title(front[0] if front else "", headings))


def _headings(body: str) -> list[tuple[int, str, int]]:
    """(level, title, offset of its line) of each heading that is not inside a quote or a list."""
    from markdown_it import MarkdownIt  # noqa: PLC0415  # only Markdown needs it

    parser = MarkdownIt("commonmark")
    # Paragraphs need no inline parsing; titles get it one by one.
    blocks = parser.disable("inline").parse(body)
    parser.enable("inline")
    starts = [0, *accumulate(len(line) + 1 for line in body.split("\n"))]
    found = []
    for token, inline in pairwise(blocks):
        if token.type == "heading_open" and token.level == 0 and token.map and inline.content:
            found.append((int(token.tag[1]), _plain(parser, inline.content), starts[token.map[0]]))
    return found


def _plain(parser: MarkdownIt, source: str) -> str:
    """The text of a title without its markup."""
    tokens = parser.parseInline(source)[0].children or []
    return "".join(_token_text(token) for token in tokens) or source


def _token_text(token: Token) -> str:
    return " " if token.type in ("softbreak", "hardbreak") else token.content


def _title(front_matter: str, headings: list[tuple[int, str, int]]) -> str | None:
    """The title of the front matter, else the first heading if it is the only one of level 1."""
    named = _FRONT_TITLE.search(front_matter)
    if named:
        return named[1].strip("\"'")
    outermost = [title for level, title, _ in headings if level == 1]
    return outermost[0] if len(outermost) == 1 and headings[0][0] == 1 else None


MARKDOWN = Format(
    name="Markdown",
    label="Markdown",
    extensions=(".md", ".markdown", ".mdx"),
    mime_types=("text/markdown", "text/x-markdown"),
    recognises=is_text,
    read=_read,
)
