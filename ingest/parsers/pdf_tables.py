"""Where does a PDF's page have tables, and what stands in their cells? Tables are what is ruled: lines that cross.

A PDF has no tables, only lines and characters. Rules that cross make a grid; each character lies in one of its places;
two places are one cell where no rule parts them. Rows are written as all parsers write tables, where the table's first
character stood. Tables without rules between their columns stay as pdfium gives them: a line for each row.
"""

from __future__ import annotations

import ctypes
import itertools
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.parsers.base import PARAGRAPH, table_row

if TYPE_CHECKING:
    from pypdfium2 import PdfPage, PdfTextPage

_NEAR = 3.0  # points: rules so close are one (the sides of a thin rectangle, double lines)
_SHORTEST = 8.0  # points of a rule
_MOST_OBJECTS = 20_000  # of a page: more are a drawing
_MOST_SEGMENTS = 20_000
_MOST_RULES = 400
_FEWEST = 2  # rows with as many filled cells
_MOST_CUTS = 0.1  # of the characters: places where a rule goes through a word
CJK = "[\u2e80-\u2fdf\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]"
_WRAPPED = re.compile(f"(?<={CJK})\\s*[\r\n]\\s*(?={CJK})")  # Chinese has no blanks where a line ends

_Cell = tuple[int, int]  # row, column
_Point = tuple[float, float]  # x from the left, y upwards, as the page is shown


class _Rule(NamedTuple):
    """A straight line along one axis: at `at` of the other axis, from `start` to `end`."""

    at: float
    start: float
    end: float

    def covers(self, place: float) -> bool:
        return self.start - _NEAR <= place <= self.end + _NEAR

    def crosses(self, other: _Rule) -> bool:
        """Whether it meets a rule along the other axis."""
        return self.covers(other.at) and other.covers(self.at)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Columns lie between neighbours of `xs`, which rise, rows between those of `ys`, which fall. `owners` has for each
    place the one at the top left of the cell that it is part of."""

    xs: Sequence[float]
    ys: Sequence[float]
    owners: Sequence[Sequence[_Cell]]

    def cell_at(self, point: _Point) -> _Cell | None:
        column = bisect_right(self.xs, point[0]) - 1
        row = bisect_right(self.ys, -point[1], key=lambda y: -y) - 1
        inside = 0 <= column < len(self.xs) - 1 and 0 <= row < len(self.ys) - 1
        return self.owners[row][column] if inside else None


class _Table:
    """What stands in the cells of a grid."""

    def __init__(self, grid: _Grid) -> None:
        self.grid = grid
        self._texts: dict[_Cell, list[str]] = defaultdict(list)
        self._last: _Cell | None = None
        self._characters = self._cuts = 0
        self._within_word = False

    def add(self, character: str, cell: _Cell) -> None:
        """Append a character, in the order of the page's text."""
        if self._last not in (None, cell):
            self._cuts += self._within_word
            self._texts[cell].append("\n")
        self._texts[cell].append(character)
        self._last = cell
        self._within_word = not character.isspace()
        self._characters += self._within_word

    def is_one(self) -> bool:
        """Not so a frame around text, a chart with its scale, squared paper."""
        filled = [row for row in self._rows() if sum(map(bool, row)) >= _FEWEST]
        return len(filled) >= _FEWEST and self._cuts <= _MOST_CUTS * self._characters

    def text(self) -> str:
        return "\n".join(filter(None, map(table_row, self._rows())))

    def _rows(self) -> list[list[str]]:
        """The cells of each row; one that spans several stands in the first of them, and is empty in the others."""
        return [
            [
                self._text(cell) if cell[0] == row else ""
                for column, cell in enumerate(cells)
                if cell[1] == column
            ]
            for row, cells in enumerate(self.grid.owners)
        ]

    def _text(self, cell: _Cell) -> str:
        return _WRAPPED.sub("", "".join(self._texts.get(cell, []))).strip()


def with_tables(text: str, page: PdfPage, text_page: PdfTextPage) -> str:
    """`text`, that of `text_page`, with the ruled tables of the page as rows `| a | b |`."""
    rotation = page.get_rotation()
    grids = _grids(*_rules(page, rotation))
    if not grids:
        return text
    return _written(text, _middles(text, text_page, rotation), grids)


