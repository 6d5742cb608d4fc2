"""What must pgvector promise beyond what every store must (`test_stores.py`)?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import psycopg
import pytest
from pgvector import Vector
from psycopg import sql
from store_contract import INDEX, ids, make, oracle_of, unit, zipf_queries, zipf_records

from benchmarks.store_agreement import same_ranking
from core.types import EmbeddedRecord, IndexKind, IndexName
from stores import pgvector
from stores.base import VectorStore
from stores.filters import Filter, Lt
from stores.pgvector import PgVectorStore
from stores.pgvector_filters import condition


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with new_database() as url:
        yield url


@pytest.fixture
async def store(module_database_url: str) -> AsyncIterator[VectorStore]:
    store = PgVectorStore(module_database_url, 2)
    await store.open()
    await store.drop_index(INDEX)
    yield store
    await store.close()


@pytest.fixture(params=[False, True], ids=["whole vectors", "half vectors"])
async def hnsw_store(
    module_database_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[PgVectorStore]:
    """A store that searches with HNSW though its index is so small that comparing all would be faster."""
    monkeypatch.setattr(pgvector, "EXACT_ROWS", 50)
    url = psycopg.conninfo.make_conninfo(module_database_url, options="-c enable_seqscan=off")
    store = PgVectorStore(url, 1, half=request.param)
    await store.open()
    await store.drop_index(INDEX)
    yield store
    await store.close()


async def test_text_rankings_agree_when_only_the_rarest_terms_choose_candidates(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In proportion as in an index of 20,000 records: candidates are a fifth of it.
    monkeypatch.setattr(pgvector, "CANDIDATE_ROWS", 400)
    await _fill(store, records := zipf_records(2000, seed=11, words=2000))
    oracle = await oracle_of(records)
    agreed, queries = 0, zipf_queries(200, seed=12, words=2000)
    for query in queries:
        ours = await store.search_text(INDEX, query, k=10)
        agreed += same_ranking(ours, await oracle.search_text(INDEX, query, k=10))
    assert agreed >= 0.95 * len(queries)


async def test_dense_recall_of_hnsw(hnsw_store: VectorStore) -> None:
    """The narrowest filter leaves few enough to compare them all; for the others HNSW goes on searching."""
    filters = [None, Lt("percent", 1), Lt("percent", 10), Lt("percent", 50)]
    assert await _least_recall(hnsw_store, filters) >= 0.98


async def test_hnsw_finds_k_records_however_many_were_deleted(hnsw_store: VectorStore) -> None:
    await hnsw_store.ensure_index(INDEX, dim=4)
    near = [make(f"n{i}", document="gone", vector=unit(1, i / 1e4, 0, 0)) for i in range(400)]
    far = [make(f"f{i}", document="kept", vector=unit(0, 1, i / 1e4, 0)) for i in range(60)]
    await hnsw_store.upsert(INDEX, [*near, *far])
    await hnsw_store.delete_document(INDEX, "gone")
    assert len(await hnsw_store.search_dense(INDEX, unit(1, 0, 0, 0), k=20)) == 20


async def test_ties_that_hnsw_finds_are_ordered_by_id(hnsw_store: VectorStore) -> None:
    await hnsw_store.ensure_index(INDEX, dim=4)
    for i in reversed(range(60)):
        await hnsw_store.upsert(INDEX, [make(f"{i:02}")])
    found = ids(await hnsw_store.search_dense(INDEX, unit(1, 0, 0, 0), k=60))
    assert found == [f"{i:02}" for i in range(60)]


# --- what only this store has to promise


async def test_searches_of_large_indexes_use_their_index(hnsw_store: PgVectorStore) -> None:
    """Without it they would answer just the same, only slowly."""
    await _fill(hnsw_store, zipf_records(300, seed=17))
    shape = await hnsw_store._shape(INDEX)
    plans = []
    async with hnsw_store._connection(INDEX) as connection:
        dense = pgvector._dense_query(INDEX, sql.SQL("TRUE"), pgvector._Way.HNSW, shape)
        statistics = pgvector._Statistics(300, 30.0, 0.0, {1: 1})
        params: dict[str, object] = {"k": 5, "vector": Vector(unit(1, 0, 0, 0)), "terms": [1]}
        candidates = sql.SQL("terms && %(terms)s::bigint[]")
        text = pgvector._text_query(INDEX, [1], statistics, candidates, params)
        for query in (dense, text):
            rows = await connection.execute(sql.SQL("EXPLAIN {}").format(query), params)
            plans.append("\n".join([row[0] async for row in rows]))
    assert f"Index Scan using {pgvector._name(INDEX)}_embedding_idx" in plans[0]
    assert f"Bitmap Index Scan on {pgvector._name(INDEX)}_terms_idx" in plans[1]


@pytest.mark.parametrize(("percent", "by_hnsw"), [(1, False), (50, True)])
async def test_the_server_compares_all_records_that_a_narrow_filter_leaves(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch, percent: int, by_hnsw: bool
) -> None:
    monkeypatch.setattr(pgvector, "EXACT_ROWS", 20)
    assert isinstance(store, PgVectorStore)
    await _fill(store, zipf_records(300, seed=17))
    params: dict[str, object] = {"k": 5, "vector": Vector(unit(1, 0, 0, 0))}
    where = condition(Lt("percent", percent), params)
    query = pgvector._dense_query(INDEX, where, pgvector._Way.BY_COUNT, await store._shape(INDEX))
    async with store._transaction(INDEX) as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")  # of 300 records it would be the cheapest
        rows = await connection.execute(sql.SQL("EXPLAIN (ANALYZE, COSTS off) {}").format(query), params)
        (hnsw,) = [row[0] async for row in rows if "embedding_idx" in row[0]]
    assert ("never executed" not in hnsw) is by_hnsw


async def test_a_search_for_many_looks_at_more_neighbours(hnsw_store: VectorStore) -> None:
    records = zipf_records(900, seed=18, dim=32)
    await hnsw_store.ensure_index(INDEX, dim=32)
    await hnsw_store.upsert(INDEX, records)
    best = ids(await (await oracle_of(records)).search_dense(INDEX, records[0].vector, k=400))
    found = ids(await hnsw_store.search_dense(INDEX, records[0].vector, k=400))
    assert len({*found} & {*best}) >= 390


async def test_with_half_vectors_the_index_is_much_smaller_and_the_vectors_stay_whole(
    module_database_url: str,
) -> None:
    records, sizes = zipf_records(300, seed=17, dim=256), []
    for half in (False, True):
        store = PgVectorStore(module_database_url, 1, half=half)
        await store.open()
        await store.drop_index(INDEX)
        await store.ensure_index(INDEX, dim=256)
        await store.upsert(INDEX, records)
        kept = {record.id: vector for record, vector in await store.scan(INDEX)}
        assert all(np.array_equal(kept[e.record.id], e.vector) for e in records)
        async with store._connection(INDEX) as connection:
            name = f"{pgvector.SCHEMA}.{pgvector._name(INDEX)}_embedding_idx"
            row = await (await connection.execute("SELECT pg_relation_size(%s)", [name])).fetchone()
            assert row is not None
            sizes.append(row[0])
        await store.close()
    assert sizes[1] < 0.7 * sizes[0]


async def test_half_vectors_may_have_more_numbers_and_an_index_stays_as_it_was_made(
    module_database_url: str,
) -> None:
    store, other = PgVectorStore(module_database_url, 1, half=True), PgVectorStore(module_database_url, 1)
    await store.open()
    await other.open()
    await store.drop_index(INDEX)
    await store.ensure_index(INDEX, dim=4000)
    vectors = [np.eye(1, 4000, i, dtype=np.float32)[0] for i in range(3)]
    await store.upsert(INDEX, [make(f"{i}", vector=vector) for i, vector in enumerate(vectors)])
    assert ids(await other.search_dense(INDEX, vectors[2], k=1)) == ["2"]
    await store.drop_index(INDEX)
    await store.close()
    await other.close()


async def test_records_outlive_the_store_object(store: VectorStore, module_database_url: str) -> None:
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, [make("a")])
    await store.close()
    again = PgVectorStore(module_database_url, 1)
    await again.open()
    assert ids(await again.get(INDEX, ["a"])) == ["a"]
    await again.close()


async def test_a_term_written_by_another_process_is_found_though_its_count_is_old(
    store: VectorStore, module_database_url: str
) -> None:
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, [make("a", terms=["old"])])
    assert await store.search_text(INDEX, ["new"], k=9) == []
    writer = PgVectorStore(module_database_url, 1)
    await writer.open()
    await writer.upsert(INDEX, [make("b", terms=["new"])])
    await writer.close()
    assert ids(await store.search_text(INDEX, ["new", "old"], k=9)) == ["b", "a"]


async def test_own_writes_and_deletions_are_counted_at_once(store: VectorStore) -> None:
    await store.ensure_index(INDEX, dim=4)
    totals = [(await store.term_stats(INDEX, ["t"])).total]
    await store.upsert(INDEX, [make("a", terms=["t"])])
    totals.append((await store.term_stats(INDEX, ["t"])).document_frequency["t"])
    await store.delete_document(INDEX, "d1")
    totals.append((await store.term_stats(INDEX, ["t"])).total)
    assert totals == [0, 1, 0]


async def test_lost_connections_are_replaced(store: VectorStore, module_database_url: str) -> None:
    await store.ensure_index(INDEX, dim=4)
    async with await psycopg.AsyncConnection.connect(module_database_url, autocommit=True) as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    await store.ping()
    assert await store.count(INDEX) == 0


async def test_a_failing_batch_leaves_the_index_as_it_was(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgvector, "BATCH_ROWS", 1)
    await store.ensure_index(INDEX, dim=4)
    too_far = make("b", position=2**40)
    with pytest.raises(pgvector.InvalidValue):
        await store.upsert(INDEX, [make("a"), too_far])
    assert await store.count(INDEX) == 0


async def test_stores_may_open_an_empty_database_at_the_same_time(database_url: str) -> None:
    stores = [PgVectorStore(database_url, 1) for _ in range(4)]
    failures = await asyncio.gather(*(store.open() for store in stores), return_exceptions=True)
    for store in stores:
        await store.close()
    assert failures == [None] * len(stores)


async def test_a_database_in_another_encoding_is_refused_with_the_cure(postgres_server: str) -> None:
    name = "test_ascii_only"
    async with await psycopg.AsyncConnection.connect(postgres_server, autocommit=True) as admin:
        await admin.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        )
        try:
            store = PgVectorStore(psycopg.conninfo.make_conninfo(postgres_server, dbname=name), 1)
            with pytest.raises(pgvector.StoreError, match="UTF8"):
                await store.open()
            await store.close()
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_user_who_may_not_create_the_extension_is_told_what_to_run(
    new_database: Callable[[], AbstractContextManager[str]], postgres_server: str
) -> None:
    with new_database() as url:
        async with await psycopg.AsyncConnection.connect(postgres_server, autocommit=True) as admin:
            await admin.execute("CREATE ROLE weak LOGIN")
            try:
                weak = psycopg.conninfo.make_conninfo(url, options="-c role=weak")
                with pytest.raises(pgvector.StoreError) as raised:
                    await PgVectorStore(weak, 1).open()
                assert "CREATE EXTENSION vector" in str(raised.value)
            finally:
                await admin.execute("DROP ROLE weak")


async def test_long_index_names_stay_apart_and_short_ones_stay_readable() -> None:
    names = [IndexName("k" * n, 1, IndexKind.SUMMARIES) for n in (1, 44, 45, 46, 60, 61)]
    tables = [pgvector._name(name) for name in names]
    assert tables[0] == "kb_k_g1_summaries"
    assert all(len(table.encode()) <= 63 for table in tables)
    assert len(set(tables)) == len(tables)


async def _fill(store: VectorStore, records: list[EmbeddedRecord]) -> None:
    await store.ensure_index(INDEX, dim=len(records[0].vector))
    await store.upsert(INDEX, records)


async def _least_recall(store: VectorStore, filters: Sequence[Filter | None]) -> float:
    """The recall in the 10 nearest of 2,000 records for the filter that has the least."""
    await _fill(store, records := zipf_records(2000, seed=15, dim=32, words=20))
    oracle = await oracle_of(records)
    random = np.random.default_rng(16)
    recalls = []
    for where in filters:
        found = 0
        for _ in range(30):
            query = unit(*random.normal(size=32))
            best = ids(await oracle.search_dense(INDEX, query, k=10, where=where))
            found += len(set(best) & set(ids(await store.search_dense(INDEX, query, k=10, where=where))))
        recalls.append(found / 300)
    return min(recalls)
