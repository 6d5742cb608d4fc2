"""Passages in another script are moved up by what the nearest of them are less near, and no further."""

from __future__ import annotations

import pytest

from core.scripts import MOST_SHIFT, other_script, shift
from core.types import Passage, Record


def passages(own: list[float], other: list[float]) -> list[Passage]:
    return [
        Passage(Record(f"{foreign}{n}", "d", "r", "text"), "d", 0.0, dense, foreign=foreign)
        for foreign, scores in ((False, own), (True, other))
        for n, dense in enumerate(scores)
    ]


def test_what_the_nearest_in_the_other_script_lack_is_added() -> None:
    assert shift(passages([0.95, 0.93, 0.91], [0.91, 0.90, 0.80])) == pytest.approx(0.03)


def test_no_more_than_being_in_another_script_explains() -> None:
    assert shift(passages([0.95] * 5, [0.8] * 5)) == MOST_SHIFT


@pytest.mark.parametrize(("own", "other"), [([], [0.9]), ([0.9], []), ([0.8], [0.9]), ([], [])])
def test_in_one_script_and_where_the_other_is_nearer_nothing_is_moved(
    own: list[float], other: list[float]
) -> None:
    assert shift(passages(own, other)) == 0.0


@pytest.mark.parametrize(
    ("text", "cjk", "other"),
    [
        ("Rent is due.", True, True),
        ("租金按月支付。", False, True),
        ("租金按月支付。", True, False),
        ("14.5 | 31 | 2022", True, False),
        ("14.5 | 31 | 2022", False, False),
        ("", True, False),
    ],
)
def test_numbers_are_in_no_script(text: str, cjk: bool, other: bool) -> None:
    assert other_script(text, cjk=cjk) is other
