"""Fixed-size chunks by LangChain's RecursiveCharacterTextSplitter: the recipe of the textbooks.

With `characters=500, overlap=0` it is the flat recipe that our default is measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from core.types import ParsedDocument, Span
from ingest.chunkers.base import Piece
from ingest.chunkers.packing import regions

SEPARATORS = ["\n\n", "\n", "。", "！", "？", ". ", "，", ", ", " ", ""]


class RecursiveChunker:
    """Splits each section at the largest separator that gives pieces of at most `characters`.

    `length` measures them (`core.text.weight`, or `len` for plain characters). With `overlap`, a chunk begins up to
    that many characters earlier, in the one before. LangChain splits without overlap, because it looks for the place
    of an overlapping piece by its text, and finds the wrong one where a text repeats itself.
    """

    def __init__(
        self, *, characters: int = 500, overlap: int = 0, length: Callable[[str], float] = len
    ) -> None:
        self._characters = characters
        self._overlap = overlap
        self._length = length

    @property
    def name(self) -> str:
        return f"recursive-{self._characters}-{self._overlap}"

    async def cut(self, document: ParsedDocument) -> list[Piece]:
        return [Piece(span) for region, _ in regions(document) for span in self._split(document.text, region)]

    def _split(self, text: str, region: Span) -> Iterator[Span]:
        from langchain_text_splitters import RecursiveCharacterTextSplitter  # noqa: PLC0415 - 50 MB, used rarely

        splitter = RecursiveCharacterTextSplitter(
            separators=SEPARATORS,
            keep_separator="end",
            chunk_size=self._characters - self._overlap,
            chunk_overlap=0,
            length_function=lambda piece: -int(-self._length(piece) // 1),  # it counts in whole numbers
            add_start_index=True,
        )
        before = None  # where the chunk before begins; it is never repeated whole
        for piece in splitter.create_documents([text[region.start : region.end]]):
            start = region.start + piece.metadata["start_index"]
            end = start + len(piece.page_content)
            if before is not None:
                start = self._earlier(text, before + 1, start)
            yield Span(start, end)
            before = start

    def _earlier(self, text: str, least: int, start: int) -> int:
        """Where a chunk begins that repeats `overlap` of what stands before `start`."""
        begin = start
        while begin > least and self._length(text[begin - 1 : start]) <= self._overlap:
            begin -= 1
        while begin < start and text[begin].isspace():
            begin += 1
        return begin
