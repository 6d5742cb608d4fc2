"""The metrics are those of the textbooks, computed by hand here."""

from __future__ import annotations

import math

import pytest

from benchmarks.dataset import Question
from benchmarks.metrics import (
    Found,
    at_an_end,
    first_tokens,
    gold_ranks,
    measure,
    measure_prompts,
    ndcg,
    recall,
    reciprocal_rank,
    supported,
)


def question(*, evidence: tuple[str, ...] = (), answers: tuple[str, ...] = ()) -> Question:
    return Question("q", "?", frozenset({"a"}), answers=answers, evidence=evidence)


def test_a_document_ranks_where_its_first_passage_does() -> None:
    assert gold_ranks(["x", "a", "a", "b", "a"], {"a", "b", "absent"}) == [2, 4]


def test_recall_is_the_share_of_the_gold_documents_up_to_k() -> None:
    assert recall([2, 6], gold=4, k=5) == 1 / 4
    assert recall([2, 6], gold=4, k=6) == 2 / 4


def test_reciprocal_rank_counts_the_first_gold_document_up_to_k() -> None:
    assert reciprocal_rank([4, 5], k=10) == 1 / 4
    assert reciprocal_rank([11], k=10) == 0
    assert reciprocal_rank([], k=10) == 0


def test_ndcg_compares_with_the_best_possible_ranking() -> None:
    assert ndcg([1, 2], gold=2, k=10) == pytest.approx(1)
    assert ndcg([2], gold=1, k=10) == pytest.approx(1 / math.log2(3))
    assert ndcg([1], gold=2, k=10) == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert ndcg([11], gold=1, k=10) == 0


def test_all_evidence_is_needed_but_one_answer_is_enough() -> None:
    assert supported(["the one", "and two"], question(evidence=("one", "two"))) is True
    assert supported(["the one"], question(evidence=("one", "two"))) is False
    assert supported(["the one"], question(answers=("one", "two"))) is True


def test_evidence_comes_before_answers() -> None:
    assert supported(["one"], question(evidence=("two",), answers=("one",))) is False


def test_a_question_without_evidence_and_answers_has_no_support_to_measure() -> None:
    assert supported(["one"], question(evidence=(" ",))) is None


def test_white_space_and_width_do_not_matter() -> None:
    assert supported(["在２０１８年，\n公司"], question(evidence=("在 2018 年,公司",))) is True


def test_a_piece_must_lie_in_one_passage() -> None:
    assert supported(["on", "e"], question(answers=("one",))) is False


def test_the_passage_that_crosses_the_token_limit_is_cut_in_proportion() -> None:
    assert list(first_tokens(["aaaa", "bbbb", "cccc"], 6, len)) == ["aaaa", "bb"]
    assert list(first_tokens(["aaaa"], 6, len)) == ["aaaa"]


def test_means_are_in_percent_and_leave_out_questions_without_support() -> None:
    questions = [question(answers=("yes",)), question()]
    rankings = [[Found("x", "no"), Found("a", "yes")], [Found("a", "")]]
    assert measure(questions, rankings, len) == {
        "recall@5": 100.0,
        "recall@10": 100.0,
        "mrr@10": 75.0,
        "ndcg@10": round(50 * (1 + 1 / math.log2(3)), 1),
        "support@1200": 100.0,
    }


def test_prompts_are_measured_by_their_support_and_their_tokens() -> None:
    questions = [question(answers=("yes",)), question(answers=("no",)), question()]
    prompts = [[Found("x", "oh"), Found("a", "yes")], [Found("a", "yes")], [Found("a", "")]]
    assert measure_prompts(questions, prompts, len) == (50.0, 3)


def test_an_answer_is_at_an_end_if_the_first_or_the_last_passage_holds_it() -> None:
    asked = question(answers=("yes",))
    assert at_an_end(["yes", "a", "b"], asked) is True
    assert at_an_end(["a", "b", "yes"], asked) is True
    assert at_an_end(["a", "yes", "b"], asked) is False
    assert at_an_end(["a", "b"], asked) is None
