"""What every strategy promises: exact pieces in order, nothing lost, sections respected; and what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from core.errors import InvalidValue
from core.text import weight
from core.types import Page, ParsedDocument, Section, Span
from ingest.chunkers.base import Chunking, Piece, Strategy, to_records
from rag_service.wiring import CHUNKERS, make_chunker

LIMIT = 60
WINDOW = 160  # tokens, 80 of which are reserved


class LetterCounts:
    """No model: a text's vector counts its letters, so texts with the same letters are near. A token is a character."""

    name = "letter-counts"
    dim = 16
    max_tokens = WINDOW

    async def dimension(self) -> int:
        return self.dim

    def count_tokens(self, text: str) -> int:
        return len(text)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for character in text:
                vectors[row, ord(character) % self.dim] += 1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)

    embed_queries = embed_passages

    async def close(self) -> None:
        return


def chunking(strategy: Strategy) -> Chunking:
    own = {Strategy.RECURSIVE: {"overlap": 15}, Strategy.PARENT_CHILD: {"child_characters": 20}}
    return Chunking(strategy=strategy, characters=LIMIT, **own.get(strategy, {}))


def cut(document: ParsedDocument, how: Chunking | Strategy) -> list[Piece]:
    how = chunking(how) if isinstance(how, Strategy) else how
    return asyncio.run(make_chunker(LetterCounts(), how).cut(document))


def texts(document: ParsedDocument, pieces: Sequence[Piece]) -> list[str]:
    return [document.text[piece.span.start : piece.span.end] for piece in pieces]


LINES = st.sampled_from(
    [
        "年假十天。",
        "Leave is ten days. Sick leave needs a note.\n",
        "| Name | City |\n| Li | Beijing |\n| Ann | Rome |\n",
        "| a | b |\n" + "".join(f"| row {n} | {'x' * 20} |\n" for n in range(6)),
        "没有标点的很长一行" * 9,
        "repeat repeat repeat ",
        "x" * 150,
        "\n\n",
        " ",
    ]
)
BODIES = st.lists(LINES, max_size=6).map("".join)
LEVELS = st.lists(st.tuples(st.integers(1, 3), BODIES), max_size=5)


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    """A document with nested sections and, sometimes, pages that do not care about them."""
    text = draw(BODIES)
    headings: list[tuple[int, str]] = []
    found: list[tuple[tuple[str, ...], int]] = []
    for number, (level, body) in enumerate(draw(LEVELS)):
        headings = [heading for heading in headings if heading[0] < level]
        headings.append((level, f"H{number}"))
        found.append((tuple(name for _, name in headings), len(text)))
        text += f"H{number}\n{body}\n"
    ends = [*(start for _, start in found[1:]), len(text)][: len(found)]
    sections = tuple(Section(path, Span(start, end)) for (path, start), end in zip(found, ends, strict=True))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=3)))
    pages = tuple(Page(n, Span(a, b)) for n, (a, b) in enumerate(pairwise([0, *cuts, len(text)]), 1) if a < b)
    return ParsedDocument(text, sections=sections, pages=pages if draw(st.booleans()) else ())


def test_every_strategy_has_a_chunker() -> None:
    assert set(CHUNKERS) == set(Strategy)


def test_names_tell_strategies_and_their_parameters_apart() -> None:
    ways = [chunking(strategy) for strategy in Strategy]
    ways += [way.model_copy(update={"characters": 300}) for way in ways]
    ways += [Chunking(strategy=Strategy.SENTENCE_WINDOW, characters=LIMIT, window=5)]
    ways += [Chunking(strategy=Strategy.SEMANTIC, characters=LIMIT, breakpoint=80)]
    names = {make_chunker(LetterCounts(), way).name for way in ways}
    assert len(names) == len(ways)


@pytest.mark.parametrize("strategy", Strategy)
@given(document=documents())
@settings(deadline=None, max_examples=60)
def test_pieces_are_exact_in_order_and_no_longer_than_allowed(
    strategy: Strategy, document: ParsedDocument
) -> None:
    pieces = cut(document, strategy)
    for piece, text in zip(pieces, texts(document, pieces), strict=True):
        assert text == text.strip() != ""
        assert weight(text) <= LIMIT + 1
        if piece.parent:
            assert piece.parent.start <= piece.span.start < piece.span.end <= piece.parent.end
            assert weight(document.text[piece.parent.start : piece.parent.end]) <= LIMIT
    spans = [piece.span for piece in pieces]
    assert all(a.start < b.start and a.end <= b.end for a, b in pairwise(spans))
    if strategy != Strategy.RECURSIVE:
        assert all(a.end <= b.start for a, b in pairwise(spans))
        assert all(len(span) <= WINDOW - 80 for span in spans)
    records = to_records(pieces, document, document_id="d", revision="r", title="T")
    assert [r.text for r in records] == [document.text[r.start : r.end] for r in records]
    assert [r.parent for r in records] == [piece.parent for piece in pieces]


