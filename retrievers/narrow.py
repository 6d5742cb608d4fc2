"""Which documents may a question be answered from? Those that its filter, and what it names itself, leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, Numeric, and_, case, cast, false, func, not_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.models import Document
from core.db.session import Database
from core.types import Scalar
from retrievers.base import Scope
from retrievers.fields import DeclaredField, recognised
from retrievers.filter_json import filter_json
from stores.filters import ORDER, And, Contains, Eq, Exists, Filter, In, Ne, Not, Or, Range

MOST_VALUES = 1000  # of a field whose values are not declared


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The scope with the documents that are left, and what the trace should tell."""

    scope: Scope
    notes: dict[str, Any] = field(default_factory=dict)


class Narrower:
    """Applies filters to the attributes of documents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def narrow(self, question: str, scope: Scope, where: Filter | None) -> Narrowed:
        """The documents that `where` leaves, and of these the ones whose fields the question names.

        What the question names is dropped if it leaves nothing: a filter that was asked for never is.
        """
        async with self._database.transaction() as session:
            named = [
                found
                for each in scope.fields
                if (found := recognised(question, each, await _values(session, scope.kb_id, each)))
            ]
            notes: dict[str, Any] = {}
            if where is not None:
                notes["filter"] = filter_json(where)
            if named:
                notes["recognised"] = {part.field: list(part.values) for part in named}
                both = And((*([where] if where else []), *map(_or_holds, named)))
                ids = await matching(session, scope.kb_id, both)
                if ids:
                    return Narrowed(_limited(scope, ids), {**notes, "documents": len(ids)})
                notes["dropped"] = "no document has what the question names"
            if where is None:
                return Narrowed(scope, notes)
            ids = await matching(session, scope.kb_id, where)
        return Narrowed(_limited(scope, ids), {**notes, "documents": len(ids)})


def _limited(scope: Scope, ids: Sequence[str]) -> Scope:
    return replace(scope, document_ids=tuple(ids))


def _or_holds(named: In) -> Filter:
    """The same, and true as well for a list that holds one of the values."""
    return Or((named, *(Contains(named.field, value) for value in named.values if isinstance(value, str))))


async def _values(session: AsyncSession, kb_id: str, declared: DeclaredField) -> Sequence[Scalar]:
    """What may stand in the field: as declared, else as the documents have it; of lists, their items."""
    if declared.values is not None:
        return declared.values
    value = Document.attributes[declared.name]
    query = (
        select(value)
        .where(Document.kb_id == kb_id, Document.attributes.has_key(declared.name))
        .distinct()
        .limit(MOST_VALUES)
    )
    rows = (await session.execute(query)).scalars()
    items = chain.from_iterable(row if isinstance(row, list) else [row] for row in rows)
    return list(dict.fromkeys(item for item in items if isinstance(item, str | int | float)))[:MOST_VALUES]


async def matching(session: AsyncSession, kb_id: str, where: Filter) -> list[str]:
    """Ids of the knowledge base's documents whose attributes the filter is true for, as `stores.filters` means it."""
    query = select(Document.id).where(Document.kb_id == kb_id, _clause(where)).order_by(Document.id)
    return list((await session.execute(query)).scalars())


def _clause(where: Filter) -> ColumnElement[bool]:  # noqa: PLR0911 - one return for each kind of filter
    """The filter as SQL over the attributes; true or false, never null."""
    attributes = Document.attributes
    match where:
        case And(parts):
            return and_(true(), *map(_clause, parts))
        case Or(parts):
            return or_(false(), *map(_clause, parts))
        case Not(part):
            return not_(_clause(part))
        case Eq(name, value):
            return attributes.contains({name: value})
        case Ne(name, value):
            return not_(attributes.contains({name: value}))
        case In(name, values):
            return or_(false(), *(attributes.contains({name: value}) for value in values))
        case Exists(name):
            return and_(attributes.has_key(name), attributes[name].astext.is_not(None))
        case Contains(name, value):
            return attributes.contains({name: [value]})
        case _:
            return _range(where)


def _range(where: Range) -> ColumnElement[bool]:
    stored = Document.attributes[where.field]
    compare = ORDER[type(where)]
    if isinstance(where.value, bool):
        return false()
    if isinstance(where.value, str):
        kind, compared = "string", compare(stored.astext.collate("C"), where.value)
    else:
        kind, compared = "number", compare(cast(stored.astext, Numeric), Decimal(where.value))
    # CASE, because AND may look at its second side first, and "abc" is no number.
    return case((func.jsonb_typeof(stored) == kind, compared), else_=false())