def _written(text: str, middles: Sequence[_Point | None], grids: Sequence[_Grid]) -> str:
    tables = [_Table(grid) for grid in grids]
    blocks: list[list[str] | _Table] = []  # the characters between tables, and the tables
    outside: list[str] | None = None
    inside: tuple[_Table, _Cell] | None = None
    for character, middle in zip(text, middles, strict=True):
        if middle is not None:
            inside = _cell_at(middle, tables)
        if inside is not None:
            table, cell = inside
            if table not in blocks:
                blocks.append(table)
                outside = None
            table.add(character, cell)
            continue
        if outside is None:
            outside = []
            blocks.append(outside)
        outside.append(character)
    good = [table.grid for table in tables if table.is_one()]
    if len(good) < len(grids):
        return _written(text, middles, good)
    written = (block.text() if isinstance(block, _Table) else "".join(block).rstrip() for block in blocks)
    return PARAGRAPH.join(filter(None, written))


def _cell_at(point: _Point, tables: Sequence[_Table]) -> tuple[_Table, _Cell] | None:
    for table in tables:
        cell = table.grid.cell_at(point)
        if cell is not None:
            return table, cell
    return None


def _middles(text: str, text_page: PdfTextPage, rotation: int) -> list[_Point | None]:
    """The middle of each character; None for white space and what has no place, which belong to what is before them."""
    import pypdfium2.raw as pdfium  # noqa: PLC0415  # 20 MiB that only PDFs need

    handle = text_page.raw
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    middles: list[_Point | None] = []
    for place, character in enumerate(text):
        known = not character.isspace() and pdfium.FPDFText_GetCharBox(
            handle, place, left, right, bottom, top
        )
        middle = (left.value + right.value) / 2, (bottom.value + top.value) / 2
        middles.append(_turned(middle, rotation) if known else None)
    return middles


def _grids(across: Sequence[_Rule], upright: Sequence[_Rule]) -> list[_Grid]:
    """The grids on a page, smaller ones first: they may lie in a cell of a larger one."""
    left = list(across)
    found = []
    while left:
        rows, columns = _connected(left.pop(), left, upright)
        left = [rule for rule in left if rule not in rows]
        grid = _grid(rows, columns)
        if grid is not None:
            found.append(grid)
    return sorted(found, key=lambda grid: (grid.xs[-1] - grid.xs[0]) * (grid.ys[0] - grid.ys[-1]))


def _connected(
    first: _Rule, across: Sequence[_Rule], upright: Sequence[_Rule]
) -> tuple[set[_Rule], set[_Rule]]:
    """The rules that hang together with `first`: along its axis, and along the other one."""
    rows, columns = {first}, set[_Rule]()
    fresh = {first}
    while fresh:
        new_columns = {rule for rule in upright if rule not in columns and any(map(rule.crosses, fresh))}
        columns |= new_columns
        fresh = {rule for rule in across if rule not in rows and any(map(rule.crosses, new_columns))}
        rows |= fresh
    return rows, columns


def _grid(across: set[_Rule], upright: set[_Rule]) -> _Grid | None:
    """The grid of rules that hang together, if it has two rows and two columns. Its sides may be open."""
    if not upright:
        return None
    xs = _places([rule.at for rule in upright], across)
    ys = _places([rule.at for rule in across], upright)[::-1]
    owners: list[list[_Cell]] = []
    for row, (top, bottom) in enumerate(itertools.pairwise(ys)):
        owners.append([])
        for column, (left, right) in enumerate(itertools.pairwise(xs)):
            if column and not _is_ruled(upright, left, (top + bottom) / 2):
                owners[row].append(owners[row][column - 1])
            elif row and not _is_ruled(across, top, (left + right) / 2):
                owners[row].append(owners[row - 1][column])
            else:
                owners[row].append((row, column))
    enough = len({cell[0] for cells in owners for cell in cells}) >= _FEWEST
    return _Grid(xs, ys, owners) if enough and len(xs) > _FEWEST else None


def _is_ruled(rules: Iterable[_Rule], at: float, place: float) -> bool:
    return any(abs(rule.at - at) <= _NEAR and rule.covers(place) for rule in rules)


