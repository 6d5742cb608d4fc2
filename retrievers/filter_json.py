"""How does a client write a filter? As a small JSON tree: `{"and": [{"field": "year", "gte": 2024}, {"not": …}]}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import InvalidValue
from stores.checks import check_filter
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, Or, type_of

MOST_PARTS = 100  # comparisons and connectives of one filter
DEEPEST = 10
HINT = (
    'A filter is {"field": NAME, OPERATOR: VALUE} with eq, ne, in, lt, lte, gt, gte, contains or exists, or '
    '{"and": […]}, {"or": […]}, {"not": …} of filters.'
)
_SCALAR: Mapping[str, Callable[[str, Any], Filter]] = {"eq": Eq, "ne": Ne}
_ORDERED: Mapping[str, Callable[[str, Any], Filter]] = {"lt": Lt, "lte": Lte, "gt": Gt, "gte": Gte}
_OPERATORS = {*_SCALAR, *_ORDERED, "in", "contains", "exists"}
_JOINING: Mapping[str, Callable[[tuple[Filter, ...]], Filter]] = {"and": And, "or": Or}


def parse_filter(tree: object) -> Filter:
    """The filter that a JSON tree means. Raises `InvalidValue` saying which part is wrong."""
    parts = [0]
    found = _parse(tree, "filter", 1, parts)
    check_filter(found)
    return found


def filter_json(where: Filter) -> dict[str, Any]:
    """The JSON tree of a filter, as traces show it."""
    match where:
        case And(parts):
            return {"and": [filter_json(part) for part in parts]}
        case Or(parts):
            return {"or": [filter_json(part) for part in parts]}
        case Not(part):
            return {"not": filter_json(part)}
        case In(name, values):
            return {"field": name, "in": list(values)}
        case Exists(name):
            return {"field": name, "exists": True}
        case _:
            return {"field": where.field, type(where).__name__.lower(): where.value}


def _parse(tree: object, place: str, depth: int, parts: list[int]) -> Filter:
    parts[0] += 1
    if parts[0] > MOST_PARTS or depth > DEEPEST:
        raise InvalidValue(f"`filter` has more than {MOST_PARTS} parts or {DEEPEST} levels.", hint=HINT)
    if not isinstance(tree, dict):
        raise InvalidValue(f"`{place}` is not an object.", hint=HINT)
    if len(tree) == 1 and (name := next(iter(tree))) in {*_JOINING, "not"}:
        return _connective(name, tree[name], f"{place}.{name}", depth + 1, parts)
    operators = [name for name in tree if name != "field"]
    if "field" not in tree or len(operators) != 1 or operators[0] not in _OPERATORS:
        raise InvalidValue(f"`{place}` is neither a comparison nor and, or, not.", hint=HINT)
    return _comparison(tree["field"], operators[0], tree[operators[0]], place)


def _connective(name: str, inner: object, place: str, depth: int, parts: list[int]) -> Filter:
    if name == "not":
        return Not(_parse(inner, place, depth, parts))
    if not isinstance(inner, list):
        raise InvalidValue(f"`{place}` is not a list.", hint=HINT)
    return _JOINING[name](tuple(_parse(part, f"{place}[{n}]", depth, parts) for n, part in enumerate(inner)))


def _comparison(field: object, operator: str, value: Any, place: str) -> Filter:
    if not isinstance(field, str) or not 0 < len(field) <= 64:
        raise InvalidValue(f"`{place}.field` is not a name of at most 64 characters.", hint=HINT)
    kind = type_of(value)
    if operator in _SCALAR and kind is not None:
        return _SCALAR[operator](field, value)
    if operator in _ORDERED and kind in ("text", "number"):
        return _ORDERED[operator](field, value)
    if operator == "in" and isinstance(value, list) and all(type_of(each) is not None for each in value):
        return In(field, tuple(value))
    if operator == "contains" and isinstance(value, str):
        return Contains(field, value)
    if operator == "exists" and isinstance(value, bool):
        return Exists(field) if value else Not(Exists(field))
    raise InvalidValue(f"`{place}.{operator}` has a value that it cannot compare with.", hint=HINT)
