"""How can an engine that knows only lists of words answer our filters? By a list of facts about each record.

Mapping each metadata key to a field of the engine would let users exhaust its limit on fields, and would fix
a type for each key. Instead every value becomes a fact `KEY KIND VALUE`, written so that the order of facts
of one key and kind (by code point) is the order of values. Then equality is one word of the list, and a range
of values is a range of words; nothing of a name or value is ever syntax.

A key is the name of a record's own field, or a metadata key in JSON quotes. Kinds are `=` text, `#` number,
`!` boolean, `[` item of a list; `?` says only that the field is there.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence

from core.types import Record, Scalar
from stores.filters import RECORD_FIELDS, type_of

# Longer names and texts end in a hash instead, because engines limit words. Texts that agree up to here are
# still told apart, but their order is that of the hashes.
LONGEST_KEY = 300
LONGEST_TEXT = 4000
_KINDS: Mapping[str | None, str] = {"text": "=", "number": "#", "boolean": "!"}


def facts(record: Record) -> list[str]:
    """All that filters may ask about the record."""
    return [fact for name, value in _fields(record) for fact in _facts(name, value)]


def ordered(record: Record) -> dict[str, str]:
    """For each text and number of the record: what its facts begin with, and what they go on with."""
    return {
        beginning(name, value): ordinal(value)
        for name, value in _fields(record)
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }


def fact(name: str, value: Scalar) -> str:
    """That the field has this value."""
    return beginning(name, value) + ordinal(value)


def beginning(name: str, value: Scalar) -> str:
    """What facts of the field begin with if its value is of the type of `value`."""
    return _key(name) + _KINDS[type_of(value)]


def presence(name: str) -> str:
    """The fact that the field is there."""
    return _key(name) + "?"


def item(name: str, value: str) -> str:
    """The fact that the field is a list that holds this."""
    return f"{_key(name)}[{_shortened(value, LONGEST_TEXT)}"


def ordinal(value: Scalar) -> str:
    """A text whose place among those of its type is that of the value."""
    if isinstance(value, bool):
        return str(value)
    return _shortened(value, LONGEST_TEXT) if isinstance(value, str) else _number_ordinal(value)


def _fields(record: Record) -> Iterator[tuple[str, object]]:
    for name in RECORD_FIELDS:
        yield name, getattr(record, name)
    for name, value in record.metadata.items():
        if name not in RECORD_FIELDS:  # a filter of this name means the record's own field
            yield name, value


def _facts(name: str, value: object) -> Iterator[str]:
    if value is None:
        return
    yield presence(name)
    if isinstance(value, str | int | float):
        yield fact(name, value)
    elif isinstance(value, Sequence):
        yield from (item(name, each) for each in value)


def _key(name: str) -> str:
    return name if name in RECORD_FIELDS else json.dumps(_shortened(name, LONGEST_KEY), ensure_ascii=False)


def _number_ordinal(value: float) -> str:
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