def _places(rules: Iterable[float], crossing: Iterable[_Rule]) -> list[float]:
    """Where rules stand, rising, and where the rules that cross them end: the sides of a table may be open."""
    starts, ends = [rule.start for rule in crossing], [rule.end for rule in crossing]
    places: list[float] = []
    for place in sorted([*rules, min(starts), max(ends)]):
        if not places or place - places[-1] > _NEAR:
            places.append(place)
    return places


def _rules(page: PdfPage, rotation: int) -> tuple[list[_Rule], list[_Rule]]:
    """The rules across a page, and the upright ones. None where there are so many that it is a drawing."""
    across, upright = [], []
    for start, end in _segments(page):
        (x0, y0), (x1, y1) = _turned(start, rotation), _turned(end, rotation)
        if abs(y1 - y0) < 1:
            across.append(_Rule(y0, min(x0, x1), max(x0, x1)))
        elif abs(x1 - x0) < 1:
            upright.append(_Rule(x0, min(y0, y1), max(y0, y1)))
    across, upright = _merged(across), _merged(upright)
    return (across, upright) if max(len(across), len(upright)) <= _MOST_RULES else ([], [])


def _merged(rules: Iterable[_Rule]) -> list[_Rule]:
    """Rules that lie on one line and touch are one; short ones are dropped."""
    lines: list[list[_Rule]] = []
    for rule in sorted(rules):
        if lines and rule.at - lines[-1][0].at <= _NEAR:
            lines[-1].append(rule)
        else:
            lines.append([rule])
    joined = [rule for line in lines for rule in _end_to_end(line)]
    return [rule for rule in joined if rule.end - rule.start >= _SHORTEST]


def _end_to_end(line: Sequence[_Rule]) -> Iterator[_Rule]:
    at = line[0].at
    first, *others = sorted(line, key=lambda rule: rule.start)
    start, end = first.start, first.end
    for rule in others:
        if rule.start > end + _NEAR:
            yield _Rule(at, start, end)
            start = rule.start
        end = max(end, rule.end)
    yield _Rule(at, start, end)


def _segments(page: PdfPage) -> Iterator[tuple[_Point, _Point]]:
    """The straight lines that are drawn on a page, on its own level: from, to."""
    import pypdfium2.raw as pdfium  # noqa: PLC0415  # 20 MiB that only PDFs need

    number, left = pdfium.FPDFPage_CountObjects(page.raw), _MOST_SEGMENTS
    if number > _MOST_OBJECTS:
        return
    for place in range(number):
        shape = pdfium.FPDFPage_GetObject(page.raw, place)
        if pdfium.FPDFPageObj_GetType(shape) != pdfium.FPDF_PAGEOBJ_PATH:
            continue
        left -= pdfium.FPDFPath_CountSegments(shape)
        if left < 0:
            return
        yield from _of_path(shape)


def _of_path(path: Any) -> Iterator[tuple[_Point, _Point]]:
    import pypdfium2.raw as pdfium  # noqa: PLC0415  # 20 MiB that only PDFs need

    fill, stroke = ctypes.c_int(), ctypes.c_int()
    matrix, x, y = pdfium.FS_MATRIX(), ctypes.c_float(), ctypes.c_float()
    drawn = pdfium.FPDFPath_GetDrawMode(path, fill, stroke) and (fill.value or stroke.value)
    if not drawn or not pdfium.FPDFPageObj_GetMatrix(path, matrix):
        return
    first = last = (0.0, 0.0)
    for place in range(pdfium.FPDFPath_CountSegments(path)):
        segment = pdfium.FPDFPath_GetPathSegment(path, place)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        point = (
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        kind = pdfium.FPDFPathSegment_GetType(segment)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            first = point
        elif kind == pdfium.FPDF_SEGMENT_LINETO:
            yield last, point
        last = point
        if pdfium.FPDFPathSegment_GetClose(segment):
            yield last, first


def _turned(point: _Point, rotation: int) -> _Point:
    """The point where it is shown: the page is turned clockwise by so many degrees."""
    x, y = point
    return {90: (y, -x), 180: (-x, -y), 270: (-y, x)}.get(rotation, point)
