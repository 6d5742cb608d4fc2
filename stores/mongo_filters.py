"""How does a filter tree become a MongoDB query? Over one array of strings, `facts` (see `stores.facts`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stores.facts import beginning, fact, item, presence
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, Or, Range

Query = dict[str, Any]

ALL: Query = {}
NONE: Query = {"facts": {"$in": []}}
_BOUNDS: Mapping[type[Range], str] = {Lt: "$lt", Lte: "$lte", Gt: "$gt", Gte: "$gte"}


def condition(where: Filter | None) -> Query:  # noqa: PLR0911 - one return for each kind of filter
    """The query that finds exactly the records for which `where` is true; all of them for None."""
    match where:
        case None:
            return ALL
        case And(parts):
            return {"$and": [condition(part) for part in parts]} if parts else ALL
        case Or(parts):
            return {"$or": [condition(part) for part in parts]} if parts else NONE
        case Not(part):
            return {"$nor": [condition(part)]}
        case Ne(name, value):
            return condition(Not(Eq(name, value)))
        case Eq(name, value):
            return condition(In(name, (value,)))
        case In(name, values):
            return {"facts": {"$in": [fact(name, value) for value in values]}}
        case Exists(name):
            return {"facts": {"$in": [presence(name)]}}
        case Contains(name, value):
            return {"facts": {"$in": [item(name, value)]}}
        case _:
            return _in_range(where)


def is_native(where: Filter | None) -> bool:
    """Whether `$vectorSearch` can answer it.

    It cannot ask for one element of an array that lies between two bounds, and no empty list of values.
    """
    match where:
        case And(parts) | Or(parts):
            return bool(parts) and all(is_native(part) for part in parts)
        case Not(part):
            return is_native(part)
        case In(_, values):
            return bool(values)
        case Lt() | Lte() | Gt() | Gte():
            return False
        case _:
            return True


def _in_range(where: Range) -> Query:
    if isinstance(where.value, bool):
        return NONE
    first = beginning(where.field, where.value)
    bounds = {_BOUNDS[type(where)]: fact(where.field, where.value)}
    if isinstance(where, Lt | Lte):
        bounds["$gte"] = first
    else:
        bounds["$lt"] = first[:-1] + chr(ord(first[-1]) + 1)  # above every fact of this field and type
    return {"facts": {"$elemMatch": bounds}}
