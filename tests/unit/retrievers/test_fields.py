"""Fields that a question names: exact values as words of their own, and never those that it leaves out."""

from __future__ import annotations

import pytest

from core.types import Scalar
from retrievers.fields import DeclaredField, recognised

DEPARTMENT = DeclaredField(name="department")
DEPARTMENTS: list[Scalar] = ["legal", "hr", "IT", "human resources", "人事", "人事部", "法务部"]
YEAR = DeclaredField(name="year", type="number")
YEARS: list[Scalar] = [2024, 2025, 25]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What did Legal decide?", ("legal",)),
        ("Was it illegal?", None),
        ("legal or HR?", ("legal", "hr")),
        ("Which rules has human resources?", ("human resources",)),
        ("人事部的规定是什么？", ("人事部",)),
        ("人事制度有哪些？", ("人事",)),
        ("请看ＨＲ的文件", ("hr",)),
        ("What does everybody except legal do?", None),
        ("What does everybody but legal do?", None),
        ("除了法务部，谁负责？", None),
        ("法务部以外的部门", None),
        ("Not in legal but in hr?", ("hr",)),
        ("How many days?", None),
        ("Is it true that two signatures are needed?", None),
        ("What did the IT department decide?", ("IT",)),
    ],
)
def test_values_of_text(question: str, expected: tuple[str, ...] | None) -> None:
    found = recognised(question, DEPARTMENT, DEPARTMENTS)
    assert (found.values if found else None) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What was decided in 2025?", (2025,)),
        ("2024年和2025年的预算", (2024, 2025)),
        ("The budget of 20250 euros", None),
        ("version 2025.1", None),
        ("1.2025", None),
        ("What was decided after 2024?", None),
        ("Which contracts need signatures before the end of 2025?", None),
        ("decisions since 2025", None),
        ("Between 2023 and 2025, what changed?", None),
        ("from 2024 to 2025", None),
        ("What changed in 2025 or later?", None),
        ("decisions from 2025", (2025,)),
        ("2025年以前的规定", None),
        ("2024年到2025年的预算", None),
        ("2025年的前三项决定", (2025,)),
    ],
)
def test_values_that_are_numbers(question: str, expected: tuple[int, ...] | None) -> None:
    found = recognised(question, YEAR, YEARS)
    assert (found.values if found else None) == expected


def test_values_of_another_type_and_single_characters_are_not_looked_for() -> None:
    assert recognised("plan a 7 2025", DEPARTMENT, ["a", 2025]) is None
    assert recognised("plan a 7", YEAR, [7, "7"]) is None
