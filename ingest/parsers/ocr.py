"""What does a picture of text say? Recognised by PP-OCRv6 (Chinese and English), whose models rapidocr brings along.

Recognition takes seconds for each page, so it is asked for: without `Limits.ocr` a parser that meets a picture
raises `NeedsRecognition`, and `ingest.sandbox` reads the file again in a child that gets more time.
https://github.com/RapidAI/RapidOCR
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any

from core.errors import UnreadableDocument
from ingest.parsers.base import Limits

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST_SIDE = (
    1600  # pixels: 137 dpi on A4; Chinese of 7.5 points was read without an error, 2000 takes 200 MiB more
)
TALL = 2.0  # a picture this many times higher than wide (a screenshot of a whole page) is read strip by strip
_STRIP = 1.4  # height of a strip by its width
_LINES_AT_ONCE = 2  # more are no faster on one thread and take more memory

INSTALL = "Run where the worker runs: .venv/bin/pip install -e '.[ocr]'"


class NeedsRecognition(UnreadableDocument):
    """The document holds pictures of text, and `Limits.ocr` does not allow to recognise them."""


@dataclass(frozen=True, slots=True)
class _Line:
    """Recognised text and where it stands (pixels)."""

    left: float
    top: float
    right: float
    bottom: float
    text: str

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def recogniser(limits: Limits) -> Recogniser | None:
    """What reads pictures; None where the extra is not installed. Raises `NeedsRecognition` if not allowed."""
    if find_spec("rapidocr") is None or find_spec("onnxruntime") is None:
        return None
    if not limits.ocr:
        raise NeedsRecognition("The document holds pictures of text.")
    return Recogniser()


class Recogniser:
    """Reads the text in pictures. Loading takes a second and 100 MiB, a page of A4 3 to 15 s on one core."""

    @cached_property
    def _engine(self) -> Any:
        from rapidocr import RapidOCR  # noqa: PLC0415  # an extra

        return RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.max_side_len": 2 * LONGEST_SIDE,  # `strips` sees to the size
                # Lines upside down: on ordinary pages it turns sound lines round (0.42 of a page was left).
                "Global.use_cls": False,
                "Rec.rec_batch_num": _LINES_AT_ONCE,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def text(self, image: Image) -> str:
        """The lines of a picture in reading order, a line break after each; empty if it holds no text."""
        return "\n".join(filter(None, map(self._strip_text, strips(image))))

    def _strip_text(self, image: Image) -> str:
        import numpy as np  # noqa: PLC0415  # see core.types

        found = self._engine(np.asarray(image)[:, :, ::-1])  # it expects BGR
        if found.boxes is None or found.txts is None:
            return ""
        lines = [
            _line(box.min(axis=0), box.max(axis=0), text)
            for box, text in zip(found.boxes, found.txts, strict=True)
        ]
        return "\n".join(_in_reading_order(lines))


def _line(corner: Any, opposite: Any, text: str) -> _Line:
    return _Line(float(corner[0]), float(corner[1]), float(opposite[0]), float(opposite[1]), text)


def strips(image: Image) -> Iterator[Image]:
    """The picture as RGB, small enough to be read; a tall one in strips, cut where there is no text."""
    from PIL import Image as images  # noqa: N813, PLC0415  # the module

    tall = image.height > TALL * image.width
    bounds = (LONGEST_SIDE, image.height if tall else LONGEST_SIDE)
    if image.mode == "P":
        image = image.convert("RGBA")
    if image.width > bounds[0] or image.height > bounds[1]:
        image = image.copy()
        image.thumbnail(bounds)
    if image.mode in ("RGBA", "LA", "PA"):
        image = images.alpha_composite(images.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    if not tall:
        yield image
        return
    step = int(_STRIP * image.width) or 1
    top = 0
    while top < image.height:
        bottom = (
            _quiet_row(image, top + step * 3 // 4, top + step) if top + step < image.height else image.height
        )
        yield image.crop((0, top, image.width, bottom))
        top = bottom


def _quiet_row(image: Image, first: int, last: int) -> int:
    """The last of the rows with the least change from pixel to pixel: between two lines of text."""
    import numpy as np  # noqa: PLC0415  # see core.types

    rows = np.asarray(image.crop((0, first, image.width, last)).convert("L"), dtype=np.int16)
    change = np.abs(np.diff(rows, axis=1)).sum(axis=1)
    return first + len(change) - int(np.argmin(change[::-1])) - 1 if len(change) else last


def _in_reading_order(lines: Sequence[_Line]) -> Iterator[str]:
    """Rows from top to bottom; columns of prose one after the other."""
    gutter = _gutter(lines)
    if gutter is None:
        yield from _rows(lines)
        return
    yield from _in_reading_order([line for line in lines if line.right <= gutter])
    yield from _in_reading_order([line for line in lines if line.left >= gutter])


def _gutter(lines: Sequence[_Line]) -> float | None:
    """Where a blank strip parts two columns of prose. The cells of a table are short; columns of it are none."""
    if len(lines) < 6:
        return None
    lines = sorted(lines, key=lambda line: line.left)
    width = max(line.right for line in lines) - lines[0].left
    reach = lines[0].right
    for place in range(1, len(lines)):
        left, right = lines[:place], lines[place:]
        wide = lines[place].left - reach > 0.5 * median(line.height for line in lines)
        if wide and all(len(s) > 2 and _typical_width(s) > 0.25 * width for s in (left, right)):
            return lines[place].left
        reach = max(reach, lines[place].right)
    return None


def _typical_width(lines: Sequence[_Line]) -> float:
    return median(line.right - line.left for line in lines)


def _rows(lines: Sequence[_Line]) -> Iterator[str]:
    """The texts, those that stand side by side in one row."""
    row: list[_Line] = []
    for line in sorted(lines, key=lambda line: line.middle):
        if row and line.middle - row[-1].middle > 0.5 * min(line.height, row[-1].height):
            yield _row_text(row)
            row = []
        row.append(line)
    if row:
        yield _row_text(row)


def _row_text(row: list[_Line]) -> str:
    return " ".join(line.text for line in sorted(row, key=lambda line: line.left))
