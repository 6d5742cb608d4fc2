"""The threshold loses no more answerable questions than allowed, and says what it is good for."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from core.errors import InvalidValue
from rag_service.answering.support import NOTHING_FOUND, Judged
from rag_service.calibrate import calibrate, refused


def judged(strengths: Iterable[float], *, supported: bool = True) -> list[Judged]:
    return [Judged(strength, supported) for strength in strengths]


HUNDRED = judged(n / 100 for n in range(100))


@pytest.mark.parametrize(
    ("lose", "threshold", "lost"),
    [(0, -1.0, 0.0), (0.9, -1.0, 0.0), (1, 0.0, 0.0), (5, 0.04, 4.0), (5.9, 0.04, 4.0), (50, 0.49, 49.0)],
)
def test_the_threshold_has_the_rank_that_loses_at_most_the_given_percent_of_others(
    lose: float, threshold: float, lost: float
) -> None:
    result = calibrate(random.Random(0).sample(HUNDRED, 100), lose=lose)
    assert result.threshold == pytest.approx(threshold)
    assert result.answerable_refused == lost


@pytest.mark.parametrize("count", [20, 21, 39, 40, 333])
def test_no_more_is_lost_than_allowed_whatever_the_strengths(count: int) -> None:
    chance = random.Random(count)
    strengths = [chance.choice([chance.gauss(0, 0.05), 0.01]) for _ in range(count)]
    assert calibrate(judged(strengths), lose=5).answerable_refused <= 5


@pytest.mark.parametrize("count", [20, 50, 100])
def test_of_other_questions_no_more_is_lost_on_average(count: int) -> None:
    chance = random.Random(count)
    lost = 0.0

    def asked() -> Judged:
        strength = chance.gauss(0, 0.05)
        return Judged(strength, supported=strength + chance.gauss(0, 0.05) > -0.15)  # the rule refuses 2 %

    for _ in range(400):
        threshold = calibrate([asked() for _ in range(count)], lose=5).threshold
        lost += sum(refused(asked(), threshold) for _ in range(100)) / 400
    assert 2 < lost < 5.5


def test_equal_strengths_are_all_kept() -> None:
    assert calibrate(judged([0.123456] * 30), lose=50).answerable_refused == 0


def test_unanswerable_questions_are_counted_and_compared() -> None:
    result = calibrate(HUNDRED, judged([-0.2, -0.1, 0.02, 0.995]), lose=5)
    assert (result.answerable, result.unanswerable) == (100, 4)
    assert result.unanswerable_refused == 75
    assert result.auc == pytest.approx(100 * (100 + 100 + 97.5) / 400, abs=0.06)
    assert result.note is None


def test_what_the_rule_refuses_is_part_of_what_may_be_lost() -> None:
    answerable = [*judged([0.5, 0.6], supported=False), *HUNDRED[2:]]
    result = calibrate(answerable, lose=5)
    assert result.threshold == pytest.approx(0.04), "two more of a hundred"
    assert (result.rule_answerable_refused, result.answerable_refused) == (2, 4)


def test_where_the_rule_loses_all_that_may_be_lost_the_threshold_refuses_nothing_more() -> None:
    answerable = [*judged([0.5] * 6, supported=False), *HUNDRED[6:]]
    result = calibrate(answerable, judged([-0.5] * 5), lose=5)
    assert result.threshold == NOTHING_FOUND
    assert (result.rule_answerable_refused, result.answerable_refused) == (6, 6)
    assert result.unanswerable_refused == 0


def test_a_threshold_that_adds_little_to_the_rule_is_not_worth_saving() -> None:
    by_rule = judged([-0.1] * 8, supported=False)
    useless = calibrate(HUNDRED, [*by_rule, *judged([0.5, 0.6])], lose=5)
    assert (useless.rule_unanswerable_refused, useless.unanswerable_refused) == (80, 80)
    assert useless.note is not None
    assert "not worth saving" in useless.note
    assert "a model must" not in useless.note
    useful = calibrate(HUNDRED, [*by_rule, *judged([0.01, 0.6])], lose=5)
    assert (useful.rule_unanswerable_refused, useful.unanswerable_refused) == (80, 90)
    assert useful.note is None


def test_a_threshold_that_refuses_hardly_any_unanswerable_question_says_so() -> None:
    result = calibrate(HUNDRED, HUNDRED, lose=5)
    assert (result.auc, result.unanswerable_refused) == (50, 4)
    assert result.note is not None
    assert "a model must" in result.note


def test_without_unanswerable_questions_what_is_unknown_is_said() -> None:
    result = calibrate(HUNDRED)
    assert (result.unanswerable_refused, result.rule_unanswerable_refused, result.auc) == (None, None, None)
    assert result.note is not None
    assert "Without unanswerable questions" in result.note


def test_too_few_answerable_questions_are_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidValue, match="at least 20 answerable questions; these are 19") as error:
        calibrate(HUNDRED[:19], HUNDRED)
    assert error.value.hint


def test_where_nothing_was_found_there_is_no_threshold() -> None:
    with pytest.raises(InvalidValue, match="Nothing was found"):
        calibrate(judged([NOTHING_FOUND] * 20, supported=False))
