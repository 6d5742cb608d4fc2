"""Fixed-size chunks by LangChain's RecursiveCharacterTextSplitter: the recipe of the textbooks.

With `characters=500, overlap=0` it is the flat recipe that our default is measured against.
"""

from __future__ import annotations

from core.types import ParsedDocument, Span

SEPARATORS = ["\n\n", "\n", "。", "！", "？", ". ", "，", ", ", " ", ""]


class RecursiveChunker:
    """Splits at the largest separator that gives pieces of at most `characters`, with `overlap` characters."""

    def __init__(self, *, characters: int = 500, overlap: int = 0) -> None:
        self._characters = characters
        self._overlap = overlap

    @property
    def name(self) -> str:
        return f"recursive-{self._characters}-{self._overlap}"

    def cut(self, document: ParsedDocument) -> list[Span]:
        from langchain_text_splitters import RecursiveCharacterTextSplitter  # noqa: PLC0415 - 50 MB, used rarely

        splitter = RecursiveCharacterTextSplitter(
            separators=SEPARATORS,
            keep_separator="end",
            chunk_size=self._characters,
            chunk_overlap=self._overlap,
            add_start_index=True,
        )
        pieces = splitter.create_documents([document.text])
        return [
            Span(piece.metadata["start_index"], piece.metadata["start_index"] + len(piece.page_content))
            for piece in pieces
        ]
