"""Do the spans of pages and sections always fit the text?"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers import FORMATS, Limits, parse
from ingest.parsers.base import TextBuilder, clean, table_rows, tidy

ANY_TEXT = st.text(st.characters(), max_size=40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("page"), ANY_TEXT),
        st.tuples(st.just("add"), ANY_TEXT),
        st.tuples(st.sampled_from(["1", "2", "3"]), ANY_TEXT),
        st.tuples(st.just("end"), ANY_TEXT),
    ),
    max_size=12,
)


def check_spans(document: ParsedDocument) -> None:
    assert document.text == clean(document.text)
    spans = [page.span for page in document.pages]
    for span in [*spans, *(section.span for section in document.sections)]:
        assert 0 <= span.start <= span.end <= len(document.text)
    for before, after in pairwise(spans):
        assert before.end <= after.start
    for one, other in pairwise(section.span for section in document.sections):
        assert one.end <= other.start
        assert one.start < other.start


@settings(deadline=None)
@given(STEPS)
def test_spans_fit_whatever_is_appended(steps: list[tuple[str, str]]) -> None:
    builder = TextBuilder(Limits())
    builder.add("start")
    for step, text in steps:
        if step == "page":
            builder.page()
        elif step == "end":
            builder.end_section()
        elif step == "add":
            builder.add(text)
        else:
            builder.heading(int(step), text)
    document = builder.build()
    check_spans(document)
    for section in document.sections:
        stands_there = document.text[section.span.start : section.span.end]
        assert " ".join(stands_there.split()).startswith(section.path[-1])


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv"])
@settings(deadline=None)
@given(text=st.text(st.one_of(st.characters(), st.sampled_from("#<>h1/-\n\r ,;\"'|=&`\ue000")), max_size=200))
def test_spans_fit_whatever_the_file_says(name: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stored"
        path.write_bytes(text.encode("utf-8", errors="replace"))
        try:
            document = parse(path, name, Limits())
        except UnreadableDocument as error:
            assert "damaged" not in error.message
        else:
            check_spans(document)


@settings(deadline=None)
@given(ANY_TEXT)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


def test_what_carries_no_text_is_removed_and_the_rest_stays() -> None:
    assert clean("a\x00\xadb\ufeff\ufffe\uffff\ud800c\r\nd\re\u2028f\tg\u3000h") == "abc\nd\ne\nf\tg\u3000h"


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([["Name", "City"], ["Li", "Rome"]], ["| Name | City |", "Name: Li; City: Rome"]),
        ([["Name", "City"], ["", "Rome"]], ["| Name | City |", "City: Rome"]),
        ([["Name", "City"], ["Li", "Rome", "more"]], ["| Name | City |", "| Li | Rome | more |"]),
        ([["1", "2"], ["3", "4"]], ["| 1 | 2 |", "| 3 | 4 |"]),
        ([["A", "A"], ["3", "4"]], ["| A | A |", "| 3 | 4 |"]),
        ([["Title"], ["a", "b"]], ["| Title |", "| a | b |"]),
        ([[], ["", ""], ["a", "b", ""]], ["| a | b |"]),
    ],
)
def test_rows_below_a_heading_row_stand_alone(rows: list[list[str]], lines: list[str]) -> None:
    assert list(table_rows(rows)) == lines


def test_extensions_belong_to_one_format_each() -> None:
    extensions = [extension for known in FORMATS for extension in known.extensions]
    assert len(set(extensions)) == len(extensions)
    assert all(extension == extension.lower() and extension[0] == "." for extension in extensions)
