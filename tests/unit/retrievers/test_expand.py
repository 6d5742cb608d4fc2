"""Expansion: parents, whole sections and neighbours, each exactly a stretch of its document, none twice."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from kept_documents import KeptDocuments, chunks_of

from core.types import Page, ParsedDocument, Passage, Section, Span
from ingest.chunkers.base import Chunking, Strategy
from retrievers.expand import Expander
from retrievers.structure import Structure, StructureChoice

OFF = Structure(parents=False, neighbours=False)
TEXT = "".join(f"第{n}句话说的是第{n}件事。" for n in range(12))
DOCUMENT = ParsedDocument(
    TEXT,
    pages=(Page(1, Span(0, 40)), Page(2, Span(40, len(TEXT)))),
    sections=(Section(("甲",), Span(0, 70)), Section(("乙",), Span(70, len(TEXT)))),
)
SENTENCES = Chunking(characters=50)
PARENTS = Chunking(strategy=Strategy.PARENT_CHILD, characters=50, child_characters=20)


async def expand(
    passages: list[Passage], how: Structure, *, top_k: int = 5, document: ParsedDocument = DOCUMENT
) -> list[Passage]:
    expander = Expander(KeptDocuments({"d": document}))
    return list((await expander.expand(passages, top_k=top_k, how=how)).passages)


def spans(passages: list[Passage]) -> list[tuple[int, int]]:
    return [(p.record.start, p.record.end) for p in passages]


async def test_children_bring_their_parent_once() -> None:
    chunks = await chunks_of(DOCUMENT, PARENTS)
    parent = chunks[0].record.parent
    assert parent is not None
    found = await expand([chunks[1], chunks[0]], Structure(neighbours=False))
    assert spans(found) == [(parent.start, parent.end)]
    assert found[0].record.text == TEXT[parent.start : parent.end]
    assert found[0].record.id == chunks[1].record.id, "it is cited as the child that was found"
    assert found[0].record.parent is None


async def test_what_is_off_changes_nothing() -> None:
    chunks = await chunks_of(DOCUMENT, PARENTS)
    assert await expand(chunks[:3], OFF) == chunks[:3]


async def test_enough_children_are_ranked_for_top_k_parents() -> None:
    expander = Expander(KeptDocuments({"d": DOCUMENT}))
    children, plain = await chunks_of(DOCUMENT, PARENTS), await chunks_of(DOCUMENT, SENTENCES)
    assert expander.wanted(children, 5, Structure()) == 15
    assert expander.wanted(children, 5, OFF) == expander.wanted(plain, 5, Structure()) == 5
    assert len(await expand(children, Structure(neighbours=False), top_k=2)) == 2


async def test_neighbours_become_one_passage_with_the_better_one_s_rank() -> None:
    a, b, c, *_ = await chunks_of(DOCUMENT, SENTENCES)
    found = await expand([c, a, b], Structure())
    assert spans(found) == [(a.record.start, c.record.end)]
    apart = await expand([c, a], Structure())
    assert apart == [c, a]


async def test_a_joined_passage_knows_its_pages_and_its_section() -> None:
    a, b, *_ = await chunks_of(DOCUMENT, SENTENCES)
    [joined] = await expand([b, a], Structure())
    assert (joined.record.page_start, joined.record.page_end, joined.record.section) == (1, 2, "甲")


async def test_chunks_of_different_documents_or_revisions_stay_apart() -> None:
    a, b, *_ = await chunks_of(DOCUMENT, SENTENCES)
    [other, *_] = await chunks_of(DOCUMENT, SENTENCES, "e")
    expander = Expander(KeptDocuments({"d": DOCUMENT, "e": DOCUMENT}))
    found = await expander.expand([other, a, b], top_k=5, how=Structure())
    assert [p.record.document_id for p in found.passages] == ["e", "d"]


async def test_half_of_a_section_brings_all_of_it_less_does_not() -> None:
    chunks = await chunks_of(DOCUMENT, Chunking(characters=50))
    inside = [c for c in chunks if c.record.section == "甲"]
    how = Structure(neighbours=False, sections=True)
    section = DOCUMENT.sections[0].span
    found = await expand(inside[:2], how)
    assert spans(found) == [(section.start, section.end)]
    small = await chunks_of(
        DOCUMENT, Chunking(strategy=Strategy.PARENT_CHILD, characters=60, child_characters=20)
    )
    few = [c for c in small if c.record.section == "甲"][:2]
    assert spans(await expand(few, Structure(parents=False, neighbours=False, sections=True))) == spans(few)


async def test_a_document_that_went_meanwhile_leaves_the_chunk_as_it_was() -> None:
    [first, *_] = await chunks_of(DOCUMENT, PARENTS)
    found = await Expander(KeptDocuments({})).expand([first], top_k=5, how=Structure())
    assert found.passages == (first,)


async def test_a_table_s_header_row_goes_into_the_prompt_with_rows_found_without_it() -> None:
    rows = "\n".join(f"| 员工{n} | 部门{n} | 工资{n} |" for n in range(9))
    document = ParsedDocument(f"| 姓名 | 部门 | 工资 |\n{rows}")
    chunks = await chunks_of(document, Chunking(strategy=Strategy.TABLE_AWARE, characters=50))
    [alone] = await expand([chunks[2]], Structure(), document=document)
    assert alone.text == f"| 姓名 | 部门 | 工资 |\n{chunks[2].record.text}"
    [joined] = await expand([chunks[2], chunks[1]], Structure(), document=document)
    assert joined.text.count("姓名") == 1
    [whole] = await expand([chunks[1], chunks[0]], Structure(), document=document)
    assert whole.text == document.text[: chunks[1].record.end]


@given(
    strategy=st.sampled_from([Strategy.PARENT_CHILD, Strategy.RECURSIVE, Strategy.TABLE_AWARE]),
    order=st.lists(st.integers(0, 30), max_size=12, unique=True),
    flags=st.tuples(*[st.booleans()] * 3),
)
@settings(deadline=None, max_examples=80)
async def test_passages_are_exact_and_repeat_no_text(
    strategy: Strategy, order: list[int], flags: tuple[bool, bool, bool]
) -> None:
    own = {Strategy.RECURSIVE: {"overlap": 15}, Strategy.PARENT_CHILD: {"child_characters": 20}}
    chunks = await chunks_of(DOCUMENT, Chunking(strategy=strategy, characters=50, **own.get(strategy, {})))
    ranked = [chunks[n] for n in order if n < len(chunks)]
    how = Structure(parents=flags[0], neighbours=flags[1], sections=flags[2])
    found = await expand(ranked, how, top_k=50)
    assert all(p.record.text == TEXT[p.record.start : p.record.end] for p in found)
    covered = {place for p in found for place in range(p.record.start, p.record.end)}
    assert all(set(range(p.record.start, p.record.end)) <= covered for p in ranked)
    if flags[1]:
        assert all(a[1] <= b[0] for a, b in pairwise(sorted(spans(found))))


def test_a_request_overrules_its_knowledge_base_which_overrules_the_defaults() -> None:
    kb = {"parents": False, "sections": True}
    assert Structure.chosen(kb) == Structure(parents=False, sections=True)
    assert Structure.chosen(kb, StructureChoice(parents=True)) == Structure(sections=True)
    assert Structure.chosen(None, None) == Structure()
    assert set(StructureChoice.model_fields) == set(Structure.__dataclass_fields__)
