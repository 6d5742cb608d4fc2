"""How do the commands print? Text of documents and models never reaches the terminal's control codes."""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import typer

from rag_service.api.schemas import Citation, Passage

# All control characters but tab and line feed, and those that change the direction of what follows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
LONGEST_QUOTE = 200  # characters; the page shows the whole passage
LONGEST_CELL = 60  # columns of a terminal


def printable(text: str) -> str:
    """`text` without the characters that could steer a terminal."""
    return _CONTROL.sub("", text)


def one_line(text: str, most: int = LONGEST_QUOTE) -> str:
    """`text` on one line, cut with an ellipsis after `most` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def write(text: str) -> None:
    """Print a piece of a streamed answer at once, without a line break."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output, one line for each row; texts of any length belong in the last column.

    No column but the last is padded to more than `LONGEST_CELL`. In a terminal, longer cells are cut in the
    middle; elsewhere they stay whole for grep and awk, and only their own line is out of step.
    """
    texts = [["" if cell is None else one_line(str(cell), most=1000) for cell in row] for row in rows]
    for line in table_lines([list(columns), *texts], cut=sys.stdout.isatty()):
        typer.echo(line)


def table_lines(rows: Sequence[Sequence[str]], *, cut: bool) -> list[str]:
    """`rows` of equal length with their cells under each other; `cut` shortens all cells but the last."""
    *padded, last = zip(*rows, strict=True)
    columns = [_column(cells, cut=cut) for cells in padded]
    return ["  ".join(cells).rstrip() for cells in zip(*columns, last, strict=True)]


def _column(cells: Sequence[str], *, cut: bool) -> list[str]:
    from rich.cells import cell_len  # noqa: PLC0415 (`rag-service up` never needs it)

    shown = [shortened(cell) for cell in cells] if cut else list(cells)
    width = min(LONGEST_CELL, max(map(cell_len, shown)))
    return [cell + " " * (width - cell_len(cell)) for cell in shown]


def shortened(text: str, most: int = LONGEST_CELL) -> str:
    """`text` cut in the middle to `most` columns of a terminal, where a Chinese character takes two."""
    from rich.cells import cell_len  # noqa: PLC0415

    if cell_len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{_start(text, half)}…{_start(text[::-1], half)[::-1]}"


def _start(text: str, most: int) -> str:
    """As much of the start of `text` as fits `most` columns."""
    from rich.cells import cell_len  # noqa: PLC0415

    ends = list(accumulate(map(cell_len, text)))
    return text[: bisect_right(ends, most)]


def place(found: Citation | Passage) -> str:
    """Where in the documents: name, page and section, as far as there are any."""
    parts = [found.document_name]
    if found.page is not None:
        parts.append(f"page {found.page}")
    if found.section:
        parts.append(found.section)
    return one_line(", ".join(parts), most=500)


def print_citations(citations: Sequence[Citation]) -> None:
    for citation in citations:
        typer.echo(f"[{citation.number}] {place(citation)} — “{one_line(citation.quote)}”")
