"""How does a filter tree become a Milvus expression? Over hashes of facts (see `stores.facts`).

The field `facts` lists a hash of each fact of a record, and `ordered` maps a hash of what a fact begins with
to the rest, in hex, whose order is that of the values. So an expression holds nothing but hex digits, and no
name or value can be taken for syntax. Versions of Milvus disagree about `not` over a key that is absent, so
`not` is brought down to the leaves, where a range is negated by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from core.types import Record
from stores.facts import beginning, fact, facts, item, ordered, ordinal, presence
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, Or, Range

ALL = 'key >= ""'
NONE = "key in []"
HASH_CHARACTERS = 32
LONGEST_ORDERED = 500  # Milvus takes 65,536 bytes of JSON in a field
_OPERATORS: Mapping[type[Range], str] = {Lt: "<", Lte: "<=", Gt: ">", Gte: ">="}
_OPPOSITES: Mapping[type[Range], str] = {Lt: ">=", Lte: ">", Gt: "<=", Gte: "<"}


def hashed_facts(record: Record) -> list[str]:
    """The field `facts`; it also says which of the beginnings in `ordered` are there."""
    return [_hash(each) for each in (*facts(record), *map(_there_is, ordered(record)))]


def hashed_order(record: Record) -> dict[str, str]:
    """The field `ordered`."""
    return {_hash(first): _hex(rest) for first, rest in ordered(record).items()}


def expression(where: Filter | None) -> str:
    """True for exactly the records for which `where` is; for all of them for None."""
    return ALL if where is None else _compile(where, True)


def _compile(where: Filter, wanted: bool) -> str:  # noqa: PLR0911 - one return for each kind of filter
    """The expression that is true where `where` is `wanted`."""
    match where:
        case And(parts) | Or(parts):
            every = isinstance(where, And) is wanted  # else any of them will do
            return _joined(" and " if every else " or ", [_compile(p, wanted) for p in parts], every)
        case Not(part):
            return _compile(part, not wanted)
        case Ne(name, value):
            return _compile(Eq(name, value), not wanted)
        case Eq(name, value):
            return _holds([fact(name, value)], wanted)
        case In(name, values):
            return _holds([fact(name, value) for value in values], wanted)
        case Exists(name):
            return _holds([presence(name)], wanted)
        case Contains(name, value):
            return _holds([item(name, value)], wanted)
        case _:
            return _in_range(where, wanted)


def _joined(word: str, parts: list[str], every: bool) -> str:
    if not parts:
        return ALL if every else NONE
    return parts[0] if len(parts) == 1 else f"({word.join(parts)})"


def _holds(any_of: list[str], wanted: bool) -> str:
    if not any_of:
        return NONE if wanted else ALL
    listed = ", ".join(f'"{_hash(each)}"' for each in any_of)
    found = (
        f"array_contains_any(facts, [{listed}])" if len(any_of) > 1 else f"array_contains(facts, {listed})"
    )
    return found if wanted else f"(not {found})"


def _in_range(where: Range, wanted: bool) -> str:
    if isinstance(where.value, bool):
        return NONE if wanted else ALL
    first = beginning(where.field, where.value)
    stored, bound = f'ordered["{_hash(first)}"]', f'"{_hex(ordinal(where.value))}"'
    if wanted:
        return f"({stored} {_OPERATORS[type(where)]} {bound})"
    return f"({_holds([_there_is(first)], False)} or ({stored} {_OPPOSITES[type(where)]} {bound}))"


def _there_is(first: str) -> str:
    return f"?{first}"


def _hash(text: str) -> str:
    return hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=HASH_CHARACTERS // 2
    ).hexdigest()


def _hex(text: str) -> str:
    """Texts that agree in their first `LONGEST_ORDERED` characters are ordered by a hash."""
    if len(text) > LONGEST_ORDERED:
        text = f"{text[:LONGEST_ORDERED]}\x00{_hash(text)}"
    return text.encode("utf-8", "surrogatepass").hex()
