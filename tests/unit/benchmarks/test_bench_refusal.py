"""The program tells questions apart that the documents can answer and that they cannot, and finds a threshold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.dataset import CorpusDocument, Dataset, Question
from benchmarks.refusal import Group, Signal, _rule, _thresholds, auc, run
from core.types import Passage, Record


def signal(strength: float, *, question: str = "who?", text: str = "he") -> Signal:
    return Signal(question, (Passage(Record("c", "d", "r", text), "d", 0.0, dense=strength),))


def group(answerable: bool, *signals: Signal) -> Group:
    return Group("kb", "own" if answerable else "of other", answerable, signals)


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auc([3, 2], [1, 2]) == (3 + 0.5) / 4
    assert auc([1.0], [2.0]) == 0


def test_a_signal_is_as_strong_as_its_best_passage() -> None:
    record = Record("c", "d", "r", "he")
    passages = (
        Passage(record, "d", 0, dense=0.9, coverage=0.0),
        Passage(record, "d", 0, dense=0.8, coverage=1.0),
    )
    assert Signal("who?", passages).strength(0.0) == 0.9
    assert Signal("who?", passages).strength(0.2) == 1.0
    assert Signal("who?", ()).strength(0.2) == 0.0


def test_thresholds_are_those_of_the_worst_answerable_group_of_each_direction() -> None:
    good, bad = group(True, signal(0.95), signal(0.95)), group(True, signal(0.92), signal(0.92))
    foreign = group(False, signal(0.99))
    crossing = group(True, signal(0.87, question="谁？"), signal(0.87, question="谁？"))
    back = group(True, signal(0.86, text="他"), signal(0.86, text="他"))
    rule = _thresholds([good, bad, foreign, crossing, back], 0.0)
    assert (rule.same_script, rule.from_chinese, rule.to_chinese) == pytest.approx((0.92, 0.87, 0.86))


def test_the_rule_refuses_what_is_weaker_than_every_answerable_question() -> None:
    groups = [group(True, signal(0.95), signal(0.95)), group(False, signal(0.9), signal(0.99))]
    assert _rule(groups)["refused"] == 50.0


async def test_questions_of_another_set_have_less_support_than_its_own(tmp_path: Path) -> None:
    office = {
        "Parental leave": (
            "Parents of a newborn child may take sixteen weeks of paid leave.",
            "How long is leave?",
        ),
        "Kitchen": ("The dishwasher is emptied by whoever comes first.", "Who empties the dishwasher?"),
        "Travel": ("Train tickets of the first class are paid for long journeys.", "Are train tickets paid?"),
    }
    stars = {
        "Mars": ("Mars is the fourth planet; its two moons are Phobos and Deimos.", "Which moons has Mars?")
    }

    def dataset(name: str, content: dict[str, tuple[str, str]]) -> Dataset:
        return Dataset(
            name,
            tuple(CorpusDocument(title, title, text) for title, (text, _) in content.items()),
            tuple(Question(title, asked, frozenset({title})) for title, (_, asked) in content.items()),
        )

    groups = [
        g async for g in run([dataset("office", office), dataset("stars", stars)], 10, tmp_path / "cache")
    ]
    by_name = {(g.bases, g.questions): g for g in groups}
    own, foreign = by_name["office", "own"], by_name["office", "of stars"]
    assert min(own.strengths(0.1)) > max(foreign.strengths(0.1))
    assert len(by_name["office, 1 document", "own"].signals) == 3
    assert ("stars, 3 documents", "own") not in by_name  # it has only one
    json.dumps(_rule(groups))
