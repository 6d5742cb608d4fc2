"""Which lines of a PDF that has no outline are headings? Short ones that are set larger than its text.

The size is the height of pdfium's loose box of a character: the font's, as the page shows it, whatever the letter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from statistics import median_low
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

_LARGER = 1.15  # times the text; footnotes and tables are smaller than it, emphasis is as large
_STEP = 0.5  # points; sizes that a program has rounded are the same
_SAME = 0.95  # times the size: this close, they are one level's (other fonts have other boxes)
_SAMPLES = 5  # characters of a line that are measured
_LONGEST = 120  # characters of a heading, which may have more than one line
_MOST_SHARE = 0.3  # of the characters: where more is large, as on posters, size says nothing
_LEVELS = 4
_OF_A_TABLE_OF_CONTENTS = re.compile(r"(?:[.·…‥][ \t]*){4}")


@dataclass(frozen=True, slots=True)
class Line:
    """A line on a page (from 0), and its size in points, of most of it; 0 if pdfium does not know."""

    page: int
    text: str
    size: float


def lines_of(page: int, text: str, text_page: PdfTextPage) -> Iterator[Line]:
    """The lines of a page whose `text` is that of `text_page`."""
    start = 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            yield Line(page, line.strip(), _size(line, start, text_page))
        start += len(line)


def headings(lines: Sequence[Line]) -> list[tuple[int, str, int]]:
    """(level from 1, text, page from 0) of each heading: the largest size is level 1."""
    measured = [line for line in lines if line.size]
    if not measured:
        return []
    least = _size_of_text(measured) * _LARGER
    large = sum(len(line.text) for line in lines if line.size > least)
    if large > _MOST_SHARE * sum(len(line.text) for line in lines):
        return []
    runs = groupby(lines, lambda line: (line.page, line.size) if line.size > least else None)
    found = [_joined(list(run)) for key, run in runs if key is not None]
    found = [line for line in found if _may_be_heading(line.text)]
    levels = _levels({line.size for line in found})
    return [(levels[line.size], line.text, line.page) for line in found]


def _levels(sizes: Iterable[float]) -> dict[float, int]:
    levels: dict[float, int] = {}
    level, largest = 0, 0.0
    for size in sorted(sizes, reverse=True):
        if not level or size < _SAME * largest:
            level, largest = min(level + 1, _LEVELS), size
        levels[size] = level
    return levels


def _size_of_text(lines: Sequence[Line]) -> float:
    """The size of most characters."""
    characters: Counter[float] = Counter()
    for line in lines:
        characters[line.size] += len(line.text)
    return characters.most_common(1)[0][0]


def _size(line: str, start: int, text_page: PdfTextPage) -> float:
    from pypdfium2 import PdfiumError  # noqa: PLC0415  # 20 MiB that only PDFs need

    places = (place for place, character in enumerate(line, start) if not character.isspace())
    heights = []
    step = len("".join(line.split())) // _SAMPLES + 1
    for place in islice(places, 0, None, step):  # a line may be a whole book
        try:
            _, bottom, _, top = text_page.get_charbox(place, loose=True)
        except PdfiumError:
            continue
        heights.append(round((top - bottom) / _STEP) * _STEP)
    return median_low(heights) if heights else 0.0


def _joined(run: list[Line]) -> Line:
    """A heading that is broken into lines."""
    return Line(run[0].page, " ".join(line.text for line in run), run[0].size)


def _may_be_heading(text: str) -> bool:
    return (
        len(text) <= _LONGEST
        and any(character.isalpha() for character in text)
        and not _OF_A_TABLE_OF_CONTENTS.search(text)
    )
