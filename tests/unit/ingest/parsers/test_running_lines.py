"""Are headers and footers left out, and nothing else?"""

from __future__ import annotations

import pytest
import sample_files as made
from sample_files import Read

from ingest.parsers.running_lines import without_running_lines


def pages(*lines: str, count: int = 6) -> list[str]:
    """Pages of these lines, in which `{n}` is the number of the page and `{n10}` ten times that."""
    return ["\n".join(lines).format(n=n, n10=10 * n, text=f"Body {'x' * n}.") for n in range(1, count + 1)]


@pytest.mark.parametrize(
    "line", ["Annual Report 2024", "- {n} -", "第 {n} 页 共 120 页", "Page {n} of 120", "2024-05-01  {n}"]
)
@pytest.mark.parametrize("above", [True, False])
def test_what_repeats_at_an_edge_is_left_out(line: str, above: bool) -> None:
    made_of = pages(line, "{text}") if above else pages("{text}", line)
    assert without_running_lines(made_of) == pages("{text}")


def test_header_and_footer_of_several_lines_go_together() -> None:
    found = without_running_lines(pages("ACME", "Handbook", "", "{text}", "Internal", "{n}"))
    assert found == ["\n" + page for page in pages("{text}")]


@pytest.mark.parametrize(
    "line",
    [
        "Screw {n10} weighs 3 grams",  # a table that goes on from page to page
        "{n10} 25 300",
        "{text} again",
    ],
)
def test_lines_whose_numbers_are_not_the_pages_stay(line: str) -> None:
    assert without_running_lines(pages(line, "{text}")) == pages(line, "{text}")


def test_what_repeats_on_half_of_the_pages_or_inside_them_stays() -> None:
    half = pages("Draft", "{text}", count=3) + pages("{text}", count=6)[3:]
    assert without_running_lines(half) == half
    inside = pages("{text}a", "{text}b", "{text}c", "Note:", "{text}d", "{text}e", "{text}f")
    assert without_running_lines(inside) == inside


def test_a_few_pages_prove_nothing() -> None:
    three = pages("Annual Report", "{text}", count=3)
    assert without_running_lines(three) == three


def test_a_pdf_is_read_without_them_and_keeps_its_pages(read: Read) -> None:
    facts = ["Pumps are blue.", "Valves are red.", "Hoses are green.", "Clamps are grey.", "Seals are black."]
    document = read(
        "manual.pdf",
        made.pdf([["Manual 2024", fact, f"Page {n}"] for n, fact in enumerate(facts, start=1)]),
    )
    assert document.text == "\n\n".join(facts)
    assert [page.number for page in document.pages] == [1, 2, 3, 4, 5]
