"""How is a workbook read? Each sheet is a page and a section; each row stands alone: `Name: Li; City: Beijing`.

Cells show the values that the last program to save the workbook had computed, never formulas.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.types import ParsedDocument
from ingest.parsers.base import LINE, PARAGRAPH, Content, Format, Limits, TextBuilder, table_rows
from ingest.parsers.office import check_archive, is_office


def _recognises(content: Content) -> bool:
    return is_office(content, "spreadsheetml.sheet")


def _read(path: Path, limits: Limits) -> ParsedDocument:
    check_archive(path, limits)
    from openpyxl import load_workbook  # noqa: PLC0415  # only workbooks need it

    # As a stream: openpyxl refuses a path without the right extension, and stored files have none.
    with path.open("rb") as stream:
        workbook = load_workbook(stream, read_only=True, data_only=True)
        builder = TextBuilder(limits)
        for sheet in workbook.worksheets:
            builder.page()
            builder.end_section()
            _add_sheet(builder, sheet)
        return builder.build(workbook.properties.title)


def _add_sheet(builder: TextBuilder, sheet: Any) -> None:
    """A sheet without any value adds nothing, not even its name."""
    sheet.reset_dimensions()  # what the file says of its size is often wrong, and may claim a million rows
    gap = PARAGRAPH
    for line in table_rows(_rows(sheet)):
        if gap == PARAGRAPH:
            builder.heading(1, sheet.title)
        builder.add(line, gap=gap)
        gap = LINE


def _rows(sheet: Any) -> Iterator[list[str]]:
    for row in sheet.iter_rows():
        yield [_shown(cell.value, cell.number_format) if cell.value is not None else "" for cell in row]


def _shown(value: Any, number_format: str) -> str:
    """A value as a reader expects it; dates as 2024-05-01, an eighth formatted as a percentage as 12.5%."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        at_midnight = value.time() == datetime.time()
        return value.date().isoformat() if at_midnight else value.isoformat(" ", "seconds")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int | float):
        # Fifteen digits are what Excel keeps and shows: 0.1 + 0.2 is 0.3 there.
        return f"{value * 100:.15g}%" if "%" in number_format else f"{value:.15g}"
    return str(value)


XLSX = Format(
    name="XLSX",
    label="a workbook",
    extensions=(".xlsx", ".xlsm"),
    mime_types=(
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-excel.sheet.macroenabled.12",
    ),
    recognises=_recognises,
    read=_read,
)
