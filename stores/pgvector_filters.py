"""How a filter tree becomes a PostgreSQL condition, with every field name and value as a parameter.

Each piece of SQL here is true or false, never NULL, so that NOT means what `stores.filters` says. Equality
on metadata is `@>` (containment), which compares by type and uses the index on `metadata`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from core.types import Scalar
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

Params = dict[str, Any]

_TRUE, _FALSE = sql.SQL("TRUE"), sql.SQL("FALSE")
_OPERATORS: dict[type[Range], sql.SQL] = {
    Lt: sql.SQL("<"),
    Lte: sql.SQL("<="),
    Gt: sql.SQL(">"),
    Gte: sql.SQL(">="),
}
_NUMBER_FIELDS = frozenset({"position", "page_start", "page_end"})


def condition(where: Filter | None, params: Params) -> sql.Composable:
    """The SQL condition for `where` (`TRUE` for None); its parameters are added to `params`."""
    return _TRUE if where is None else _compile(where, params)


def _compile(where: Filter, params: Params) -> sql.Composable:  # noqa: PLR0911 - one return for each kind
    match where:
        case And(parts):
            return _joined(" AND ", [_compile(part, params) for part in parts], empty=_TRUE)
        case Or(parts):
            return _joined(" OR ", [_compile(part, params) for part in parts], empty=_FALSE)
        case Not(part):
            return sql.SQL("NOT ({})").format(_compile(part, params))
        case Ne(name, value):
            return _compile(Not(Eq(name, value)), params)
        case Eq(name, value):
            return _compile(In(name, (value,)), params)
        case In(name, values):
            return _one_of(name, values, params)
        case Exists(name):
            return _exists(name, params)
        case Contains(name, value):
            return _contains(name, value, params)
        case _:
            return _in_range(where, params)


def _one_of(name: str, values: tuple[Scalar, ...], params: Params) -> sql.Composable:
    if name in RECORD_FIELDS:
        fitting = [_plain(value) for value in values if type_of(value) == _column_type(name)]
        if not fitting:
            return _FALSE
        return sql.SQL("coalesce({} = ANY({}), FALSE)" if name in _NULLABLE else "{} = ANY({})").format(
            sql.Identifier(name), _add(params, fitting)
        )
    if not values:
        return _FALSE
    return sql.SQL("metadata @> ANY({}::jsonb[])").format(
        _add(params, [Jsonb({name: value}) for value in values])
    )


def _exists(name: str, params: Params) -> sql.Composable:
    if name in RECORD_FIELDS:
        return sql.SQL("({} IS NOT NULL)").format(sql.Identifier(name))
    return sql.SQL("coalesce(jsonb_typeof(metadata -> {}::text) <> 'null', FALSE)").format(_add(params, name))


def _contains(name: str, value: str, params: Params) -> sql.Composable:
    if name in RECORD_FIELDS:
        return _FALSE
    return sql.SQL("(metadata @> {}::jsonb)").format(_add(params, Jsonb({name: [value]})))


def _in_range(where: Range, params: Params) -> sql.Composable:
    kind = type_of(where.value)
    if kind == "boolean":
        return _FALSE
    if where.field in RECORD_FIELDS and kind != _column_type(where.field):
        return _FALSE
    if kind == "number":
        template = "coalesce({column} {operator} {value}::numeric, FALSE)"
        stored = "(metadata ->> {key})::numeric {operator} {value}::numeric"
    else:
        template = '({column} COLLATE "C" {operator} {value})'
        stored = '(metadata ->> {key}) COLLATE "C" {operator} {value}'
    names = {"operator": _OPERATORS[type(where)], "value": _add(params, _plain(where.value))}
    if where.field in RECORD_FIELDS:
        return sql.SQL(template).format(column=sql.Identifier(where.field), **names)
    # CASE is evaluated in order: the cast never sees a value of another type.
    return sql.SQL(
        "CASE WHEN jsonb_typeof(metadata -> {key}) = {type} THEN " + stored + " ELSE FALSE END"
    ).format(
        key=sql.SQL("{}::text").format(_add(params, where.field)),
        type=sql.Literal("number" if kind == "number" else "string"),
        **names,
    )


def _column_type(name: str) -> str:
    return "number" if name in _NUMBER_FIELDS else "text"


_NULLABLE = frozenset({"page_start", "page_end"})


def _plain(value: Scalar) -> str | Decimal:
    """Numbers as decimals: a float parameter would lose digits on its way to `numeric`."""
    return value if isinstance(value, str) else Decimal(repr(value))


def _add(params: Params, value: object) -> sql.Placeholder:
    name = f"filter{len(params)}"
    params[name] = value
    return sql.Placeholder(name)


def _joined(word: str, parts: list[sql.Composable], *, empty: sql.SQL) -> sql.Composable:
    if not parts:
        return empty
    return sql.SQL("({})").format(sql.SQL(word).join(parts))
