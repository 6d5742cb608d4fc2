"""Filters as JSON: what they mean, what is refused and why, and that traces show them as they were sent."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import InvalidValue
from retrievers.filter_json import DEEPEST, MOST_PARTS, filter_json, parse_filter
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, Or

CASES: list[tuple[dict[str, Any], Filter]] = [
    ({"field": "a", "eq": True}, Eq("a", True)),
    ({"field": "a", "ne": "x"}, Ne("a", "x")),
    ({"field": "a", "in": [1, "x"]}, In("a", (1, "x"))),
    ({"field": "a", "lt": 1}, Lt("a", 1)),
    ({"field": "a", "lte": 1.5}, Lte("a", 1.5)),
    ({"field": "a", "gt": "m"}, Gt("a", "m")),
    ({"field": "a", "gte": 1}, Gte("a", 1)),
    ({"field": "a", "contains": "x"}, Contains("a", "x")),
    ({"field": "a", "exists": True}, Exists("a")),
    ({"not": {"field": "a", "exists": True}}, Not(Exists("a"))),
    ({"and": [{"field": "a", "eq": 1}, {"or": []}]}, And((Eq("a", 1), Or(())))),
]


@pytest.mark.parametrize(("tree", "meaning"), CASES)
def test_a_tree_means_a_filter_and_is_shown_as_it_was_sent(tree: dict[str, Any], meaning: Filter) -> None:
    assert parse_filter(tree) == meaning
    assert filter_json(meaning) == tree


def test_exists_false_means_that_it_does_not() -> None:
    assert parse_filter({"field": "a", "exists": False}) == Not(Exists("a"))


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ([], "filter"),
        ({}, "filter"),
        ({"field": "a"}, "filter"),
        ({"eq": 1}, "filter"),
        ({"field": "a", "eq": 1, "ne": 2}, "filter"),
        ({"field": "a", "like": "x"}, "filter"),
        ({"field": "", "eq": 1}, "filter.field"),
        ({"field": "a", "eq": [1]}, "filter.eq"),
        ({"field": "a", "lt": True}, "filter.lt"),
        ({"field": "a", "in": "x"}, "filter.in"),
        ({"field": "a", "in": [[1]]}, "filter.in"),
        ({"field": "a", "exists": 1}, "filter.exists"),
        ({"and": {"field": "a", "eq": 1}}, "filter.and"),
        ({"and": [{"field": "a", "eq": 1}, {"not": 1}]}, "filter.and[1].not"),
        ({"field": "a", "eq": float("nan")}, "nan"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(tree: object, place: str) -> None:
    with pytest.raises(InvalidValue) as error:
        parse_filter(tree)
    assert place in error.value.message


def test_a_filter_is_of_bounded_size_and_depth() -> None:
    deep: dict[str, Any] = {"field": "a", "eq": 1}
    for _ in range(DEEPEST):
        deep = {"not": deep}
    wide = {"or": [{"field": "a", "eq": n} for n in range(MOST_PARTS)]}
    for tree in (deep, wide):
        with pytest.raises(InvalidValue, match="levels"):
            parse_filter(tree)
