"""One chunk for each page or slide: for slides, forms and reports whose pages are units of sense."""

from __future__ import annotations

from collections.abc import Iterator

from core.types import ParsedDocument, Span
from ingest.chunkers.base import Piece
from ingest.chunkers.packing import Packer, readable_regions, trimmed


class PageChunker:
    """A page that fits is one chunk, whatever sections it holds; a longer one is cut at sentences.

    What lies outside of pages, and every document of a format without pages, is cut as the default strategy does.
    """

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    @property
    def name(self) -> str:
        return f"page-{self._packer.limit:g}-{self._packer.max_tokens}"

    async def cut(self, document: ParsedDocument) -> list[Piece]:
        text = document.text
        if not document.pages:
            spans = [s for region in readable_regions(document) for s in self._packer.pack(text, region)]
            return [Piece(span) for span in spans]
        return [Piece(span) for region in _pages(document) for span in self._packer.pack_whole(text, region)]


def _pages(document: ParsedDocument) -> Iterator[Span]:
    """The pages, and what lies before, between and behind them."""
    at = 0
    for page in document.pages:
        for span in (Span(at, page.span.start), page.span):
            if found := trimmed(document.text, span):
                yield found
        at = max(at, page.span.end)
    if rest := trimmed(document.text, Span(at, len(document.text))):
        yield rest
