"""Places in a document: pages, sections, and ids that depend on nothing but their parts."""

from __future__ import annotations

from dataclasses import fields, replace

from core.types import (
    IndexKind,
    IndexName,
    Near,
    Page,
    ParsedDocument,
    Passage,
    Record,
    Section,
    Span,
    derived_id,
)

DOCUMENT = ParsedDocument(
    "preface# One\ntext# Two\nmore",
    pages=(Page(1, Span(0, 10)), Page(2, Span(10, 28))),
    sections=(Section(("One",), Span(7, 17)), Section(("One", "Two"), Span(17, 28))),
)


def test_a_character_belongs_to_the_page_and_section_that_hold_it() -> None:
    assert [DOCUMENT.page_at(offset) for offset in (0, 9, 10, 27)] == [1, 1, 2, 2]
    assert DOCUMENT.section_at(6) is None
    assert [s.label for offset in (7, 16, 17) if (s := DOCUMENT.section_at(offset))] == [
        "One",
        "One",
        "One > Two",
    ]


def test_a_document_without_pages_or_sections_has_none_anywhere() -> None:
    assert ParsedDocument("text").page_at(2) is None
    assert ParsedDocument("text").section_at(2) is None


def test_the_header_of_a_record_is_indexed_but_not_part_of_its_text() -> None:
    record = Record("1", "d", "r", "Ten days.", header="Handbook > Leave")
    assert record.indexed_text == "Handbook > Leave\nTen days."
    assert Record("1", "d", "r", "Ten days.").indexed_text == "Ten days."


def test_a_compressed_passage_shows_its_kept_spans_with_gaps_marked() -> None:
    record = Record("1", "d", "r", "One. Two. Three.", start=100, end=116)
    passage = Passage(record, "doc", 1.0, spans=(Span(100, 104), Span(110, 116)))
    assert passage.text == "One. … Three."
    assert Passage(record, "doc", 1.0).text == "One. Two. Three."


def test_a_derived_id_depends_on_every_part_and_on_where_parts_end() -> None:
    assert derived_id("a", 1) == derived_id("a", "1")
    assert len({derived_id("a", "b"), derived_id("ab"), derived_id("b", "a"), derived_id("a", "b", "")}) == 4


def test_the_text_of_an_index_name_can_be_read_back_and_other_texts_are_none() -> None:
    for name in (IndexName("a1", 12, IndexKind.SUMMARIES), IndexName("a_g1_chunks", 1, IndexKind.CHUNKS)):
        assert IndexName.read(str(name)) == name
    for other in (
        "kb_0f" + 19 * "0f",
        "kb__g1_chunks",
        "kb_a_g0_chunks",
        "kb_a_g1_chunks.index",
        "xkb_a_g1_chunks",
    ):
        assert IndexName.read(other) is None


def test_a_passage_with_another_score_is_the_same_but_for_it() -> None:
    span = Span(0, 3)
    passage = Passage(
        Record("1", "d", "r", "One."), "doc", 1.0, 0.1, 0.2, 0.3, (span,), True, "lead", "kb", True, 0.4,
        (Near(span, 0.5),),
    )  # fmt: skip
    assert all(getattr(passage, field.name) != field.default for field in fields(passage))
    assert passage.with_score(2.0) == replace(passage, score=2.0)
