"""One filter tree for every store, and what it means.

A filter is true or false for a record. Fields are the record's own `id`, `document_id`, `revision`,
`position`, `page_start`, `page_end`, and otherwise keys of its metadata. Every store means the same:

- A field that is missing (or null) makes `Eq`, `In`, `Lt`, `Lte`, `Gt`, `Gte` and `Contains` false,
  `Ne` true (`Ne` is exactly `Not(Eq)`), and `Exists` false.
- Values compare only with values of their own type: text with text (by code point), numbers with numbers
  (1 equals 1.0; beyond 2**53 a store may round), booleans with booleans. A comparison of different types is
  false, and so are `Lt`, `Lte`, `Gt` and `Gte` of booleans.
- `Contains` asks whether a list field holds the text; it is false for a field that is not a list, and a
  list field is false under all the other comparisons except `Ne` and `Exists`.
- `And()` of nothing is true, `Or()` of nothing is false, `In` with no values is false.
- Values and field names are data: quotes, operators and wildcards in them match themselves only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.types import Record, Scalar

RECORD_FIELDS = ("id", "document_id", "revision", "position", "page_start", "page_end")


@dataclass(frozen=True, slots=True)
class Eq:
    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Ne:
    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class In:
    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Lt:
    field: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Lte:
    field: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Gt:
    field: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Gte:
    field: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Exists:
    field: str


@dataclass(frozen=True, slots=True)
class Contains:
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


Range = Lt | Lte | Gt | Gte
Filter = Eq | Ne | In | Lt | Lte | Gt | Gte | Exists | Contains | And | Or | Not

ORDER: Mapping[type[Range], Callable[[Any, Any], bool]] = {
    Lt: operator.lt,
    Lte: operator.le,
    Gt: operator.gt,
    Gte: operator.ge,
}


def matches(where: Filter, record: Record) -> bool:  # noqa: PLR0911 - one return for each kind of filter
    """Whether the filter is true for the record: the meaning above, as code.

    The memory store answers by it, and the contract suite holds every other store to it.
    """
    match where:
        case And(parts):
            return all(matches(part, record) for part in parts)
        case Or(parts):
            return any(matches(part, record) for part in parts)
        case Not(part):
            return not matches(part, record)
        case Ne(name, value):
            return not _equal(_stored(record, name), value)
        case Eq(name, value):
            return _equal(_stored(record, name), value)
        case In(name, values):
            return any(_equal(_stored(record, name), value) for value in values)
        case Exists(name):
            return _stored(record, name) is not None
        case Contains(name, value):
            stored = _stored(record, name)
            return isinstance(stored, Sequence) and not isinstance(stored, str) and value in stored
        case _:
            return _in_range(where, _stored(record, where.field))


def type_of(value: object) -> Literal["text", "number", "boolean"] | None:
    """Which of the three comparable types a value has; None for a list or nothing."""
    if isinstance(value, bool):  # before int, which it is too
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else None


def _stored(record: Record, name: str) -> object:
    return getattr(record, name) if name in RECORD_FIELDS else record.metadata.get(name)


def _equal(stored: object, value: Scalar) -> bool:
    return type_of(stored) == type_of(value) and stored == value


def _in_range(where: Range, stored: Any) -> bool:
    if type_of(stored) != type_of(where.value) or isinstance(stored, bool):
        return False
    return bool(ORDER[type(where)](stored, where.value))
