"""The default chunker: whole sentences of one section, packed up to a size that suits the embedder.

Sentences of 400 Chinese characters (1,000 Latin ones) with a title and section header found the evidence
in 10 to 25 % more questions on long documents than blind cuts of 500 characters (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from core.text import LATIN_WEIGHT, sentences, weight
from core.types import ParsedDocument, Span
from ingest.chunkers.base import CountTokens

# Tokens left for the header, the embedder's prefix and its special tokens.
RESERVED_TOKENS = 80


class SentenceChunker:
    """Packs sentences until `characters` (weighted: a Latin character counts 0.4) or the token bound is reached.

    A sentence longer than that is cut at white space or punctuation. Chunks do not overlap.
    """

    def __init__(self, *, characters: int, max_tokens: int, count_tokens: CountTokens) -> None:
        self._limit = float(characters)
        self._max_tokens = max_tokens - RESERVED_TOKENS
        self._count_tokens = count_tokens

    @property
    def name(self) -> str:
        return f"sentence-{self._limit:g}-{self._max_tokens}"

    def cut(self, document: ParsedDocument) -> list[Span]:
        spans: list[Span] = []
        for region, heading in _regions(document):
            packed = list(self._pack(document.text, region))
            if heading and len(packed) == 1 and document.text[packed[0].start : packed[0].end] == heading:
                continue  # a heading with nothing under it: it is in the header of the sections below
            spans.extend(packed)
        return spans

    def _pack(self, text: str, region: Span) -> Iterator[Span]:
        start = end = None
        for piece in self._pieces(text, region):
            if start is not None and self._fits(text, start, piece.end):
                end = piece.end
                continue
            if start is not None and end is not None:
                yield Span(start, end)
            start, end = piece.start, piece.end
        if start is not None and end is not None:
            yield Span(start, end)

    def _fits(self, text: str, start: int, end: int) -> bool:
        candidate = text[start:end]
        if weight(candidate) > self._limit:
            return False
        # A token is at least one character, so most candidates need no counting.
        return len(candidate) <= self._max_tokens or self._count_tokens(candidate) <= self._max_tokens

    def _pieces(self, text: str, region: Span) -> Iterator[Span]:
        for sentence in sentences(text, region):
            if self._fits(text, sentence.start, sentence.end):
                yield sentence
            else:
                yield from self._split(text, sentence)

    def _split(self, text: str, sentence: Span) -> Iterator[Span]:
        """Cut an overlong sentence: at the last white space or comma of each stretch that fits."""
        start = sentence.start
        while start < sentence.end:
            end = self._longest(text, start, sentence.end)
            if end < sentence.end:
                end = _last_break(text, start, end)
            yield Span(start, start + len(text[start:end].rstrip()))
            start = end
            while start < sentence.end and text[start].isspace():
                start += 1

    def _longest(self, text: str, start: int, stop: int) -> int:
        """The largest end for which `text[start:end]` fits (at least one character)."""
        # Even if all characters are Latin, no more than this many can fit.
        low, high = start + 1, min(stop, start + int(self._limit / LATIN_WEIGHT))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(text, start, middle) else (low, middle - 1)
        return low


def _regions(document: ParsedDocument) -> Iterator[tuple[Span, str | None]]:
    """The stretches that chunks may not cross, each with its heading if sections below it repeat it."""
    at = 0
    for number, section in enumerate(document.sections):
        if at < section.span.start:
            yield Span(at, section.span.start), None
        following = document.sections[number + 1 : number + 2]
        parent = bool(following) and following[0].path[: len(section.path)] == section.path
        text = document.text[section.span.start : section.span.end].strip()
        yield section.span, text if parent and "\n" not in text else None
        at = section.span.end
    if at < len(document.text):
        yield Span(at, len(document.text)), None


_BREAKS = frozenset(" \t\n,;:，；：、。．|")


def _last_break(text: str, start: int, end: int) -> int:
    """Just behind the last break in the second half of `text[start:end]`, else `end`."""
    for position in range(end - 1, start + (end - start) // 2, -1):
        if text[position] in _BREAKS:
            return position + 1
    return end
