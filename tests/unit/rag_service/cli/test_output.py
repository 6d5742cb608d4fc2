"""Can a document steer the terminal that shows it?"""

from __future__ import annotations

import pytest

from rag_service.api.schemas import Citation
from rag_service.cli.output import one_line, place, print_table, printable


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
