"""What do filters mean? (The contract suite asks every store the same with many more cases.)"""

from __future__ import annotations

import pytest

from core.types import Record
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, In, Lt, Lte, Ne, Not, Or, matches, type_of

RECORD = Record(
    "id1",
    "doc",
    "r1",
    "text",
    position=2,
    metadata={"lang": "zh", "n": 1, "ok": True, "tags": ["a", "b"], "document_id": "not this one"},
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Eq("n", 1.0), True),
        (Eq("n", True), False),
        (Eq("ok", 1), False),
        (Eq("n", "1"), False),
        (Eq("tags", "a"), False),
        (Eq("document_id", "doc"), True),
        (Eq("page_start", 1), False),
        (Ne("tags", "a"), True),
        (Ne("page_start", 1), True),
        (In("lang", ("en", "zh")), True),
        (In("lang", ()), False),
        (Lt("ok", 2), False),
        (Lt("lang", True), False),
        (Lte("ok", True), False),
        (Lte("n", 1), True),
        (Gt("lang", "en"), True),
        (Gt("lang", 0), False),
        (Exists("page_start"), False),
        (Exists("tags"), True),
        (Contains("tags", "a"), True),
        (Contains("lang", "z"), False),
        (And(()), True),
        (Or(()), False),
        (Not(Or((Eq("n", 2), Eq("lang", "en")))), True),
        (And((Eq("n", 1), Eq("lang", "en"))), False),
    ],
    ids=repr,
)
def test_a_filter_is_true_or_false_for_a_record(where: Filter, expected: bool) -> None:
    assert matches(where, RECORD) is expected


def test_booleans_are_not_numbers() -> None:
    assert [type_of(v) for v in (True, 1, 1.5, "1", ["1"], None)] == [
        "boolean",
        "number",
        "number",
        "text",
        None,
        None,
    ]
