"""How is a presentation read? Each slide is a page and, by its title, a section; speaker notes follow it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.types import ParsedDocument
from ingest.parsers.base import Content, Format, Limits, TextBuilder, table_row
from ingest.parsers.office import check_archive, is_office

if TYPE_CHECKING:
    from pptx.slide import Slide

_MAX_NESTED_GROUPS = 50


def _recognises(content: Content) -> bool:
    return is_office(content, "presentationml.presentation")


def _read(path: Path, limits: Limits) -> ParsedDocument:
    check_archive(path, limits)
    from pptx import Presentation  # noqa: PLC0415  # only presentations need it

    presentation = Presentation(str(path))
    builder = TextBuilder(limits)
    for slide in presentation.slides:
        builder.page()
        builder.end_section()
        _add_slide(builder, slide)
    return builder.build(presentation.core_properties.title)


def _add_slide(builder: TextBuilder, slide: Slide) -> None:
    title = slide.shapes.title
    if title is not None:
        builder.heading(1, title.text_frame.text)
    # The order of the file is the reading order that screen readers use; by position, columns would mix.
    others = (shape for shape in slide.shapes if title is None or shape.shape_id != title.shape_id)
    _add_shapes(builder, others, _MAX_NESTED_GROUPS)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        builder.add(slide.notes_slide.notes_text_frame.text)


def _add_shapes(builder: TextBuilder, shapes: Iterable[Any], depth: int) -> None:
    for shape in shapes:
        if hasattr(shape, "shapes") and depth:
            _add_shapes(builder, shape.shapes, depth - 1)
        elif getattr(shape, "has_table", False):
            rows = (
                table_row(cell.text for cell in row.cells if not cell.is_spanned) for row in shape.table.rows
            )
            builder.add("\n".join(row for row in rows if row))
        elif getattr(shape, "has_chart", False):
            builder.add("\n".join(_chart(shape.chart)))
        elif getattr(shape, "has_text_frame", False):
            builder.add(shape.text_frame.text)


def _chart(chart: Any) -> Iterable[str]:
    """A chart as the table it was drawn from: a row for each series, below a row of categories."""
    if chart.has_title and chart.chart_title.has_text_frame:
        yield chart.chart_title.text_frame.text
    for plot in chart.plots:
        yield table_row(["", *(str(category) for category in plot.categories)])
        for series in plot.series:
            values = ("" if value is None else f"{value:g}" for value in series.values)
            yield table_row([series.name, *values])


PPTX = Format(
    name="PPTX",
    label="a presentation",
    extensions=(".pptx",),
    mime_types=("application/vnd.openxmlformats-officedocument.presentationml.presentation",),
    recognises=_recognises,
    read=_read,
)
