"""Which files are refused, and does the message say what to do? Every refusal is an `UnreadableDocument`."""

from __future__ import annotations

import io
import os
import zipfile

import pytest
import sample_files as made
from sample_files import Read

from core.errors import UnreadableDocument

OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(64)
PAGE = b"<!doctype html><html><body>hello</body></html>"
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE w [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><w>&c;</w>'
)


def plain_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no document")
    return buffer.getvalue()


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


DOCX = made.handbook_docx()
REFUSED = (
    ("empty.txt", b"", "is empty"),
    ("blank.txt", b" \n\n ", "no text"),
    ("blank.md", b"\n", "no text"),
    ("blank.html", b"<html><body><script>x</script></body></html>", "no text"),
    ("blank.pdf", made.pdf([[], []]), "no text on the 2 page"),
    ("secret.pdf", made.encrypted_pdf(), "encrypted with a password"),
    ("secret.docx", OLE, "encrypted with a password"),
    ("old.doc", OLE, "save as .docx"),
    ("old.xls", OLE, "save as .xlsx"),
    ("old.ppt", OLE, "save as .pptx"),
    ("mail.msg", OLE, "Supported are .pdf"),
    ("book.epub", plain_zip(), "named like an e-book, but its content looks like a ZIP archive"),
    ("empty.epub", made.zipped({"mimetype": b"application/epub+zip"}), "damaged"),
    ("words.epub", made.handbook_docx(), "looks like a Word document"),
    ("notes.eml", b"just some words\n", "neither sender nor subject"),
    ("page.rtf", PAGE, "looks like an HTML page"),
    ("noise", b"\x1f\x8b\x08" + bytes(64), "a gzip archive"),
    ("picture.pdf", PNG, "named like a PDF, but its content looks like a PNG image"),
    ("page.pdf", PAGE, "looks like an HTML page"),
    ("page.csv", PAGE, "looks like an HTML page"),
    ("page.txt", PAGE, "looks like an HTML page"),
    ("report.txt", made.handbook_pdf(), "looks like a PDF"),
    ("archive.docx", plain_zip(), "looks like a ZIP archive"),
    ("sheet.docx", made.staff_xlsx(), "named like a Word document, but its content looks like a workbook"),
    ("words.xlsx", b"name,city\n", "looks like plain text"),
    ("binary.txt", bytes(range(256)) * 20, "binary data"),
    ("noise.txt", b"\x81\x00\xfe\x00\x00\x01\xff" * 50, "binary data"),
    ("cut.pdf", b"%PDF-1.7\n1 0 obj\n<<", "damaged"),
    ("cut.docx", truncated(DOCX), "looks like a ZIP archive"),
    ("broken.docx", made.with_part(DOCX, "word/document.xml", b"<w:document"), "damaged"),
    ("quote.csv", b'a,b\n"' + b"x" * 140_000, "never closed"),
)


@pytest.mark.parametrize(("name", "data", "words"), REFUSED, ids=[row[0] for row in REFUSED])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_cannot_be_read_is_refused_in_clear_words(
    name: str, data: bytes, words: str, read: Read
) -> None:
    with pytest.raises(UnreadableDocument) as refusal:
        read(name, data)
    assert words in str(refusal.value)
    assert name in str(refusal.value)


@pytest.mark.parametrize("name", ["handbook.docx", "review.pptx", "staff.xlsx"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_entities_are_refused_before_any_library_sees_them(name: str, encoding: str, read: Read) -> None:
    archives = {
        "handbook.docx": DOCX,
        "review.pptx": made.slides_pptx(),
        "staff.xlsx": made.staff_xlsx(),
    }
    with pytest.raises(UnreadableDocument, match="declares XML entities"):
        read(name, made.with_part(archives[name], "docProps/core.xml", LAUGHS.encode(encoding)))


def test_an_archive_that_expands_too_far_is_refused(read: Read) -> None:
    bomb = made.with_part(DOCX, "word/media/zeros.bin", bytes(20 * 2**20))
    with pytest.raises(UnreadableDocument, match="expands from"):
        read("bomb.docx", bomb)


def test_an_archive_larger_than_the_limit_is_refused_whatever_its_ratio(read: Read) -> None:
    big = made.with_part(DOCX, "word/media/noise.bin", os.urandom(2**20))
    with pytest.raises(UnreadableDocument, match="expands from"):
        read("big.docx", big, max_expanded_bytes=2**20)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.pdf", made.handbook_pdf()), ("a.pptx", made.slides_pptx()), ("a.xlsx", made.staff_xlsx())],
)
def test_too_many_pages_are_refused(name: str, data: bytes, read: Read) -> None:
    with pytest.raises(UnreadableDocument, match="more than 1 pages"):
        read(name, data, max_pages=1)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"x" * 100),
        ("a.csv", b"x,y\n" * 25),
        ("a.md", b"# x\n" * 25),
        ("a.html", b"<p>xxxxxxxxxx" * 9),
        ("a.pdf", made.handbook_pdf()),
        ("a.docx", DOCX),
    ],
)
def test_too_much_text_is_refused(name: str, data: bytes, read: Read) -> None:
    with pytest.raises(UnreadableDocument, match="more than 20 characters"):
        read(name, data, max_characters=20)


def test_a_page_nested_beyond_what_the_parser_follows_is_refused_rather_than_cut(read: Read) -> None:
    with pytest.raises(UnreadableDocument, match="nested too deeply"):
        read("deep.html", b"<html><body>" + b"<div>" * 5000 + b"core")
