"""The default chunker for documents full of tables: no row is parted from its table's header row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from core.text import weight
from core.types import ParsedDocument, Span
from ingest.chunkers.base import Piece
from ingest.chunkers.packing import Packer, readable_regions


class TableAwareChunker:
    """Packs sentences like the default one, but a table that fits is never cut, and one that does not is cut between
    rows, each further piece with the header row as `head`.

    A table is two or more neighbouring lines that begin with `|`, as all parsers write tables; its first line is the
    header row. (Sheets with named columns need no such care: every row of theirs names its columns.)
    """

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    @property
    def name(self) -> str:
        return f"table-aware-{self._packer.limit:g}-{self._packer.max_tokens}"

    async def cut(self, document: ParsedDocument) -> list[Piece]:
        return [
            piece for region in readable_regions(document) for piece in self._of_region(document.text, region)
        ]

    def _of_region(self, text: str, region: Span) -> Iterator[Piece]:
        ready: list[Span] = []  # sentences and whole tables that wait to be packed
        for is_table, lines in _blocks(text, region):
            block = Span(lines[0].start, lines[-1].end)
            if not is_table:
                ready += self._packer.pieces(text, block)
            elif self._packer.fits(text, block.start, block.end):
                ready.append(block)
            else:
                yield from self._packed(text, ready)
                ready = []
                yield from self._rows(text, lines)
        yield from self._packed(text, ready)

    def _packed(self, text: str, ready: Sequence[Span]) -> Iterator[Piece]:
        return (Piece(span) for span in self._packer.join(text, ready))

    def _rows(self, text: str, rows: Sequence[Span]) -> Iterator[Piece]:
        """A long table in pieces; the first begins with the header row itself."""
        head = text[rows[0].start : rows[0].end]
        limit, most = self._packer.limit, self._packer.max_tokens
        room = replace(  # at least half of it, however long the header row is
            self._packer,
            limit=max(limit - weight(head), limit / 2),
            max_tokens=max(most - self._packer.count_tokens(head), most // 2),
        )
        fitting = [piece for row in rows for piece in room.pieces(text, row)]
        for number, span in enumerate(room.join(text, fitting)):
            yield Piece(span, head=head if number else "")


def _blocks(text: str, region: Span) -> Iterator[tuple[bool, list[Span]]]:
    """The region's lines in groups: those of a table (True), and all other text between tables."""
    for is_table, lines in groupby(_lines(text, region), key=lambda line: text[line.start] == "|"):
        group = list(lines)
        yield is_table and len(group) > 1, group


def _lines(text: str, region: Span) -> Iterator[Span]:
    """The lines that are not blank, trimmed of white space."""
    start = region.start
    while start < region.end:
        stop = text.find("\n", start, region.end)
        stop = region.end if stop < 0 else stop
        line = text[start:stop]
        if line.strip():
            begin = start + len(line) - len(line.lstrip())
            yield Span(begin, start + len(line.rstrip()))
        start = stop + 1
