"""Filters on attributes in PostgreSQL mean exactly what `stores.filters.matches` says, and questions name fields."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import migrations
from core.db.models import Document, KnowledgeBase
from core.db.session import Database
from core.types import Record
from models.embedders.bundled import BundledEmbedder
from retrievers.base import Scope
from retrievers.fields import DeclaredField
from retrievers.narrow import Narrower, matching
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, Or, matches
from stores.memory import MemoryStore

NAMES = ["year", "department", 'it\'s "odd" $.x']
ATTRIBUTES: list[dict[str, Any]] = [
    {},
    {"year": 2024, "department": "hr"},
    {"year": 2025, "department": "legal"},
    {"year": "2025", "department": "Hr"},
    {"year": 2025.0, NAMES[2]: "a'b\"c%_"},
    {"year": True, "department": False},
    {"year": 10**18, "department": "法务部"},
    {"year": -0.5, "department": ["hr", "legal"]},
    {"year": None},
    {"department": ["payroll", "pensions"]},
]
VALUES = st.sampled_from(
    [2024, 2025, 2025.0, 0, -0.5, "2025", "hr", "Hr", "法务部", "a'b\"c%_", "", True, False]
)
ORDERED = st.sampled_from([2024, 2025.0, 0, "2025", "hr", "法", ""])
FIELDS = st.sampled_from(NAMES)
COMPARISONS = st.one_of(
    st.builds(Eq, FIELDS, VALUES),
    st.builds(Ne, FIELDS, VALUES),
    st.builds(In, FIELDS, st.lists(VALUES, max_size=3).map(tuple)),
    *(st.builds(kind, FIELDS, ORDERED) for kind in (Lt, Lte, Gt, Gte)),
    st.builds(Exists, FIELDS),
    st.builds(Contains, FIELDS, st.sampled_from(["hr", "2025", "法务部"])),
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


async def _fill(database: Database) -> None:
    async with database.transaction() as session:
        session.add(KnowledgeBase(id="kb", name="kb", description="", store="memory", embedder="e", dim=1))
        await session.flush()
        for number, attributes in enumerate(ATTRIBUTES):
            session.add(
                Document(
                    id=f"d{number}", kb_id="kb", name=f"{number}", status="ready", sha256=f"{number}", size=1,
                    attributes=attributes,
                )
            )  # fmt: skip


@pytest.fixture(scope="module")
def filled(
    new_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[tuple[asyncio.Runner, Database]]:
    with new_database() as url, asyncio.Runner() as runner:
        migrations.upgrade(url)
        database = Database(url)
        runner.run(_fill(database))
        yield runner, database
        runner.run(database.close())


@given(where=FILTERS)
@settings(max_examples=150, deadline=None)
def test_sql_agrees_with_the_meaning_of_filters(
    filled: tuple[asyncio.Runner, Database], where: Filter
) -> None:
    runner, database = filled

    async def ids() -> list[str]:
        async with database.transaction() as session:
            return await matching(session, "kb", where)

    expected = [
        f"d{number}"
        for number, attributes in enumerate(ATTRIBUTES)
        if matches(where, Record("", "", "", "", metadata=attributes))
    ]
    assert runner.run(ids()) == expected


def test_a_question_narrows_to_what_it_names_inside_what_was_asked_for(
    filled: tuple[asyncio.Runner, Database],
) -> None:
    runner, database = filled
    fields = (
        DeclaredField(name="department"),
        DeclaredField(name="year", type="number", values=[2024, 2025]),
    )
    scope = Scope("kb", 1, MemoryStore(), BundledEmbedder(), fields=fields)

    def narrowed(question: str, where: Filter | None = None) -> tuple[Any, dict[str, Any]]:
        found = runner.run(Narrower(database).narrow(question, scope, where))
        return found.scope.document_ids, found.notes

    assert narrowed("What did legal decide?") == (
        ("d2", "d7"),
        {"recognised": {"department": ["legal"]}, "documents": 2},
    )
    assert narrowed("2025 in legal?")[1]["recognised"] == {"department": ["legal"], "year": [2025]}
    assert narrowed("What about leave?") == (None, {})
    ids, notes = narrowed("hr in 2025?")  # hr has no document of 2025
    assert (ids, "dropped" in notes) == (None, True)
    assert narrowed("What are the leave rules of payroll?")[0] == ("d9",), "an item of a list"
    assert narrowed("What did 法务部 and payroll decide?")[0] == ("d6", "d9")
    ids, notes = narrowed("What did legal decide?", Eq("year", 2024))
    assert (ids, notes["filter"], "dropped" in notes) == (("d1",), {"field": "year", "eq": 2024}, True)
    assert narrowed("x", Eq("year", 1999))[0] == (), "a filter that was asked for is never dropped"