@pytest.mark.parametrize("strategy", Strategy)
@given(document=documents())
@settings(deadline=None, max_examples=60)
def test_nothing_but_lone_headings_is_lost(strategy: Strategy, document: ParsedDocument) -> None:
    covered = {
        place for piece in cut(document, strategy) for place in range(piece.span.start, piece.span.end)
    }
    lost = "".join(c for place, c in enumerate(document.text) if place not in covered)
    headings = {name for section in document.sections for name in section.path}
    assert set(lost.split()) <= headings


@pytest.mark.parametrize("strategy", sorted(set(Strategy) - {Strategy.PAGE, Strategy.HEADING_TREE}))
@given(document=documents())
@settings(deadline=None, max_examples=60)
def test_no_piece_crosses_the_border_of_a_section(strategy: Strategy, document: ParsedDocument) -> None:
    for piece in cut(document, strategy):
        for span in filter(None, (piece.span, piece.parent)):
            assert document.section_at(span.start) == document.section_at(span.end - 1)


@given(document=documents())
@settings(deadline=None, max_examples=100)
def test_a_piece_of_the_heading_tree_holds_a_whole_subtree_or_a_part_of_one_section(
    document: ParsedDocument,
) -> None:
    for piece in cut(document, Strategy.HEADING_TREE):
        first, last = document.section_at(piece.span.start), document.section_at(piece.span.end - 1)
        if first != last:
            assert first is not None
            assert last is not None
            assert last.path[: len(first.path)] == first.path
            behind = document.section_at(last.span.end) if last.span.end < len(document.text) else None
            assert behind is None or behind.path[: len(first.path)] != first.path or behind.path == first.path


def sectioned(*sections: tuple[tuple[str, ...], str]) -> ParsedDocument:
    text, found = "", []
    for path, own in sections:
        found.append(Section(path, Span(len(text), len(text) + len(own))))
        text += own
    return ParsedDocument(text, sections=tuple(found))


def test_the_heading_tree_keeps_short_subsections_together_and_parts_long_ones() -> None:
    short = sectioned((("A",), "A\n"), (("A", "B"), "B\n十天。\n"), (("A", "C"), "C\n五天。\n"))
    assert texts(short, cut(short, Strategy.HEADING_TREE)) == [short.text.strip()]
    long = sectioned(
        (("A",), "A\n"), (("A", "B"), f"B\n{'字' * 40}。\n"), (("A", "C"), f"C\n{'字' * 40}。\n")
    )
    assert [text[0] for text in texts(long, cut(long, Strategy.HEADING_TREE))] == ["B", "C"]


def test_a_child_is_searched_and_its_parent_read() -> None:
    document = ParsedDocument("第一句有十个汉字吗。第二句也有十个汉字。第三句还有十个汉字。")
    pieces = cut(document, Strategy.PARENT_CHILD)
    assert len(pieces) == 2
    assert {piece.parent for piece in pieces} == {Span(0, len(document.text))}


def test_a_window_is_the_sentence_and_its_neighbours() -> None:
    document = ParsedDocument("".join(f"第{n}句。" for n in range(7)))
    pieces = cut(document, Strategy.SENTENCE_WINDOW)
    assert texts(document, pieces) == [f"第{n}句。" for n in range(7)]
    middle, first = pieces[3].parent, pieces[0].parent
    assert middle is not None
    assert first is not None
    assert document.text[middle.start : middle.end] == "第1句。第2句。第3句。第4句。第5句。"
    assert document.text[first.start : first.end] == "第0句。第1句。第2句。"


def test_without_llama_index_the_error_names_both_ways_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.chunkers.window.find_spec", lambda name: None)
    with pytest.raises(InvalidValue) as refused:
        make_chunker(LetterCounts(), chunking(Strategy.SENTENCE_WINDOW))
    assert refused.value.hint is not None
    assert "pip install 'rag-service[llama-index]'" in refused.value.hint
    assert ".venv/bin/pip install -e '.[llama-index]'" in refused.value.hint


