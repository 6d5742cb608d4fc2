"""Reranking, ordering and compression: nothing is invented, nothing that matters is lost."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from core.text import sentences, weight
from core.types import Passage, Query, Record, Span
from rerankers.compress import KeepWhole, SentenceCompressor
from rerankers.order import BestAtBothEnds, BestFirst
from rerankers.rerank import CoverageReranker, KeepOrder

QUESTION = Query("How many weeks is parental leave?", ("How many weeks is parental leave?",))
OFFSET = 1000  # where the passages below lie in their documents


def passage(number: int, text: str = "Text.", *, dense: float = 0.5, coverage: float = 0.0) -> Passage:
    record = Record(str(number), f"d{number}", "r", text, start=OFFSET, end=OFFSET + len(text))
    return Passage(record, f"doc {number}", 1.0 / (number + 1), dense, coverage)


def ids(passages: list[Passage]) -> list[int]:
    return [int(p.record.id) for p in passages]


async def test_coverage_decides_between_passages_that_are_equally_near() -> None:
    found = [passage(0, dense=0.9), passage(1, dense=0.9, coverage=0.8), passage(2, dense=0.99)]
    assert ids(await CoverageReranker().rerank(QUESTION, found, top_k=2)) == [2, 1, 0]


async def test_the_score_of_a_passage_does_not_depend_on_the_others() -> None:
    [alone] = await CoverageReranker().rerank(QUESTION, [passage(0, coverage=0.5)], top_k=1)
    many = await CoverageReranker().rerank(QUESTION, [passage(n, coverage=n / 5) for n in range(5)], top_k=5)
    again = await CoverageReranker().rerank(QUESTION, [passage(0, coverage=0.5), *many], top_k=9)
    assert alone.score in [p.score for p in again if p.record.id == "0"]


async def test_off_keeps_the_order_of_the_search() -> None:
    assert ids(await KeepOrder().rerank(QUESTION, [passage(2), passage(0), passage(1)], top_k=2)) == [2, 0, 1]


def test_the_best_passages_go_to_both_ends() -> None:
    ranked = [passage(n) for n in range(1, 6)]
    assert ids(BestAtBothEnds().order(ranked)) == [1, 3, 5, 4, 2]
    assert ids(BestFirst().order(ranked)) == [1, 2, 3, 4, 5]


async def test_a_sentence_counts_for_the_words_of_the_heading_it_stands_under() -> None:
    plain = passage(0, "It takes sixteen of them. The garage opens early.")
    headed = passage(1, "It takes sixteen of them. The garage opens early.")
    headed = replace(headed, record=replace(headed.record, header="Handbook > Parental leave"))
    half = weight(plain.text)
    assert ids(await SentenceCompressor().compress(QUESTION, [plain, headed], budget=half)) == [1]


@given(st.integers(0, 12))
def test_ordering_loses_and_doubles_nothing(count: int) -> None:
    ranked = [passage(n) for n in range(count)]
    assert sorted(ids(BestAtBothEnds().order(ranked))) == list(range(count))


async def test_what_fits_is_not_touched() -> None:
    found = [passage(0, "One. Two."), passage(1, "Three.")]
    assert await SentenceCompressor().compress(QUESTION, found, budget=6.0) == found


async def test_the_least_related_sentences_go_first() -> None:
    text = "The cafeteria opens at eight. Parental leave is 16 weeks. Parking is free of charge everywhere."
    [kept] = await SentenceCompressor().compress(QUESTION, [passage(0, text)], budget=weight(text) * 0.7)
    assert "Parental leave is 16 weeks." in kept.text
    assert kept.text != text


async def test_a_rare_word_of_the_question_counts_more_than_one_that_every_sentence_holds() -> None:
    filler = " ".join(f"Leave number {n} has its weeks counted." for n in range(9))
    rare = "Parental matters are for the office."
    [kept] = await SentenceCompressor().compress(
        QUESTION, [passage(0, f"{filler} {rare}")], budget=weight(rare) + 1
    )
    assert kept.text == rare


async def test_headings_and_rules_of_tables_leave_their_room_to_what_tells_something() -> None:
    text = "## Parental leave\n\nIt is sixteen weeks.\n\n| leave | weeks |\n|---|---|\n| sick | as needed |"
    [kept] = await SentenceCompressor().compress(QUESTION, [passage(0, text)], budget=weight(text) - 11)
    assert "##" not in kept.text
    assert "|---|" not in kept.text
    assert "It is sixteen weeks." in kept.text
    assert "| sick | as needed |" in kept.text


TEXTS = st.lists(
    st.sampled_from(
        ["Parental leave is 16 weeks. ", "年假有 10 天。", "Nothing here.\n\n", "Paid 3,500.50 on day 25. "]
    ),
    min_size=1,
    max_size=8,
).map(lambda pieces: "".join(pieces).strip())


@given(st.lists(TEXTS, max_size=4), st.floats(1, 60))
@settings(deadline=None)
async def test_compressed_passages_fit_and_hold_whole_sentences_in_their_order(
    texts: list[str], budget: float
) -> None:
    found = [passage(number, text) for number, text in enumerate(texts)]
    kept = await SentenceCompressor().compress(QUESTION, found, budget=budget)
    assert ids(kept) == sorted(ids(kept))
    sizes = 0.0
    for p in kept:
        record = p.record
        whole = [Span(s.start + OFFSET, s.end + OFFSET) for s in sentences(record.text)]
        starts, ends = {s.start for s in whole}, {s.end for s in whole}
        assert all(span.start in starts and span.end in ends for span in p.spans)
        assert list(p.spans) == sorted(p.spans, key=lambda s: s.start)
        inside = [s for s in whole if any(k.start <= s.start and s.end <= k.end for k in p.spans or whole)]
        sizes += sum(weight(record.text[s.start - OFFSET : s.end - OFFSET]) for s in inside)
        assert set(re.findall(r"[\d.,]+\d", p.text)) <= set(re.findall(r"[\d.,]+\d", record.text))
    assert kept == found or sizes <= budget


async def test_dropped_sentences_leave_a_mark_in_the_text() -> None:
    text = "Parental leave is 16 weeks. Penguins swim. Parental leave is paid for all weeks."
    [kept] = await SentenceCompressor().compress(QUESTION, [passage(0, text)], budget=weight(text) - 1)
    assert kept.text == "Parental leave is 16 weeks. … Parental leave is paid for all weeks."


async def test_off_leaves_out_whole_passages_but_never_the_first() -> None:
    found = [passage(0, "x" * 100), passage(1, "y" * 10), passage(2, "z")]
    assert ids(await KeepWhole().compress(QUESTION, found, budget=1.0)) == []
    assert ids(await KeepWhole().compress(QUESTION, found, budget=44.0)) == [0, 1]
