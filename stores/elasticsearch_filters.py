"""How does Elasticsearch answer our filters? By one keyword field, `facts`, that says all about a record.

Mapping each metadata key to a field of its own would let users exhaust the limit on fields, and would fix a
type for each key. Instead every value becomes a token `KEY KIND VALUE` in one list, written so that the order
of tokens (by code point) is the order of values. Then equality is a term, and a range of values of one key
and type is a range of tokens; nothing of a name or value is ever syntax.

A key is the name of a record's own field, or a metadata key in JSON quotes. Kinds are `=` text, `#` number,
`!` boolean, `[` item of a list; `?` says only that the field is there.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.types import Record, Scalar
from stores.filters import (
    RECORD_FIELDS,
    And,
    Contains,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    Lt,
    Lte,
    Ne,
    Not,
    Or,
    Range,
    type_of,
)

Query = dict[str, Any]

ALL: Query = {"match_all": {}}
NONE: Query = {"match_none": {}}
# Longer names and texts end in a hash instead: Lucene takes no token of more than 32,766 bytes. Texts that
# agree up to here are still told apart, but their order is that of the hashes.
_LONGEST_KEY = 300
_LONGEST_TEXT = 4000
_KINDS: Mapping[str | None, str] = {"text": "=", "number": "#", "boolean": "!"}
_BOUNDS: Mapping[type[Range], str] = {Lt: "lt", Lte: "lte", Gt: "gt", Gte: "gte"}


def facts(record: Record) -> list[str]:
    """The tokens that a record is filtered by."""
    own = {name: getattr(record, name) for name in RECORD_FIELDS}
    tokens = [token for name, value in own.items() for token in _tokens(name, value)]
    for name, value in record.metadata.items():
        if name not in own:  # a filter of this name means the record's own field
            tokens += _tokens(name, value)
    return tokens


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
            return _term(_token(name, value))
        case In(name, values):
            return {"terms": {"facts": [_token(name, value) for value in values]}}
        case Exists(name):
            return _term(_key(name) + "?")
        case Contains(name, value):
            return _term(_item(name, value))
        case _:
            return _in_range(where)


def _joined(parts: list[Query], occur: str, *, empty: Query) -> Query:
    if not parts:
        return empty
    return parts[0] if len(parts) == 1 else {"bool": {occur: parts}}


def _term(token: str) -> Query:
    return {"term": {"facts": {"value": token}}}


def _in_range(where: Range) -> Query:
    kind = type_of(where.value)
    if kind == "boolean":
        return NONE
    every = _key(where.field) + _KINDS[kind]
    after = every[:-1] + chr(ord(every[-1]) + 1)  # above every token of this key and kind
    bounds = {"gte": every, "lt": after, _BOUNDS[type(where)]: _token(where.field, where.value)}
    if "gt" in bounds:
        del bounds["gte"]
    if "lte" in bounds:
        del bounds["lt"]
    return {"range": {"facts": bounds}}


def _tokens(name: str, value: object) -> Iterator[str]:
    if value is None:
        return
    yield _key(name) + "?"
    if isinstance(value, str | int | float):
        yield _token(name, value)
    elif isinstance(value, Sequence):
        yield from (_item(name, item) for item in value)


def _token(name: str, value: Scalar) -> str:
    return _key(name) + _KINDS[type_of(value)] + _ordered(value)


def _item(name: str, item: str) -> str:
    return f"{_key(name)}[{_shortened(item, _LONGEST_TEXT)}"


def _key(name: str) -> str:
    return name if name in RECORD_FIELDS else json.dumps(_shortened(name, _LONGEST_KEY), ensure_ascii=False)


def _ordered(value: Scalar) -> str:
    """A text whose place among those of its type is that of the value."""
    if isinstance(value, bool):
        return str(value)
    return _shortened(value, _LONGEST_TEXT) if isinstance(value, str) else _ordered_number(value)


def _ordered_number(value: float) -> str:
    """The bits of the double as 16 hex digits: with the sign turned round, their order is that of numbers."""
    try:
        number = float(value) + 0.0  # -0.0 equals 0.0
    except OverflowError:
        number = math.inf if value > 0 else -math.inf  # an int beyond all doubles
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    return f"{bits ^ (2**64 - 1 if bits >> 63 else 2**63):016x}"


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return f"{text[:longest]}\x00{digest}"  # no stored text has a NUL