def test_equal_sentences_keep_their_own_places() -> None:
    document = ParsedDocument("同一句。" * 5)
    assert [piece.span.start for piece in cut(document, Strategy.SENTENCE_WINDOW)] == [0, 4, 8, 12, 16]


def test_semantic_chunks_end_where_the_subject_changes() -> None:
    subjects = ["aaaa aaa. aaa aa. ", "dddd ddd. ddd dd. ", "hhhh hhh. hhh hh. "]
    document = ParsedDocument("".join(subjects))
    how = Chunking(strategy=Strategy.SEMANTIC, characters=400, breakpoint=50)
    assert texts(document, cut(document, how)) == [subject.strip() for subject in subjects]


@pytest.mark.parametrize("strategy", [Strategy.SEMANTIC, Strategy.SENTENCE_WINDOW])
def test_a_heading_is_no_chunk_of_its_own_unless_nothing_stands_below_it(strategy: Strategy) -> None:
    text = "# Bbbb\nAaaa aaa. Aaa aa.\n# Cccc\n"
    second = text.index("# Cccc")
    document = ParsedDocument(
        text, sections=(Section(("Bbbb",), Span(0, second)), Section(("Cccc",), Span(second, len(text))))
    )
    pieces = cut(document, strategy)
    assert "# Bbbb" not in texts(document, pieces)
    assert texts(document, pieces)[-1] == "# Cccc"
    read = [document.text[(at := piece.parent or piece.span).start : at.end] for piece in pieces]
    assert read[0].startswith("# Bbbb\nAaaa aaa.")


def test_a_page_is_one_chunk_whatever_sections_it_holds() -> None:
    text = "A\n十天。\nB\n五天。\n第二页。"
    document = ParsedDocument(
        text,
        sections=(Section(("A",), Span(0, 6)), Section(("B",), Span(6, len(text)))),
        pages=(Page(1, Span(0, 12)), Page(2, Span(12, len(text)))),
    )
    assert texts(document, cut(document, Strategy.PAGE)) == ["A\n十天。\nB\n五天。", "第二页。"]


def test_rows_of_a_long_table_keep_its_header_row() -> None:
    rows = [f"| 员工{n} | 部门{n} | 工资{n} |" for n in range(9)]
    document = ParsedDocument("前言。\n\n| 姓名 | 部门 | 工资 |\n" + "\n".join(rows) + "\n后记。")
    pieces = cut(document, Strategy.TABLE_AWARE)
    found = texts(document, pieces)
    assert found[0] == "前言。"
    assert found[-1] == "后记。"
    assert found[1].startswith("| 姓名 | 部门 | 工资 |\n| 员工0 |")
    assert [piece.head for piece in pieces] == ["", "", *["| 姓名 | 部门 | 工资 |"] * (len(pieces) - 3), ""]
    assert len(pieces) > 4
    assert all(line in rows or line[0] != "|" for text in found[2:] for line in text.split("\n"))
    records = to_records(pieces, document, document_id="d", revision="r", title="Staff")
    assert records[2].header == "Staff\n| 姓名 | 部门 | 工资 |"
    assert records[2].table_head == "| 姓名 | 部门 | 工资 |"


def test_a_table_that_fits_is_never_cut() -> None:
    table = "| 姓名 | 城市 |\n| 李 | 北京 |\n| 王 | 上海 |"
    document = ParsedDocument(
        "很长的一段前言，写满了几乎整个分块，没有给表格留地方。后面是表格。\n" * 2 + table
    )
    assert texts(document, cut(document, Strategy.TABLE_AWARE))[-1].endswith(table)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"strategy": "sentence", "overlap": 10}, "overlap"),
        ({"strategy": "recursive", "characters": 100, "overlap": 100}, "overlap"),
        ({"strategy": "parent-child", "characters": 100, "child_characters": 200}, "child_characters"),
        ({"strategy": "magic"}, "strategy"),
        ({"characters": 1}, "characters"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Chunking.model_validate(wrong)


@pytest.mark.parametrize(
    ("settings_of_kb", "expected"),
    [
        ({"chunk_characters": 200}, Chunking(characters=200)),
        ({"chunking": {"strategy": "page"}, "chunk_characters": 200}, Chunking(strategy=Strategy.PAGE)),
        ({}, Chunking()),
    ],
)
def test_a_knowledge_base_made_before_there_were_strategies_keeps_its_chunks(
    settings_of_kb: dict[str, object], expected: Chunking
) -> None:
    assert Chunking.of_kb(settings_of_kb) == expected
