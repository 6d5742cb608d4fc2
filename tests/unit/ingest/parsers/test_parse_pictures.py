"""Is the text in pictures and scans read, and only there? With the real models."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import sample_files as made
from PIL import Image, ImageOps
from sample_files import Read

from core.errors import UnreadableDocument
from ingest.parsers import Limits, NeedsRecognition
from ingest.sandbox import parse_in_child

SCAN = Path(__file__).parents[3] / "fixtures" / "scan.png"
LINES = (
    "员工每年享有十天带薪年假，病假须附医院证明。",
    "The warranty of the pump ends after 24 months.",
    "Send claims to the service desk in Leipzig.",
)


def scan() -> Image.Image:
    return Image.open(SCAN).convert("L")


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def blank(width: int, height: int) -> Image.Image:
    return Image.new("L", (width, height), "white")


def pages_pdf(*pictures: Image.Image) -> bytes:
    return saved(pictures[0], "PDF", save_all=True, append_images=pictures[1:])


def merged(*files: bytes) -> bytes:
    from pypdf import PdfWriter

    writer = PdfWriter()
    for file in files:
        writer.append(io.BytesIO(file))
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def transparent() -> Image.Image:
    """Black letters on nothing, as a screenshot tool may save them."""
    picture = Image.new("RGBA", scan().size, (0, 0, 0, 0))
    picture.putalpha(ImageOps.invert(scan()))
    return picture


def turned() -> bytes:
    """A photograph that says in its EXIF data that the camera was held sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(scan().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("scan.png", SCAN.read_bytes()),
        ("scan.webp", saved(scan(), "WEBP")),
        ("palette.bmp", saved(scan().convert("P"), "BMP")),
        ("transparent.png", saved(transparent(), "PNG")),
        ("deep.png", saved(scan().convert("I").point(lambda value: value * 257).convert("I;16"), "PNG")),
        ("turned.jpg", turned()),
        ("scan.pdf", pages_pdf(scan())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_chinese_and_english_text_is_recognised(name: str, data: bytes, read: Read) -> None:
    text = read(name, data, ocr=True).text
    assert [line for line in LINES if line not in text] == []
    assert [text.index(line) for line in LINES] == sorted(text.index(line) for line in LINES)


def test_each_frame_of_a_tiff_is_a_page(read: Read) -> None:
    document = read("fax.tif", saved(scan(), "TIFF", save_all=True, append_images=[scan()]), ocr=True)
    assert [document.page_at(document.text.find(LINES[0])), len(document.pages)] == [1, 2]
    assert document.page_at(document.text.rfind(LINES[0])) == 2


def test_columns_of_prose_are_read_one_after_the_other(read: Read) -> None:
    page = blank(1520, 700)
    page.paste(scan(), (0, 0))
    page.paste(scan(), (780, 0))
    text = read("columns.png", saved(page, "PNG"), ocr=True).text
    assert text.index(LINES[2]) < text.rindex(LINES[0])


def test_a_screenshot_of_a_long_page_is_read_strip_by_strip(read: Read) -> None:
    page = blank(740, 330 * 14)
    for number in range(14):
        page.paste(scan(), (0, 330 * number))
    text = read("long.png", saved(page, "PNG"), ocr=True).text
    assert [text.count(line) for line in LINES] == [14, 14, 14]


def test_only_the_scanned_pages_of_a_pdf_are_recognised(read: Read) -> None:
    document = read("mixed.pdf", merged(made.pdf([["Typed words", "年假"], []]), pages_pdf(scan())), ocr=True)
    starts = [document.text[page.span.start :][: len(page.span)] for page in document.pages]
    assert starts[0] == "Typed words\n年假"
    assert starts[1] == ""
    assert LINES[0] in starts[2]


def test_a_scanners_stamp_does_not_pass_for_the_text_of_a_page(read: Read) -> None:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pages_pdf(scan()))))
    stamp = PdfReader(io.BytesIO(made.pdf([["Scanned with SomeScanner"]]))).pages[0]
    writer.pages[0].merge_page(stamp)
    buffer = io.BytesIO()
    writer.write(buffer)
    assert LINES[0] in read("stamped.pdf", buffer.getvalue(), ocr=True).text


def test_recognition_is_asked_for_before_it_starts(read: Read) -> None:
    with pytest.raises(NeedsRecognition):
        read("scan.png", SCAN.read_bytes())
    with pytest.raises(NeedsRecognition):
        read("scan.pdf", pages_pdf(scan()))


async def test_a_child_with_more_time_recognises_what_the_first_one_could_not(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(pages_pdf(scan()))
    document = await parse_in_child(
        path, "scan.pdf", Limits(), timeout_s=60, memory_mb=1024, ocr_timeout_s=120
    )
    assert LINES[0] in document.text
    with pytest.raises(UnreadableDocument, match=r"took longer than 0\.1 s") as refusal:
        await parse_in_child(path, "scan.pdf", Limits(), timeout_s=60, memory_mb=1024, ocr_timeout_s=0.1)
    assert "ocr_timeout_s" in str(refusal.value)


@pytest.fixture
def no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.parsers.ocr.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "rapidocr", None)


@pytest.mark.usefixtures("no_extra")
@pytest.mark.parametrize(("name", "data"), [("scan.png", SCAN.read_bytes()), ("scan.pdf", pages_pdf(scan()))])
def test_without_the_extra_the_refusal_says_how_to_install_it(name: str, data: bytes, read: Read) -> None:
    with pytest.raises(UnreadableDocument, match=r"recognition \(OCR\).*pip install -e '\.\[ocr\]'"):
        read(name, data)


@pytest.mark.usefixtures("no_extra")
def test_without_the_extra_a_picture_page_among_typed_ones_is_left_out(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    document = read("mixed.pdf", merged(made.pdf([["Typed words"], ["more"]]), pages_pdf(scan())))
    assert document.text == "Typed words\n\nmore"
    assert "1 of 3 pages are pictures" in caplog.text


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.png", saved(blank(300, 200), "PNG"), "No text was recognised"),
        ("bomb.png", saved(Image.new("1", (12_000, 12_000)), "PNG"), "too large to be read"),
        ("cut.jpg", saved(scan(), "JPEG")[:2000], "damaged"),
        ("words.png", b"words", "named like a picture, but its content looks like plain text"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_in_clear_words(
    name: str, data: bytes, words: str, read: Read
) -> None:
    with pytest.raises(UnreadableDocument, match=words):
        read(name, data, ocr=True)
