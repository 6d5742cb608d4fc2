"""How is a picture read? Its text is recognised; each frame of a TIFF is a page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers.base import Content, Format, Limits, TextBuilder
from ingest.parsers.ocr import INSTALL, LONGEST_SIDE, recogniser

if TYPE_CHECKING:
    from PIL.Image import Image

_STARTS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM")
_PILLOW_NAMES = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")  # no other decoder sees the file


def _recognises(content: Content) -> bool:
    is_webp = content.head[:4] == b"RIFF" and content.head[8:12] == b"WEBP"
    return is_webp or content.head.startswith(_STARTS)


def _read(path: Path, limits: Limits) -> ParsedDocument:
    from PIL import Image as images  # noqa: N813, PLC0415  # only pictures need it

    builder = TextBuilder(limits)
    with warnings.catch_warnings():
        warnings.simplefilter("error", images.DecompressionBombWarning)
        try:
            with images.open(path, formats=_PILLOW_NAMES) as picture:
                _add_frames(builder, picture, limits)
        except (images.DecompressionBombWarning, images.DecompressionBombError) as error:
            raise UnreadableDocument(
                f"The picture is too large to be read: more than {images.MAX_IMAGE_PIXELS} pixels.",
                hint="Scale it down, or cut it.",
            ) from error
    if not builder.length:
        raise UnreadableDocument("No text was recognised in this picture.")
    return builder.build()


def _add_frames(builder: TextBuilder, picture: Image, limits: Limits) -> None:
    reader = recogniser(limits)
    if reader is None:
        raise UnreadableDocument("Reading the text in pictures needs text recognition (OCR).", hint=INSTALL)
    frames = getattr(picture, "n_frames", 1)
    for number in range(frames):
        if frames > 1:
            builder.page()
        picture.seek(number)
        builder.add(reader.text(_upright(picture)))


def _upright(picture: Image) -> Image:
    """The picture as a camera's note says that it is to be held, with eight bits for each colour."""
    from PIL import ImageOps  # noqa: PLC0415  # see above

    picture.draft("RGB", (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))  # a JPEG is decoded no larger than needed
    if picture.mode.startswith("I"):  # 16 bits of grey
        return picture.convert("I").point(lambda value: value / 256).convert("L")
    return ImageOps.exif_transpose(picture)


IMAGE = Format(
    name="a picture",
    label="a picture",
    extensions=(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"),
    mime_types=("image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp"),
    recognises=_recognises,
    read=_read,
)
