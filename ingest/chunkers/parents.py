"""Small chunks are found more exactly, large ones tell more: search the child, read the parent."""

from __future__ import annotations

from dataclasses import replace

from core.types import ParsedDocument
from ingest.chunkers.base import Piece
from ingest.chunkers.packing import Packer, readable_regions


class ParentChildChunker:
    """Packs sentences into parents, as the default chunker does, and each parent's sentences into children.

    Children are embedded and searched; a parent goes into the prompt in the place of its children that were found.
    """

    def __init__(self, packer: Packer, *, child_characters: int) -> None:
        self._parents = packer
        self._children = replace(packer, limit=float(child_characters))

    @property
    def name(self) -> str:
        return f"parent-child-{self._parents.limit:g}-{self._children.limit:g}-{self._parents.max_tokens}"

    async def cut(self, document: ParsedDocument) -> list[Piece]:
        text = document.text
        return [
            Piece(child, parent=parent)
            for region in readable_regions(document)
            for parent in self._parents.pack(text, region)
            for child in self._children.pack(text, parent)
        ]
