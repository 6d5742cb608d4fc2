"""Chunks that follow the tree of headings: the largest subtree that fits is one chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.types import ParsedDocument, Section, Span
from ingest.chunkers.base import Piece
from ingest.chunkers.packing import Packer, readable_regions, trimmed


class HeadingTreeChunker:
    """Keeps a section and all its subsections together if they fit, else goes down the tree.

    Many short sections so become few chunks that begin with their common heading; a section without subsections
    that is too long is cut at sentences. A document without headings is cut at sentences throughout.
    """

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    @property
    def name(self) -> str:
        return f"heading-tree-{self._packer.limit:g}-{self._packer.max_tokens}"

    async def cut(self, document: ParsedDocument) -> list[Piece]:
        text, whole = document.text, dict(self._subtrees(document))
        regions = {region.start: region for region in readable_regions(document)}
        pieces: list[Piece] = []
        done = 0  # up to here the text is in a chunk
        for start in sorted({*regions, *whole}):
            if start in whole:
                pieces.append(Piece(whole[start]))
                done = whole[start].end
            elif start >= done:
                pieces += [Piece(span) for span in self._packer.pack(text, regions[start])]
        return pieces

    def _subtrees(self, document: ParsedDocument) -> Iterator[tuple[int, Span]]:
        """The outermost subtrees that fit, by the place at which their section begins."""
        done = 0
        for number, section in enumerate(document.sections):
            if section.span.start < done:
                continue
            end = _end_of_subtree(document.sections, number)
            span = trimmed(document.text, Span(section.span.start, end))
            if span is not None and self._packer.fits(document.text, span.start, span.end):
                yield section.span.start, span
                done = end


def _end_of_subtree(sections: Sequence[Section], number: int) -> int:
    """Where the last subsection below section `number` ends."""
    path, end = sections[number].path, sections[number].span.end
    for following in sections[number + 1 :]:
        if following.path[: len(path)] != path or following.path == path or following.span.start != end:
            break
        end = following.span.end
    return end
