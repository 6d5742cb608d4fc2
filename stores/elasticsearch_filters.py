"""How does a filter tree become an Elasticsearch query? Over one keyword field, `facts` (see `stores.facts`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stores.facts import beginning, fact, item, presence
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, Or, Range

Query = dict[str, Any]

ALL: Query = {"match_all": {}}
NONE: Query = {"match_none": {}}
_BOUNDS: Mapping[type[Range], str] = {Lt: "lt", Lte: "lte", Gt: "gt", Gte: "gte"}


def condition(where: Filter | None) -> Query:  # noqa: PLR0911 - one return for each kind of filter
    """The query that finds exactly the records for which `where` is true; all of them for None."""
    match where:
        case None:
            return ALL
        case And(parts):
            return _joined([condition(part) for part in parts], "filter", empty=ALL)
        case Or(parts):
            return _joined([condition(part) for part in parts], "should", empty=NONE)
        case Not(part):
            return {"bool": {"must_not": [condition(part)]}}
        case Ne(name, value):
            return condition(Not(Eq(name, value)))
        case Eq(name, value):
            return _holds(fact(name, value))
        case In(name, values):
            return {"terms": {"facts": [fact(name, value) for value in values]}}
        case Exists(name):
            return _holds(presence(name))
        case Contains(name, value):
            return _holds(item(name, value))
        case _:
            return _in_range(where)


def _joined(parts: list[Query], occur: str, *, empty: Query) -> Query:
    if not parts:
        return empty
    return parts[0] if len(parts) == 1 else {"bool": {occur: parts}}


def _holds(wanted: str) -> Query:
    return {"term": {"facts": {"value": wanted}}}


def _in_range(where: Range) -> Query:
    if isinstance(where.value, bool):
        return NONE
    first = beginning(where.field, where.value)
    bound = {_BOUNDS[type(where)]: fact(where.field, where.value)}
    if isinstance(where, Lt | Lte):
        return {"range": {"facts": {"gte": first, **bound}}}
    beyond = first[:-1] + chr(ord(first[-1]) + 1)  # above every fact of this key and kind
    return {"range": {"facts": {"lt": beyond, **bound}}}
