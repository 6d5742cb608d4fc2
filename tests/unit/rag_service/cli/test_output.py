"""Can a document steer the terminal that shows it?"""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from rag_service.api.schemas import Citation
from rag_service.cli.output import (
    LONGEST_CELL,
    one_line,
    place,
    print_table,
    printable,
    shortened,
    table_lines,
)


@pytest.mark.parametrize(
    "text",
    [
        "\x1b]0;title\x07",  # sets the window's title
        "\x1b[2J",  # clears the screen
        "\x9b31m",  # the one-character form of ESC [
        "a\rb",  # overwrites the line
        "\u202etxt.exe",  # shows what follows from right to left
    ],
)
def test_control_characters_do_not_reach_the_terminal(text: str) -> None:
    assert printable(text).isprintable()


def test_text_line_breaks_and_tabs_stay() -> None:
    assert printable("第一行\n\tsecond 😀") == "第一行\n\tsecond 😀"


def test_a_long_quote_is_cut_to_one_line() -> None:
    assert one_line("one\n two  three", most=8) == "one two…"


@pytest.mark.parametrize(
    ("page", "section", "expected"),
    [
        (3, "Leave", "a.md, page 3, Leave"),
        (None, "Leave", "a.md, Leave"),
        (0, "", "a.md, page 0"),
        (None, "", "a.md"),
    ],
)
def test_a_place_names_what_the_document_has(page: int | None, section: str, expected: str) -> None:
    citation = Citation(
        number=1,
        document_id="d",
        document_name="a.md",
        chunk_id="c",
        page=page,
        section=section,
        start=0,
        end=1,
        quote="q",
        url="http://x",
    )
    assert place(citation) == expected


def test_a_table_that_is_not_in_a_terminal_keeps_each_row_on_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("name", "error"), [("很长的名字" * 30, "why " * 50), ("[bold]b[/bold]", None)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "[bold]b[/bold]" in lines[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short.md", "short.md"),
        ("abcdefghij", "abcdefghij"),
        ("abcdefghijk", "abcd…hijk"),
        ("员工手册制度", "员工…制度"),
        ("a员工手册制度b", "a员…度b"),
        ("", ""),
    ],
)
def test_a_long_text_is_cut_in_the_middle_to_columns_of_the_terminal(text: str, expected: str) -> None:
    assert shortened(text, most=10) == expected


LONG = "很长" * 60 + ".pdf"


def test_in_a_terminal_long_names_are_cut_and_reasons_are_whole_and_under_each_other() -> None:
    reason = "because " * 20
    lines = table_lines([["failed", "reason"], [LONG, reason + "1"], ["a.md", reason + "2"]], cut=True)
    places = [cell_len(line[: line.index("rea" if row == 0 else "bec")]) for row, line in enumerate(lines)]
    assert set(places) == {places[0]}
    assert places[0] <= LONGEST_CELL + 2
    assert lines[1].startswith("很长")
    assert lines[1].split("  ")[0].endswith("很长.pdf")
    assert lines[1].endswith(reason + "1")


def test_elsewhere_a_long_name_is_whole_and_pads_no_other_line() -> None:
    lines = table_lines([["name", "status"], [LONG, "ready"], ["a.md", "ready"]], cut=False)
    assert lines[1] == f"{LONG}  ready"
    assert cell_len(lines[2]) == LONGEST_CELL + len("  ready")


def test_no_line_of_a_table_ends_in_spaces() -> None:
    assert table_lines([["a", "b"], ["1", ""]], cut=False) == ["a  b", "1"]


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "status"), [])
    assert capsys.readouterr().out == "name  status\n"
