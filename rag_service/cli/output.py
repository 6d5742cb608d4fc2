"""How do the commands print? Text of documents and models never reaches the terminal's control codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from rag_service.api.schemas import Citation, Passage

# All control characters but tab and line feed, and those that change the direction of what follows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
LONGEST_QUOTE = 200  # characters; the page shows the whole passage


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
    """A table on standard output; cells are cut to the terminal's width only in a terminal."""
    from rich.console import Console  # noqa: PLC0415 (`rag-service up` never needs it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else one_line(str(cell), most=1000)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # for grep and awk: one row, one line
    console.print(table)


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
