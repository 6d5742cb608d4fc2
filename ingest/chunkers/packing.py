"""How are sentences packed into stretches that suit the embedder? What most strategies share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from core.text import LATIN_WEIGHT, sentences, weight
from core.types import ParsedDocument, Span
from ingest.chunkers.base import CountTokens

# Tokens left for the header, the embedder's prefix and its special tokens.
RESERVED_TOKENS = 80


@dataclass(frozen=True, slots=True)
class Packer:
    """Joins neighbouring sentences while they weigh at most `limit` and have at most `max_tokens` tokens.

    `limit` is in Chinese characters (a Latin one counts 0.4, see `core.text.weight`).
    """

    limit: float
    max_tokens: int
    count_tokens: CountTokens

    @classmethod
    def for_window(cls, limit: float, window: int, count_tokens: CountTokens) -> Packer:
        """For an embedder that reads `window` tokens at once."""
        return cls(float(limit), window - RESERVED_TOKENS, count_tokens)

    def pack(self, text: str, region: Span) -> Iterator[Span]:
        """The region's sentences, packed; a sentence that does not fit is cut at white space or punctuation."""
        return self.join(text, self.pieces(text, region))

    def pack_whole(self, text: str, region: Span) -> Iterator[Span]:
        """The (trimmed) region as it is if it fits, else its sentences, packed."""
        return iter((region,)) if self.fits(text, region.start, region.end) else self.pack(text, region)

    def join(self, text: str, pieces: Iterable[Span]) -> Iterator[Span]:
        """Neighbouring pieces joined as long as they fit."""
        current: Span | None = None
        for piece in pieces:
            if current is not None and self.fits(text, current.start, piece.end):
                current = Span(current.start, piece.end)
                continue
            if current is not None:
                yield current
            current = piece
        if current is not None:
            yield current

    def pieces(self, text: str, region: Span) -> Iterator[Span]:
        """The region's sentences; one that does not fit in pieces that do."""
        for sentence in sentences(text, region):
            if self.fits(text, sentence.start, sentence.end):
                yield sentence
            else:
                yield from self._split(text, sentence)

    def fits(self, text: str, start: int, end: int) -> bool:
        candidate = text[start:end]
        if weight(candidate) > self.limit:
            return False
        # A token is at least one character, so most candidates need no counting.
        return len(candidate) <= self.max_tokens or self.count_tokens(candidate) <= self.max_tokens

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
        low, high = start + 1, min(stop, start + max(int(self.limit / LATIN_WEIGHT), 1))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(text, start, middle) else (low, middle - 1)
        return low


def regions(document: ParsedDocument) -> Iterator[tuple[Span, str | None]]:
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


def readable_regions(document: ParsedDocument) -> Iterator[Span]:
    """`regions` without those that are only a heading: it is in the header of the sections below."""
    for region, heading in regions(document):
        if heading is None and trimmed(document.text, region) is not None:
            yield region


def is_heading(document: ParsedDocument, sentence: Span) -> bool:
    """Whether the sentence is the heading of its section, which stands in the header of the section's chunks."""
    section = document.section_at(sentence.start)
    line = document.text[sentence.start : sentence.end].lstrip("# ")
    return section is not None and line in section.path[-1:]


def trimmed(text: str, span: Span) -> Span | None:
    """The span without white space at its ends; None if nothing is left."""
    start, end = span.start, span.end
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end) if start < end else None


_BREAKS = frozenset(" \t\n,;:，；：、。．|")


def _last_break(text: str, start: int, end: int) -> int:
    """Just behind the last break in the second half of `text[start:end]`, else `end`."""
    for position in range(end - 1, start + (end - start) // 2, -1):
        if text[position] in _BREAKS:
            return position + 1
    return end
