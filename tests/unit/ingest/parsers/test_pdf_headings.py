"""Do the headings of a PDF without an outline become sections, and nothing else?"""

from __future__ import annotations

import sample_files as made
from sample_files import Read

from ingest.parsers.pdf_headings import Line, headings

BODY = "Parental leave is sixteen weeks, and begins when the child is born."


def lines(*sized: tuple[str, float], page: int = 0) -> list[Line]:
    """These lines between ten of the text, which has 12 points."""
    return [Line(page, text, size) for text, size in [*sized, *[(BODY, 12.0)] * 10]]


def test_lines_larger_than_the_text_are_sections_by_their_size(read: Read) -> None:
    pages = [
        ["Handbook", "1. Leave", BODY, BODY, "1.1 For parents", BODY, BODY],
        ["二、差旅", BODY, BODY, BODY],
    ]
    sizes = {"Handbook": 24, "1. Leave": 18, "1.1 For parents": 15, "二、差旅": 18}
    document = read("a.pdf", made.pdf(pages, sizes=sizes))
    assert [section.path for section in document.sections] == [
        ("Handbook",),
        ("Handbook", "1. Leave"),
        ("Handbook", "1. Leave", "1.1 For parents"),
        ("Handbook", "二、差旅"),
    ]
    starts = [document.text[section.span.start :].split("\n")[0] for section in document.sections]
    assert starts == ["Handbook", "1. Leave", "1.1 For parents", "二、差旅"]


def test_an_outline_is_believed_before_sizes(read: Read) -> None:
    pdf = made.pdf([["Handbook", "Leave", BODY, BODY]], outline=[("Leave", 0)], sizes={"Handbook": 24})
    assert [section.path for section in read("a.pdf", pdf).sections] == [("Leave",)]


def test_a_large_running_header_is_no_section(read: Read) -> None:
    names = ["Leave", "Travel", "Pay", "Tools", "Visitors", "Safety"]
    pages = [["ACME", name, *[f"{BODY} {name}"] * 3] for name in names]
    document = read("a.pdf", made.pdf(pages, sizes={"ACME": 30} | dict.fromkeys(names, 18)))
    assert [section.path[-1] for section in document.sections] == names


def test_a_text_of_one_size_has_no_headings() -> None:
    assert headings(lines()) == []
    assert headings([]) == []


def test_slightly_larger_and_smaller_lines_are_no_headings() -> None:
    assert headings(lines(("Emphasis in another font", 13.0), ("A footnote", 8.0))) == []


def test_a_heading_of_two_lines_is_one() -> None:
    found = headings(lines(("How to descale the boiler and", 18.0), ("every pipe", 18.0)))
    assert found == [(1, "How to descale the boiler and every pipe", 0)]


def test_sizes_that_differ_by_a_font_are_one_level() -> None:
    found = headings(
        lines(("Leave", 18.0)) + lines(("差旅", 17.5), page=1) + lines(("Details", 15.0), page=1)
    )
    assert found == [(1, "Leave", 0), (1, "差旅", 1), (2, "Details", 1)]


def test_a_table_of_contents_and_numbers_and_long_quotes_are_no_headings() -> None:
    large = [("2 Leave . . . . . . . . 7", 16.0), ("42", 30.0), ("休假…………………… 3", 16.0), (BODY * 3, 15.0)]
    for each in large:
        assert headings(lines(each)) == []


def test_a_poster_has_no_headings() -> None:
    slogans = [Line(n, "Parental leave for everybody, now", 40.0) for n in range(9)]
    assert headings([*slogans, *[Line(0, BODY, 12.0)] * 10]) == []
