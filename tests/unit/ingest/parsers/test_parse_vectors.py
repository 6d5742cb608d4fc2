"""What must and must not be in the text of each format? One frozen table, one test for all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import sample_files as made
from sample_files import Read

CSV_TEXT = '姓名;城市\n李雷;北京\n"韩;梅";上海\n'


@dataclass(frozen=True)
class Vector:
    name: str
    data: bytes
    must: tuple[str, ...]
    must_not: tuple[str, ...] = ()
    title: str | None = None
    pages: tuple[str, ...] = ()  # what each page's text starts with
    sections: tuple[tuple[str, ...], ...] = ()
    section_starts: tuple[str, ...] = ()


def html(encoding: str, charset: str) -> Vector:
    return Vector(
        f"page-{encoding}.html",
        made.PAGE_HTML.format(charset=charset).encode(encoding),
        must=(
            "员工每年享有十天带薪年假。",
            "tail after the script",
            "- Sick leave\n- Parental leave",
            "Days\n| Kind | Days |\n| Annual | 10 |",
            "def f():\n    return 1",
        ),
        must_not=("never shown", "color", "Home", "Site name", "Imprint", "invisible", "menu", "a comment"),
        title="休假 & 薪资",
        sections=(("员工手册",), ("员工手册", "Leave rules")),
        section_starts=("员工手册\n", "Leave rules\n"),
    )


def markdown(encoding: str) -> Vector:
    return Vector(
        f"notes-{encoding}.md",
        made.NOTES_MD.encode(encoding),
        must=("```sh\n# not a heading\nmake run\n```", "> # quoted"),
        title="运维手册",
        sections=(("安装 步骤",), ("安装 步骤", "Setext code")),
        section_starts=("# 安装 **步骤**\n", "Setext `code`\n---"),
    )


def csv(encoding: str) -> Vector:
    return Vector(
        f"staff-{encoding}.csv",
        CSV_TEXT.encode(encoding),
        must=("| 姓名 | 城市 |\n姓名: 李雷; 城市: 北京\n姓名: 韩;梅; 城市: 上海",),
    )


def txt(encoding: str) -> Vector:
    traditional = encoding == "big5hkscs"
    line = "員工請病假應該附上證明。" if traditional else "会议纪要：预算在2024年批准。"
    return Vector(
        f"minutes-{encoding}.txt",
        f"{line}\r\nnext\x0bline\n".encode(encoding),
        must=(f"{line}\nnext\nline",),
        must_not=("\r", "\ufeff"),
    )


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030")
VECTORS = (
    Vector(
        "handbook.pdf",
        made.handbook_pdf(),
        must=("员工每年享有十天带薪年假。", "Wages are paid monthly on day 25.", "目录与说明", "姓名 张三"),
        must_not=("\r",),
        title="员工手册 2024",
        pages=("员工手册\n第一章", "", "Chapter 2 Pay"),
        sections=(("第一章休假制度",), ("CHAPTER 2 Pay",)),
        section_starts=("第一章 休假制度\n", "Chapter 2 Pay\n"),
    ),
    Vector(
        "handbook.docx",
        made.handbook_docx(),
        must=(
            "员工手册\n\n前言在任何标题之前。",
            "| 天数 | 证明 |\n| 超过三天 | 医院 证明 |\n\nAfter the table.",
        ),
        title="员工手册",
        sections=(("休假",), ("休假", "病假"), ("Pay",)),
        section_starts=("休假\n\n年假", "病假\n\n| 天数", "Pay\n\nPaid"),
    ),
    Vector(
        "review.pptx",
        made.slides_pptx(),
        must=("收入增长百分之十", "Mention the new office.", "| Region | Sales |\n| North | 12 |"),
        title="Quarterly review",
        pages=("业绩回顾", "| Region"),
        sections=(("业绩回顾",),),
        section_starts=("业绩回顾\n\n收入",),
    ),
    Vector(
        "staff.xlsx",
        made.staff_xlsx(),
        must=(
            "姓名: 李雷; 入职: 2024-05-01; 薪资: 12000; 占比: 12.5%\n",
            "姓名: 韩梅梅; 入职: 2023-01-02 09:30:00; 薪资: 0.3",
            "| 1 | 2 |\n| 3 |",
        ),
        must_not=("=A1", "Empty", "None"),
        pages=("员工\n", "", "Numbers\n"),
        sections=(("员工",), ("Numbers",)),
        section_starts=("员工\n\n| 姓名", "Numbers\n\n| 1"),
    ),
    Vector(
        "book.epub",
        made.book_epub(),
        must=("Foreword\n\nWritten for new staff.\n\n第一章 休假\n\n年假十天。",),
        must_not=("never shown",),
        title="员工之书",
        sections=(("Foreword",), ("第一章 休假",)),
        section_starts=("Foreword\n\nWritten", "第一章 休假\n\n年假"),
    ),
    Vector(
        "memo.rtf",
        made.MEMO_RTF,
        must=("年假十天。\nPaid monthly.\n病假\nKind|Days",),
        must_not=("SimSun", "hidden"),
    ),
    *(
        Vector(
            f"reply-{charset}.eml",
            made.reply_eml(charset),
            must=(
                "From: 李雷 <li@example.com>\nTo: hr@example.com\nSubject: 关于年假\n\n年假是十天吗？",
                "From: Han <han@example.com>\nSubject: Tariff\n\nThe tariff is 12 euro.",
                "Attachments: 合同.pdf",
            ),
            must_not=("the same as HTML", "not shown", "<p>", "script"),
            title="关于年假",
        )
        for charset in ("utf-8", "gb18030")
    ),
    Vector(
        "policy.py",
        made.POLICY_PY.encode(),
        must=("    def days(self) -> int:\n        return 10",),
        sections=(("Leave",), ("main",)),
        section_starts=("class Leave(Base):", "async def main():"),
    ),
    html("utf-8", "utf-8"),
    html("utf-8-sig", "iso-8859-1"),
    html("utf-16", "utf-16"),
    html("gb18030", "gb2312"),
    *map(markdown, ENCODINGS),
    *map(csv, ENCODINGS),
    *map(txt, (*ENCODINGS, "big5hkscs", "utf-32")),
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_text_title_pages_and_sections_are_as_written(vector: Vector, read: Read) -> None:
    document = read(vector.name, vector.data)
    for wanted in vector.must:
        assert wanted in document.text
    for unwanted in vector.must_not:
        assert unwanted not in document.text
    assert document.title == vector.title
    assert [page.number for page in document.pages] == list(range(1, len(vector.pages) + 1))
    for page, start in zip(document.pages, vector.pages, strict=True):
        assert document.text[page.span.start : page.span.end].startswith(start)
        assert bool(start) == bool(len(page.span))
    assert tuple(section.path for section in document.sections) == vector.sections
    for section, start in zip(document.sections, vector.section_starts, strict=True):
        assert document.text[section.span.start : section.span.end].startswith(start)


def test_a_slide_without_title_belongs_to_no_section(read: Read) -> None:
    document = read("review.pptx", made.slides_pptx())
    assert document.sections[-1].span.end <= document.pages[1].span.start


def test_every_page_of_a_pdf_is_found_by_its_offset(read: Read) -> None:
    document = read("handbook.pdf", made.handbook_pdf())
    assert document.page_at(document.text.index("带薪")) == 1
    assert document.page_at(document.text.index("Wages")) == 3


@pytest.mark.parametrize("rotate", [0, 180, 270])
def test_a_rotated_page_keeps_its_lines(rotate: int, read: Read) -> None:
    document = read("turned.pdf", made.pdf([["First line 𠮷", "second line"]], rotate=rotate))
    assert document.text == "First line 𠮷\nsecond line"


def test_a_bookmark_that_is_not_on_its_page_starts_at_the_top(read: Read) -> None:
    document = read("a.pdf", made.pdf([["one"], ["two"]], outline=[("Elsewhere", 1)]))
    assert [section.span.start for section in document.sections] == [document.text.index("two")]


def test_a_bookmark_means_the_heading_rather_than_where_it_is_mentioned(read: Read) -> None:
    pages = [["Intro", "Intro and Pay follow", "before Pay", "Pay", "monthly"]]
    document = read("a.pdf", made.pdf(pages, outline=[("Intro", 0), ("Pay", 0)]))
    starts = [section.span.start for section in document.sections]
    assert starts == [0, document.text.index("Pay\nmonthly")]


def test_word_content_controls_and_insertions_are_read_and_deletions_are_not(read: Read) -> None:
    archive = made.handbook_docx()
    body = made.part_of(archive, "word/document.xml").decode()
    extra = (
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:ins w:id='1' w:author='a'><w:r><w:t>inserted</w:t></w:r></w:ins>"
        "<w:del w:id='2' w:author='a'><w:r><w:delText>deleted</w:delText></w:r></w:del></w:p><w:sectPr"
    )
    changed = body.replace("<w:sectPr", extra, 1).encode()
    text = read("a.docx", made.with_part(archive, "word/document.xml", changed)).text
    assert "in a control\n\ninserted" in text
    assert "deleted" not in text


def test_a_file_without_extension_is_read_by_its_content(read: Read) -> None:
    assert read("handbook", made.handbook_pdf()).pages
    assert read("README", b"plain words").text == "plain words"


def test_deeply_nested_pages_are_read(read: Read) -> None:
    page = "<html><body>" + "<div>" * 1500 + "core" + "</div>" * 1500 + "<p>after</p></body></html>"
    assert read("deep.html", page.encode()).text == "core\n\nafter"


BANNERS = """<html><body class="cookie-banner-open"><div id="page">
<header><a>ACME Corp</a></header>
<div class="nav breadcrumb">Home / Pumps</div>
<div class="content"><header><h1>Pumps</h1></header><p>{text}</p>
<p class="cookie-recipe">Oat cookies need butter.</p><ul class="share-buttons"><li>Tweet</li></ul></div>
<div id="onetrust-banner-sdk"><p>We value your privacy.</p></div>
<section class="cookie-notice"><h2>Cookies</h2><p>Accept all</p></section></div></body></html>"""


def test_banners_and_other_boilerplate_are_left_out_by_their_names(read: Read) -> None:
    text = "The pump is replaced every 4000 hours. " * 5
    document = read("pump.html", BANNERS.format(text=text).encode())
    assert document.text == f"Pumps\n\n{text.strip()}\n\nOat cookies need butter."


def test_a_page_that_is_all_banner_by_name_is_read(read: Read) -> None:
    page = b"<html><body><div class='cookie-notice'><p>Our cookies, at length.</p></div></body></html>"
    assert read("cookies.html", page).text == "Our cookies, at length."
