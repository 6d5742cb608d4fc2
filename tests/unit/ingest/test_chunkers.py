"""Chunks: in order, inside their sections, no longer than the embedder's window, and together the whole text."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text import weight
from core.types import Page, ParsedDocument, Section, Span
from ingest.chunkers.base import Chunker, Piece, header, to_records
from ingest.chunkers.packing import RESERVED_TOKENS, Packer
from ingest.chunkers.recursive import RecursiveChunker
from ingest.chunkers.sentence import SentenceChunker
from models.embedders.bundled import BundledEmbedder

LIMIT = 40
MOST_TOKENS = 30


def one_token_each(text: str) -> int:
    """A token for each character: no real tokeniser makes more of them."""
    return len(text)


def chunker(characters: int = LIMIT, max_tokens: int = 10_000) -> SentenceChunker:
    return SentenceChunker(Packer.for_window(characters, max_tokens, one_token_each))


def document(*sections: tuple[tuple[str, ...], str], preface: str = "") -> ParsedDocument:
    """A document of sections, each given by its path and its whole text, heading included."""
    text, found = preface, []
    for path, own in sections:
        found.append(Section(path, Span(len(text), len(text) + len(own))))
        text += own
    return ParsedDocument(text, sections=tuple(found))


def cut(doc: ParsedDocument, by: Chunker) -> list[str]:
    return [doc.text[span.start : span.end] for span in spans_of(doc, by)]


def spans_of(doc: ParsedDocument, by: Chunker) -> list[Span]:
    return [piece.span for piece in asyncio.run(by.cut(doc))]


SENTENCES = st.sampled_from(
    [
        "年假十天。",
        "Leave is ten days. ",
        "\n",
        "没有标点的很长一行" * 6,
        "word " * 30,
        "x" * 150,
        "第二条！",
        "\n\n",
        " ",
    ]
)
BODIES = st.lists(SENTENCES, max_size=8).map("".join)


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    bodies = draw(st.lists(BODIES, max_size=4))
    sections = [((f"H{number}",), f"H{number}\n{body}\n") for number, body in enumerate(bodies)]
    return document(*sections, preface=draw(BODIES))


@given(documents())
@settings(deadline=None)
def test_chunks_are_ordered_disjoint_trimmed_and_inside_one_section(doc: ParsedDocument) -> None:
    spans = spans_of(doc, chunker())
    assert all(a.end <= b.start for a, b in pairwise(spans))
    for span in spans:
        text = doc.text[span.start : span.end]
        assert text == text.strip() != ""
        assert doc.section_at(span.start) == doc.section_at(span.end - 1)


@given(documents())
@settings(deadline=None)
def test_chunks_lose_nothing(doc: ParsedDocument) -> None:
    """These sections are not nested, so not even a lone heading goes."""
    assert "".join("".join(cut(doc, chunker())).split()) == "".join(doc.text.split())


@given(documents())
@settings(deadline=None)
def test_no_chunk_is_heavier_than_the_limit_or_has_more_tokens_than_the_window(doc: ParsedDocument) -> None:
    by = chunker(LIMIT, MOST_TOKENS + RESERVED_TOKENS)
    assert all(weight(text) <= LIMIT and one_token_each(text) <= MOST_TOKENS for text in cut(doc, by))


@given(documents())
@settings(deadline=None)
def test_two_neighbours_of_a_section_would_not_have_fitted_into_one(doc: ParsedDocument) -> None:
    for a, b in pairwise(spans_of(doc, chunker())):
        if doc.section_at(a.start) == doc.section_at(b.start):
            assert weight(doc.text[a.start : b.end]) > LIMIT


def test_a_heading_that_the_sections_below_it_repeat_is_no_chunk_of_its_own() -> None:
    doc = document((("Leave",), "Leave\n"), (("Leave", "Annual"), "Annual\nTen days.\n"))
    assert cut(doc, chunker()) == ["Annual\nTen days."]


def test_a_heading_with_text_or_without_children_stays() -> None:
    doc = document(
        (("Leave",), "Leave\nAll of it.\n"), (("Leave", "Annual"), "Annual\n"), (("Pay",), "Pay\n")
    )
    assert cut(doc, chunker()) == ["Leave\nAll of it.", "Annual", "Pay"]


def test_an_empty_section_gives_no_chunk() -> None:
    doc = ParsedDocument("Ten days.", sections=(Section(("A",), Span(0, 0)), Section(("B",), Span(0, 9))))
    assert cut(doc, chunker()) == ["Ten days."]


def test_an_overlong_sentence_is_cut_at_a_break_in_its_second_half() -> None:
    doc = ParsedDocument("word " * 40)
    pieces = cut(doc, chunker())
    assert len(pieces) > 1
    assert all(piece.split() == ["word"] * len(piece.split()) for piece in pieces)


def test_a_text_without_any_break_is_cut_all_the_same() -> None:
    assert cut(ParsedDocument("字" * 100), chunker()) == ["字" * 40, "字" * 40, "字" * 20]


@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_nothing_to_read_gives_no_chunk(text: str) -> None:
    assert spans_of(ParsedDocument(text), chunker()) == []


def test_chunks_of_the_bundled_embedder_fit_its_window() -> None:
    embedder = BundledEmbedder()
    by = SentenceChunker(Packer.for_window(4000, embedder.max_tokens, embedder.count_tokens))
    doc = ParsedDocument("龘靐齉爩麤" * 200 + "Antidisestablishmentarianism. " * 60)
    pieces = cut(doc, by)
    assert len(pieces) > 1
    assert all(embedder.count_tokens(f"{'T' * 20} > S\n{piece}") <= embedder.max_tokens for piece in pieces)


def test_the_name_tells_the_parameters_apart() -> None:
    names = {chunker().name, chunker(41).name, chunker(LIMIT, 500).name, RecursiveChunker().name}
    names.add(RecursiveChunker(characters=400).name)
    assert len(names) == 5


def test_the_recursive_chunker_gives_spans_of_the_text_it_quotes() -> None:
    doc = ParsedDocument("第一段。\n\n第二段很长，有逗号。" * 30)
    spans = spans_of(doc, RecursiveChunker(characters=50))
    assert all(len(span) <= 50 for span in spans)
    assert "".join("".join(doc.text[s.start : s.end].split()) for s in spans) == "".join(doc.text.split())


def test_records_quote_the_document_and_know_their_place() -> None:
    doc = ParsedDocument(
        "Preface.\fLeave\nTen days.",
        pages=(Page(1, Span(0, 9)), Page(2, Span(9, 24))),
        sections=(Section(("Leave",), Span(9, 24)),),
    )
    pieces = [Piece(Span(0, 8)), Piece(Span(9, 24))]
    first, second = to_records(pieces, doc, document_id="d", revision="r", title="Handbook")
    assert (first.text, first.header, first.section, first.page_start) == ("Preface.", "Handbook", "", 1)
    assert (second.text, second.header, second.section) == ("Leave\nTen days.", "Handbook > Leave", "Leave")
    assert (second.page_start, second.page_end, second.position) == (2, 2, 1)
    again = to_records(pieces, doc, document_id="d", revision="r", title="Other")
    other = to_records(pieces, doc, document_id="d", revision="s", title="Handbook")
    assert [r.id for r in again] == [first.id, second.id]
    assert not {r.id for r in other} & {first.id, second.id}


@pytest.mark.parametrize(
    ("title", "path", "expected"),
    [
        ("Handbook", ("Leave", "Annual"), "Handbook > Leave > Annual"),
        ("Handbook", ("Handbook", "Leave"), "Handbook > Leave"),  # the title is also the first heading
        ("Handbook", (), "Handbook"),
        ("", ("Leave",), "Leave"),
    ],
)
def test_a_header_is_the_title_and_the_path_without_repeating_itself(
    title: str, path: tuple[str, ...], expected: str
) -> None:
    assert header(title, path) == expected
