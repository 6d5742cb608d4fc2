"""Fusion: scores stay in their range, what matches in every way wins, and accidents of words weigh little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import TermStats
from retrievers.fusion import (
    LEXICAL_WEIGHT,
    SUMMARY_WEIGHT,
    by_maximum,
    convex,
    coverage,
    inverse_document_frequency,
    lexical_weight,
    min_max,
)

SCORES = st.lists(st.floats(0, 1), max_size=8)


def test_a_rarer_term_weighs_more_and_an_absent_one_most() -> None:
    idf = inverse_document_frequency(TermStats(100, {"common": 90, "rare": 2}), ["common", "rare", "absent"])
    assert 0 < idf["common"] < idf["rare"] < idf["absent"]


def test_an_index_without_records_or_with_stale_counts_breaks_nothing() -> None:
    assert inverse_document_frequency(TermStats(0, {}), ["a"])["a"] > 0
    assert inverse_document_frequency(TermStats(1, {"a": 5}), ["a"])["a"] > 0


def test_coverage_is_the_share_of_the_weight_that_the_passage_holds() -> None:
    idf = {"rare": 3.0, "common": 1.0}
    assert coverage(idf, {"rare"}) == 0.75
    assert coverage(idf, {"rare", "common", "else"}) == 1.0
    assert coverage(idf, ()) == 0.0
    assert coverage({}, {"rare"}) == 0.0


@given(SCORES)
def test_normalised_scores_keep_their_order_and_lie_between_0_and_1(scores: list[float]) -> None:
    for normalise in (min_max, by_maximum):
        result = normalise(scores)
        assert len(result) == len(scores)
        assert all(0 <= score <= 1 for score in result)
        order = sorted(range(len(scores)), key=lambda i: scores[i])
        assert [result[i] for i in order] == sorted(result)


def test_equal_dense_scores_are_all_best_and_absent_keyword_scores_all_zero() -> None:
    assert min_max([0.4, 0.4]) == [1.0, 1.0]
    assert by_maximum([0.0, 0.0]) == [0.0, 0.0]
    assert min_max([]) == by_maximum([]) == []


@pytest.mark.parametrize("covered", [0.6, 0.8, 1.0])
def test_words_have_their_whole_weight_when_some_passage_covers_the_question(covered: float) -> None:
    assert lexical_weight(covered) == LEXICAL_WEIGHT


def test_words_weigh_less_when_no_passage_covers_the_question() -> None:
    assert lexical_weight(0.0) == 0.0
    assert lexical_weight(0.3) == pytest.approx(LEXICAL_WEIGHT / 2)


def test_without_matching_words_the_vectors_alone_decide() -> None:
    assert convex([0.9, 0.8], [0.0, 5.0], [0, 0], best_coverage=0.0) == [1.0, 0.0]


def test_the_summary_stage_decides_between_equals_and_adds_little() -> None:
    first, second = convex([0.9, 0.9], [1.0, 1.0], [0.0, 1.0], best_coverage=1.0)
    assert second - first == pytest.approx(SUMMARY_WEIGHT)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 50), st.floats(0, 1)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_the_candidate_that_is_best_in_every_way_is_best(
    parts: list[tuple[float, float, float]], covered: float
) -> None:
    best = tuple(max(column) for column in zip(*parts, strict=True))
    dense, lexical, summary = zip(*parts, best, strict=True)
    scores = convex(dense, lexical, summary, best_coverage=covered)
    assert scores[-1] == pytest.approx(max(scores))
