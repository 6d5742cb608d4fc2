"""How does a filter tree become a RediSearch query, exactly?

Every comparison with a value is a *token*: a hash of field, type and value that stands in the record's `tags`.
So names and values cannot be mistaken for syntax, and text never equals a number. Of metadata and texts, a
range becomes the tokens of the values inside it; the sorted sets of the index know which values there are.
The record's own numbers are NUMERIC fields.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence

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

NUMBER_FIELDS = ("position", "page_start", "page_end")
TEXT_FIELDS = ("id", "document_id", "revision")
EVERY, NO = "@tags:{every}", "@tags:{no}"  # all records carry the first tag, none the second

TokensOfRange = Callable[[Range], Awaitable[Sequence[str]]]


async def condition(where: Filter, tokens_of: TokensOfRange) -> str:  # noqa: PLR0911 - one return for each kind
    """The query for `where`; `tokens_of` says which stored values lie in a range."""
    match where:
        case And(parts):
            return f"({' '.join([await condition(part, tokens_of) for part in parts])})" if parts else EVERY
        case Or(parts):
            return f"({'|'.join([await condition(part, tokens_of) for part in parts])})" if parts else NO
        case Not(part):
            return f"(-{await condition(part, tokens_of)})"
        case Ne(name, value):
            return f"(-{await condition(Eq(name, value), tokens_of)})"
        case Eq(name, value):
            return await condition(In(name, (value,)), tokens_of)
        case In(name, values):
            return _one_of(name, values)
        case Exists(name):
            return _exists(name)
        case Contains(name, value):
            return NO if name in RECORD_FIELDS else _tagged([token(name, "item", value)])
        case _:
            return await _in_range(where, tokens_of)


def record_tokens(record: Record) -> list[str]:
    """All tokens that are true of a record."""
    tokens = ["every", *(token(name, "text", getattr(record, name)) for name in TEXT_FIELDS)]
    for name, value in record.metadata.items():
        if name in RECORD_FIELDS or value is None:
            continue
        tokens.append(token(name, "exists"))
        if isinstance(value, Sequence) and not isinstance(value, str):
            tokens += [token(name, "item", item) for item in value]
        else:
            tokens.append(scalar_token(name, value))
    return tokens


def ordered_values(record: Record) -> Iterator[tuple[str, str | float]]:
    """The fields and values that ranges are asked of, those in NUMERIC fields excepted."""
    for name in TEXT_FIELDS:
        yield name, getattr(record, name)
    for name, value in record.metadata.items():
        if name not in RECORD_FIELDS and type_of(value) in ("text", "number"):
            yield name, value if isinstance(value, str) else as_float(value)  # type: ignore[arg-type]


def scalar_token(name: str, value: Scalar) -> str:
    kind = type_of(value)
    assert kind is not None
    return token(name, kind, value if isinstance(value, str) else repr(as_float(value)))


def token(*parts: str) -> str:
    """96 bits in hexadecimal: two of a billion tokens are equal with a chance of 1 in 10**11."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(joined.encode(), digest_size=12).hexdigest()


def as_float(number: float) -> float:
    """As Redis keeps numbers; 0 has no sign, and integers beyond all floats are infinite."""
    try:
        return float(number) + 0.0
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def number_range(where: Range) -> tuple[str, str]:
    """The range as both `ZRANGEBYSCORE` and NUMERIC fields want it."""
    value = repr(as_float(where.value))  # type: ignore[arg-type]
    match where:
        case Lt():
            return "-inf", "(" + value
        case Lte():
            return "-inf", value
        case Gt():
            return "(" + value, "+inf"
        case Gte():
            return value, "+inf"


def text_range(where: Range) -> tuple[bytes, bytes]:
    """The range as `ZRANGEBYLEX` wants it: UTF-8, in which bytes are ordered as code points are."""
    value = str(where.value).encode()
    match where:
        case Lt():
            return b"-", b"(" + value
        case Lte():
            return b"-", b"[" + value
        case Gt():
            return b"(" + value, b"+"
        case Gte():
            return b"[" + value, b"+"


def _one_of(name: str, values: Sequence[Scalar]) -> str:
    if name not in NUMBER_FIELDS:
        return _tagged([scalar_token(name, value) for value in values])
    numbers = [as_float(value) for value in values if type_of(value) == "number"]  # type: ignore[arg-type]
    return (
        f"({'|'.join(_numeric(name, repr(number), repr(number)) for number in numbers)})" if numbers else NO
    )


def _exists(name: str) -> str:
    if name in TEXT_FIELDS:
        return EVERY
    return _numeric(name, "-inf", "+inf") if name in NUMBER_FIELDS else _tagged([token(name, "exists")])


async def _in_range(where: Range, tokens_of: TokensOfRange) -> str:
    kind = type_of(where.value)
    if where.field in NUMBER_FIELDS:
        return _numeric(where.field, *number_range(where)) if kind == "number" else NO
    if kind == "boolean" or (where.field in TEXT_FIELDS and kind == "number"):
        return NO
    return _tagged(await tokens_of(where))


def _tagged(tokens: Sequence[str]) -> str:
    return f"@tags:{{{'|'.join(tokens)}}}" if tokens else NO


def _numeric(name: str, low: str, high: str) -> str:
    return f"@{name}:[{low} {high}]"
