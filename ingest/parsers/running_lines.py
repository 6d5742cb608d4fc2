"""Which lines of a paged text are running headers and footers, and say nothing of their own?

Those that stand at the same place on more than half of the pages, alike but for the number of the page. A number counts
as one only if it grows by one from page to page, so that the rows of a long table stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

_FEWEST_PAGES = 4
_SHARE = 0.5  # of the pages
_EDGE = 3  # lines from the top and from the bottom
_MOST_NUMBERS = 4  # of a line: "Page 3 of 120 · 2024-05-01"
_NUMBER = re.compile("[0-9]{1,6}")

_Key = tuple[int, str]  # place from the top, or below zero from the bottom; how the line reads


def without_running_lines(pages: Sequence[str]) -> list[str]:
    """The texts of the pages, without the lines that only repeat."""
    if len(pages) < _FEWEST_PAGES:
        return list(pages)
    seen: Counter[_Key] = Counter()
    for number, page in enumerate(pages):
        seen.update({key for _, keys in _edges(page.split("\n"), number) for key in keys})
    running = {key for key, count in seen.items() if count > _SHARE * len(pages)}
    return [_without(page.split("\n"), number, running) for number, page in enumerate(pages)]


def _without(lines: list[str], number: int, running: set[_Key]) -> str:
    dropped = {place for place, keys in _edges(lines, number) if not running.isdisjoint(keys)}
    return "\n".join(line for place, line in enumerate(lines) if place not in dropped)


def _edges(lines: list[str], page: int) -> Iterator[tuple[int, list[_Key]]]:
    """The index of each line at an edge of the page, and how it may read on the other pages."""
    filled = [place for place, line in enumerate(lines) if line.strip()]
    for rank, place in enumerate(filled[:_EDGE]):
        yield place, [(rank, reading) for reading in _readings(lines[place], page)]
    for rank, place in enumerate(filled[-_EDGE:][::-1]):
        yield place, [(-1 - rank, reading) for reading in _readings(lines[place], page)]


def _readings(line: str, page: int) -> Iterator[str]:
    """The line itself, and for each number in it the line with that number counted from the page's own."""
    line = " ".join(line.split())
    yield line
    for found in list(_NUMBER.finditer(line))[:_MOST_NUMBERS]:
        yield f"{line[: found.start()]}\x00{int(found[0]) - page}\x00{line[found.end() :]}"
