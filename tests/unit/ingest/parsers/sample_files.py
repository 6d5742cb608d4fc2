"""The sample documents of the parser tests, made by the libraries that users' programs resemble."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pdf_writer import write_pdf

from core.types import ParsedDocument

Read = Callable[..., ParsedDocument]  # (name, bytes, **limits)


def _bytes_of(save: Callable[[io.BytesIO], Any]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def pdf(pages: list[list[str]], **options: Any) -> bytes:
    with TemporaryDirectory() as folder:
        return write_pdf(Path(folder) / "made.pdf", pages, **options).read_bytes()


def handbook_pdf() -> bytes:
    return pdf(
        [
            ["员工手册", "第一章 休假制度", "员工每年享有十天带薪年假。"],
            [],
            ["Chapter 2 Pay", "Wages are paid monthly on day 25.", "目 录 与 说 明", "姓名 张三"],
        ],
        outline=[("第一章休假制度", 0), ("CHAPTER 2  Pay", 2)],
        title="员工手册 2024",
    )


def encrypted_pdf() -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(handbook_pdf())))
    writer.encrypt("secret", algorithm="RC4-128")
    return _bytes_of(writer.write)


def handbook_docx() -> bytes:
    from docx import Document
    from docx.enum.style import WD_STYLE_TYPE

    document = Document()
    document.core_properties.title = "不用的标题"
    document.add_paragraph("员工手册", style="Title")
    document.add_paragraph("前言在任何标题之前。")
    document.add_heading("休假", level=1)
    document.add_paragraph("年假十天。")
    chinese = document.styles.add_style("标题 2", WD_STYLE_TYPE.PARAGRAPH)
    document.add_paragraph("病假", style=chinese)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        [cell for row in table.rows for cell in row.cells],
        ["天数", "证明", "超过三天", "医院\n证明"],
        strict=True,
    ):
        cell.text = text
    document.add_paragraph("After the table.")
    document.add_heading("Pay", level=1)
    document.add_paragraph("Paid monthly.")
    return _bytes_of(document.save)


def slides_pptx() -> bytes:
    from pptx import Presentation
    from pptx.util import Inches

    presentation = Presentation()
    presentation.core_properties.title = "Quarterly review"
    titled = presentation.slides.add_slide(presentation.slide_layouts[1])
    titled.shapes.title.text = "业绩回顾"
    titled.placeholders[1].text = "收入增长百分之十"
    titled.notes_slide.notes_text_frame.text = "Mention the new office."
    untitled = presentation.slides.add_slide(presentation.slide_layouts[6])
    box = Inches(1)
    table = untitled.shapes.add_table(2, 2, box, box, box, box).table
    for row, values in enumerate((("Region", "Sales"), ("North", "12"))):
        for column, value in enumerate(values):
            table.cell(row, column).text = value
    return _bytes_of(presentation.save)


def staff_xlsx() -> bytes:
    from openpyxl import Workbook

    workbook = Workbook()
    staff = workbook.active
    staff.title = "员工"
    staff.append(["姓名", "入职", "薪资", "占比"])
    staff.append(["李雷", datetime.date(2024, 5, 1), 12000.0, 0.125])
    staff.append([None, None, None, None])
    staff.append(["韩梅梅", datetime.datetime(2023, 1, 2, 9, 30), 0.1 + 0.2, None])
    staff["D2"].number_format = "0.0%"
    workbook.create_sheet("Empty")
    numbers = workbook.create_sheet("Numbers")
    numbers.append([1, 2])
    numbers.append([3, "=A1+B1"])
    return _bytes_of(workbook.save)


def with_part(archive: bytes, name: str, content: bytes) -> bytes:
    """The ZIP archive with one member replaced or added."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.infolist():
            if member.filename != name:
                target.writestr(member, source.read(member))
        target.writestr(name, content)
    return buffer.getvalue()


def part_of(archive: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        return source.read(name)


CONTAINER_XML = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PACKAGE_OPF = (
    '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
    '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>员工之书</dc:title></metadata><manifest>'
    '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    '<item id="two" href="text/two%20b.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="one" href="text/one.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="cover" href="cover.png" media-type="image/png"/></manifest>'
    '<spine><itemref idref="cover"/><itemref idref="nav"/><itemref idref="one"/><itemref idref="two"/>'
    '<itemref idref="gone"/></spine></package>'
)
XHTML = (
    '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml">'
    "<head><title>never shown</title></head><body>{}</body></html>"
)


def book_epub(package: str = PACKAGE_OPF) -> bytes:
    nav = '<nav><ol><li><a href="text/one.xhtml#top">Foreword</a></li></ol></nav>'
    return zipped(
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": CONTAINER_XML.encode(),
            "OEBPS/book.opf": package.encode(),
            "OEBPS/nav.xhtml": XHTML.format(nav).encode(),
            "OEBPS/text/two b.xhtml": XHTML.format("<h1>第一章 休假</h1><p>年假十天。</p>").encode(),
            "OEBPS/text/one.xhtml": XHTML.format("<p>Written for new staff.</p>").encode(),
        }
    )


def zipped(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


MEMO_RTF = (
    rb"{\rtf1\ansi\ansicpg936{\fonttbl{\f0\fcharset134 SimSun;}{\f1\fcharset0 Arial;}}{\info{\title hidden}}"
    rb"\f0 \'c4\'ea\'bc\'d9\'ca\'ae\'cc\'ec\'a1\'a3\par\f1 Paid \b monthly\b0 .\par\u30149?\u20551?\par"
    rb"\trowd Kind\cell Days\cell\row}"
)


def reply_eml(charset: str = "utf-8") -> bytes:
    """A reply with text and HTML, a forwarded message of HTML only, and a file."""
    from email.message import EmailMessage

    forwarded = EmailMessage()
    forwarded["From"], forwarded["Subject"] = "Han <han@example.com>", "Tariff"
    forwarded.set_content("<p>The tariff is <b>12</b> euro.</p><script>no</script>", subtype="html")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "李雷 <li@example.com>", "hr@example.com", "关于年假"
    message["X-Spam"] = "not shown"
    message.set_content("年假是十天吗？\n", charset=charset)
    message.add_alternative("<p>the same as HTML</p>", subtype="html")
    message.add_attachment(forwarded)
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="合同.pdf")
    return message.as_bytes()


POLICY_PY = '''"""Rules of leave."""

import datetime

class Leave(Base):
    def days(self) -> int:
        return 10

async def main():
    pass
'''

PAGE_HTML = """<!DOCTYPE html>
<html><head><meta charset="{charset}"><title>休假 &amp; 薪资</title><style>p {{ color: red }}</style></head>
<body><header><a href="/">Site name</a></header><nav><ul><li>Home</li></ul></nav>
<p>Before any heading.</p>
<h1>员工<em>手册</em></h1>
<p>员工每年享有
   十天带薪年假。</p>
<script>alert("never shown")</script><!-- a comment -->tail after the script
<h2>Leave<br>rules</h2>
<ul><li>Sick   leave</li><li>Parental <b>leave</b></li></ul>
<table><caption>Days</caption><tr><th>Kind</th><th>Days</th></tr><tr><td>Annual</td><td>10</td></tr></table>
<pre>
def f():
    return 1</pre>
<p hidden>invisible</p><div role="navigation">menu</div>
<footer>Imprint</footer></body></html>"""

NOTES_MD = """---
title: "运维手册"
tags: [a, b]
---
Intro.

# 安装 **步骤**

```sh
# not a heading
make run
```

Setext `code`
-------------

> # quoted, no section

text
"""
