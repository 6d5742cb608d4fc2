"""One filter tree for every store, and what it means.

A filter is true or false for a record. Fields are the record's own `id`, `document_id`, `revision`,
`position`, `page_start`, `page_end`, and otherwise keys of its metadata. Every store means the same:

- A field that is missing (or null) makes `Eq`, `In`, `Lt`, `Lte`, `Gt`, `Gte` and `Contains` false,
  `Ne` true (`Ne` is exactly `Not(Eq)`), and `Exists` false.
- Values compare only with values of their own type: text with text (by code point), numbers with numbers
  (1 equals 1.0), booleans with booleans. A comparison of different types is false.
- `Contains` asks whether a list field holds the text; it is false for a field that is not a list, and a
  list field is false under all the other comparisons except `Ne` and `Exists`.
- `And()` of nothing is true, `Or()` of nothing is false, `In` with no values is false.
- Values and field names are data: quotes, operators and wildcards in them match themselves only.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.types import Scalar

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


Filter = Eq | Ne | In | Lt | Lte | Gt | Gte | Exists | Contains | And | Or | Not
