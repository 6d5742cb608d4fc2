"""The parts of the pgvector store that need no server: term choice, hashes, statements, errors."""

from __future__ import annotations

import time

import psycopg
import psycopg_pool
import pytest
from psycopg import sql

from core.errors import DimensionMismatch, InvalidValue, NotFound, RagError, StoreError, StoreUnavailable
from core.types import IndexKind, IndexName
from stores import pgvector
from stores.bm25 import rarest_terms, scored_terms
from stores.filters import And, Contains, Eq, Exists, Filter, Gte, In, Lt, Ne, Not, Or
from stores.pgvector import PgVectorStore
from stores.pgvector_filters import Params, condition

INDEX = IndexName("kb", 1, IndexKind.CHUNKS)


def test_the_rarest_terms_choose_candidates_up_to_the_budget() -> None:
    budget = pgvector.CANDIDATE_ROWS
    frequency = {1: budget // 2, 2: budget // 3, 3: budget, 4: 0, 5: 1}
    ordered = scored_terms([1, 2, 3, 4, 5], frequency, pgvector.MAX_TERMS)
    assert ordered == [5, 2, 1, 3, 4]
    assert rarest_terms(ordered, frequency, pgvector.CANDIDATE_ROWS) == [5, 2, 1, 4]


def test_one_term_that_occurs_is_always_chosen() -> None:
    frequency = {1: 10 * pgvector.CANDIDATE_ROWS, 2: 0}
    assert rarest_terms(
        scored_terms([2, 1], frequency, pgvector.MAX_TERMS), frequency, pgvector.CANDIDATE_ROWS
    ) == [1, 2]


def test_counts_of_common_terms_are_used_longer_and_none_for_ever() -> None:
    statistics = pgvector._Statistics(10**9, 100.0, totals_expire=0.0)
    statistics.add({1: 5, 2: 3000, 3: 10**9}, now=0.0)
    current = [[statistics.is_current(term, now) for term in (1, 2, 3)] for now in (9.0, 11.0, 31.0, 601.0)]
    assert current == [[True, True, True], [False, True, True], [False, False, True], [False, False, False]]


def test_statistics_counted_anew_keep_what_is_still_current() -> None:
    older = pgvector._Statistics(10, 5.0, totals_expire=0.0)
    older.add({1: 5, 2: 3000}, now=0.0)
    fresh = pgvector._Statistics(11, 5.0, totals_expire=20.0)
    fresh.add_current(older, now=11.0)
    assert fresh.frequency == {2: 3000}


def test_a_term_that_was_never_counted_is_not_current() -> None:
    assert not pgvector._Statistics(1, 1.0, totals_expire=0.0).is_current(7, time.monotonic())


@pytest.mark.parametrize(
    "hostile", ["x'; DROP TABLE t; --", '"', "%(filter0)s", "{}", "{table}", "%s", "\\", "$1", "🙂"]
)
def test_names_and_values_of_filters_never_become_sql(hostile: str) -> None:
    def statement(name: str, value: str) -> tuple[str, Params]:
        where: Filter = And(
            (
                Eq(name, value),
                Ne(name, value),
                In(name, (value, 1, True)),
                Lt(name, value),
                Gte(name, 2),
                Not(Or((Exists(name), Contains(name, value)))),
                Eq("document_id", value),
            )
        )
        params: Params = {}
        return sql.SQL("SELECT {}").format(condition(where, params)).as_string(), params

    hostile_sql, params = statement(hostile, hostile)
    assert hostile_sql == statement("plain", "plain")[0]
    assert hostile in params.values()


@pytest.mark.parametrize(
    ("driver_error", "ours"),
    [
        (psycopg.OperationalError("no route"), StoreUnavailable),
        (psycopg_pool.PoolTimeout("all busy"), StoreUnavailable),
        (psycopg.errors.AdminShutdown("bye"), StoreUnavailable),
        (psycopg.errors.DeadlockDetected("again"), StoreUnavailable),
        (psycopg.InterfaceError("closed"), StoreUnavailable),
        (psycopg.errors.UndefinedTable("gone"), NotFound),
        (psycopg.errors.InsufficientPrivilege("no"), StoreError),
        (psycopg.errors.DataException("expected 3 dimensions, not 4"), DimensionMismatch),
        (psycopg.errors.NumericValueOutOfRange("integer out of range"), InvalidValue),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_driver_errors_become_ours(driver_error: psycopg.Error, ours: type[RagError]) -> None:
    with pytest.raises(ours) as raised, pgvector._translated(INDEX):
        raise driver_error
    assert type(raised.value) is ours
    assert raised.value.retryable is issubclass(ours, StoreUnavailable)


def test_an_error_nobody_foresaw_stays_itself() -> None:
    with pytest.raises(psycopg.errors.SyntaxError), pgvector._translated(INDEX):
        raise psycopg.errors.SyntaxError("a bug")


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(StoreError, match="not open"):
        await PgVectorStore("postgresql://nowhere").count(INDEX)


def test_hashes_of_terms_never_change() -> None:
    """They are stored: with another hash every index would have to be rebuilt."""
    assert [pgvector._hash(term) for term in ("年假", "cat")] == [6994638934603783805, 3686158003148265519]
