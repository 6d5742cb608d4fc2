"""Every sentence is a chunk of its own, and brings its neighbours into the prompt (LlamaIndex's sentence window)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

from core.errors import InvalidValue
from core.types import ParsedDocument, Span
from ingest.chunkers.base import Piece
from ingest.chunkers.packing import Packer, is_heading, readable_regions, trimmed


class SentenceWindowChunker:
    """LlamaIndex's SentenceWindowNodeParser, section by section, with our sentences for Chinese and English.

    The parent of a sentence is the span from `window` sentences before it to `window` behind it, less where that
    would be longer than the packer's limit. Raises `InvalidValue` where `llama-index-core` is not installed.
    """

    def __init__(self, packer: Packer, *, window: int) -> None:
        if find_spec("llama_index") is None:
            raise InvalidValue(
                "The chunking strategy sentence-window needs LlamaIndex, which is not installed.",
                hint="pip install 'rag-service[llama-index]' (in a checkout: .venv/bin/pip install -e "
                "'.[llama-index]'), or choose parent-child, which needs nothing.",
            )
        self._packer = packer
        self._window = window

    @property
    def name(self) -> str:
        return f"sentence-window-{self._packer.limit:g}-{self._window}-{self._packer.max_tokens}"

    async def cut(self, document: ParsedDocument) -> list[Piece]:
        return [
            piece
            for region in readable_regions(document)
            for piece in self._windows(document, self._sentences(document.text, region))
        ]

    def _sentences(self, text: str, region: Span) -> list[Span]:
        from llama_index.core import Document  # noqa: PLC0415 - 4 seconds, used rarely
        from llama_index.core.node_parser import SentenceWindowNodeParser  # noqa: PLC0415

        parser = SentenceWindowNodeParser.from_defaults(
            sentence_splitter=self._split, window_size=self._window, include_metadata=False
        )
        found, at = [], region.start
        for node in parser.get_nodes_from_documents([Document(text=text[region.start : region.end])]):
            # Its own places are wrong where a text repeats itself; its nodes are our sentences, one after the other.
            place = Span(at, at + len(node.get_content()))
            at = place.end
            if sentence := trimmed(text, place):
                found.append(sentence)
        return found

    def _split(self, text: str) -> list[str]:
        """The text at the borders of our sentences; white space stays with the sentence before it."""
        starts = [0, *(span.start for span in self._packer.pieces(text, Span(0, len(text)))), len(text)]
        return [text[a:b] for a, b in pairwise(starts) if a < b]

    def _windows(self, document: ParsedDocument, found: Sequence[Span]) -> Iterator[Piece]:
        text = document.text
        wide = replace(self._packer, max_tokens=len(text))  # a window is read by the model, not embedded
        for number, sentence in enumerate(found):
            if number == 0 and len(found) > 1 and is_heading(document, sentence):
                continue  # alone it says nothing; it is in the windows of the next
            before = found[max(number - self._window, 0) : number]
            after = found[number + 1 : number + 1 + self._window]
            yield Piece(sentence, parent=_grown(wide, text, sentence, before, after))


def _grown(packer: Packer, text: str, sentence: Span, before: Sequence[Span], after: Sequence[Span]) -> Span:
    """The sentence with as many of its neighbours, nearest first, as fit."""
    window = sentence
    for distance in range(max(len(before), len(after))):
        for grown in (
            *(Span(near.start, window.end) for near in before[::-1][distance : distance + 1]),
            *(Span(window.start, near.end) for near in after[distance : distance + 1]),
        ):
            candidate = Span(min(grown.start, window.start), max(grown.end, window.end))
            if packer.fits(text, candidate.start, candidate.end):
                window = candidate
    return window
