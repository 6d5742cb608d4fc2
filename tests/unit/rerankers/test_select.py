"""Which passages go on: those that say something new, and (if wished) those that are unlike each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types import Passage, Record
from rerankers.select import diverse, select

LEASE = (
    "The tenant pays 900 euros of rent on the first day of each month. The deposit is two months of rent. "
    "The landlord returns it within seven days after the end of the lease."
)


def passages(*texts: str, scores: tuple[float, ...] = ()) -> list[Passage]:
    given_scores = scores or tuple(1 / (number + 1) for number in range(len(texts)))
    return [
        Passage(Record(str(number), f"d{number}", "r", text, end=len(text)), f"doc {number}", score)
        for number, (text, score) in enumerate(zip(texts, given_scores, strict=True))
    ]


def chosen(*texts: str, most: int = 9, distinct: bool = True) -> list[int]:
    selected = select(passages(*texts), most=most, distinct=distinct, diversity=0.0)
    return [int(passage.record.id) for passage in selected.passages]


def test_a_passage_that_only_repeats_a_better_one_is_left_out_and_counted() -> None:
    again = LEASE.upper().replace(". ", ".\n")
    selected = select(passages(LEASE, again, "Pets are allowed."), most=2, distinct=True, diversity=0.0)
    assert [passage.record.id for passage in selected.passages] == ["0", "2"]
    assert selected.repeated == 1


@pytest.mark.parametrize(
    "other",
    [
        LEASE.replace("900", "950"),
        LEASE.replace("seven", "eight"),
        LEASE.replace("The landlord returns", "The landlord never returns"),
        LEASE.replace("of the lease.", "of the year."),
        LEASE.replace("The tenant", "A tenant", 1),
        LEASE + " Pets are allowed.",
    ],
)
def test_passages_that_differ_in_one_word_are_not_the_same(other: str) -> None:
    assert chosen(LEASE, other) == [0, 1]


def test_chinese_passages_that_differ_in_one_character_are_not_the_same() -> None:
    text = "本合同的押金为两千元，租期满后七日内退还。租金按月支付，不得转租。"
    assert chosen(text, text.replace("，", ","), text.replace("七", "八"), text.replace("不得", "可以")) == [
        0,
        2,
        3,
    ]


def test_part_of_a_better_passage_is_a_repetition_more_than_it_is_not() -> None:
    first, second, third = LEASE.split(". ")
    assert chosen(f"{first}. {second}.", f"{second}.", f"{second}. {third}") == [0, 2]


def test_a_passage_without_the_word_that_turns_it_into_its_opposite_is_not_the_same() -> None:
    carry = "The team in the Berlin office may not carry over unused leave into the next year."
    assert chosen(carry, carry.replace(" not", "")) == [0, 1]
    assert chosen("租客不可以把房屋转租给第三人使用。", "租客可以把房屋转租给第三人使用。") == [0, 1]
    assert chosen("It is -5 degrees in the cold room.", "It is 5 degrees in the cold room.") == [0, 1]
    assert chosen("The fee is $100 a month.", "The fee is €100 a month.") == [0, 1]


def test_switched_off_nothing_is_left_out() -> None:
    assert chosen(LEASE, LEASE, distinct=False) == [0, 1]


@given(st.lists(st.text(max_size=30), max_size=8), st.integers(0, 8))
def test_the_best_is_always_kept_and_nothing_is_doubled(texts: list[str], most: int) -> None:
    kept = chosen(*texts, most=most)
    assert kept == sorted(set(kept))
    assert kept[:1] == ([0] if texts and most else [])


def test_diversity_brings_another_subject_forward() -> None:
    found = passages(
        "Rent is due on the first day.",
        "Rent is due on the first working day.",
        "Pets are allowed.",
        scores=(1.0, 0.98, 0.9),
    )
    assert [int(p.record.id) for p in diverse(found, 0.1)] == [0, 1, 2]
    assert [int(p.record.id) for p in diverse(found, 0.7)] == [0, 2, 1]
