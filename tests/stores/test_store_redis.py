"""Does Redis do everything that a store must, and what only it must promise?

The server is a real one (`tests/servers/redis_server.py`), or the one that `RAG_TEST_REDIS_URL` names; those
that must be set up otherwise are always started here.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

import pytest
import redis
from redis_server import running_redis
from store_contract import AXES, INDEX, NASTY, ids, make, unit
from store_spec import StoreSpec, Subject
from subjects import opened, subject

from core.errors import NotFound, StoreError, StoreUnavailable
from core.types import Metadata
from stores import redis as redis_store
from stores.base import VectorStore
from stores.filters import And, Eq, Gt, Gte, Lt, Lte, Not, Or
from stores.redis import RedisStore

KIND = "redis"

pytestmark = pytest.mark.timeout(600)  # the first run fetches the server


class TestRedisStore(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, server_url: Callable[[str], str]) -> Subject:
        return subject(KIND, server_url(KIND))


# --- searches by the engine's graph, where the contract is too small for it


async def test_hnsw_finds_k_records_however_many_were_deleted(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "EXACT_ROWS", 0)
    await store.ensure_index(INDEX, dim=4)
    near = [make(f"n{i}", document="gone", vector=unit(1, i / 1e4, 0, 0)) for i in range(400)]
    far = [make(f"f{i}", document="kept", vector=unit(0, 1, i / 1e4, 0)) for i in range(50)]
    await store.upsert(INDEX, [*near, *far])
    await store.delete_document(INDEX, "gone")
    assert len(await store.search_dense(INDEX, AXES[0], k=20)) == 20


@pytest.mark.parametrize("exact_rows", [0, 2000])
async def test_of_more_ties_than_are_asked_for_those_with_the_smallest_ids_are_found(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch, exact_rows: int
) -> None:
    monkeypatch.setattr(redis_store, "EXACT_ROWS", exact_rows)
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, [make(f"{i:03}") for i in reversed(range(300))])
    expected = [f"{i:03}" for i in range(7)]
    assert ids(await store.search_dense(INDEX, AXES[0], k=7)) == expected
    assert ids(await store.search_text(INDEX, ["common"], k=7)) == expected


# --- filters


async def test_long_texts_and_names_in_metadata_are_filtered_by(store: VectorStore) -> None:
    long = "字" * 20_000
    await store.ensure_index(INDEX, dim=4)
    metadatas: list[Metadata] = [{"f": long}, {"f": long + "!"}, {long: "x"}, {"f": [long]}]
    await store.upsert(INDEX, [make(f"{i}", metadata=m) for i, m in enumerate(metadatas)])
    filters = [Eq("f", long), Eq(long, "x"), Gt("f", "字"), Gt("f", long), Lt("f", "字")]
    found = [ids(await store.search_dense(INDEX, AXES[0], k=9, where=where)) for where in filters]
    assert found == [["0"], ["2"], ["0", "1"], ["1"], []]


async def test_numbers_are_in_order_whatever_their_sign_and_size(store: VectorStore) -> None:
    numbers = [-(10**400), -1e300, -2.5, -1, -1e-300, 0, 1e-300, 1, 2.5, 1e300, 10**400]
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, [make(f"{i:02}", metadata={"n": n}) for i, n in enumerate(numbers)])
    for i, number in enumerate(numbers):
        names = [f"{j:02}" for j in range(len(numbers))]
        for where, expected in [
            (Lt("n", number), names[:i]),
            (Lte("n", number), names[: i + 1]),
            (Gt("n", number), names[i + 1 :]),
            (Gte("n", number), names[i:]),
        ]:
            assert ids(await store.search_dense(INDEX, AXES[0], k=99, where=where)) == expected
    assert await store.count(INDEX, where=Eq("n", -0.0)) == 1


async def test_a_range_of_many_values_is_answered(store: VectorStore) -> None:
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, [make(f"{i:05}", metadata={"n": i / 7}) for i in range(6000)])
    assert await store.count(INDEX, where=Gte("n", 1)) == 5993
    where = And((Gt("id", "00100"), Not(Or((Lt("n", 50), Gte("id", "05000"))))))
    assert await store.count(INDEX, where=where) == 4650


async def test_a_deleted_id_is_found_by_ranges_once_it_is_written_again(store: VectorStore) -> None:
    await store.ensure_index(INDEX, dim=4)
    for _ in range(2):
        await store.upsert(INDEX, [make("b")])
        assert await store.count(INDEX, where=Gt("id", "a")) == 1
        await store.delete_document(INDEX, "d1")
        assert await store.count(INDEX, where=Gt("id", "a")) == 0


# --- what lies beside the records


async def test_replacing_and_deleting_leave_no_trace_in_the_statistics(store: VectorStore) -> None:
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, [make("a", terms=["p", "p", "q"]), make("b", terms=["p"])])
    await store.upsert(INDEX, [make("a", document="d2", terms=["r"])])
    stats = await store.term_stats(INDEX, ["p", "q", "r"])
    assert (stats.total, stats.document_frequency) == (2, {"p": 1, "q": 0, "r": 1})
    assert await store.delete_document(INDEX, "d1") == 1
    stats = await store.term_stats(INDEX, ["p", "q", "r"])
    assert (stats.total, stats.document_frequency) == (1, {"p": 0, "q": 0, "r": 1})


async def test_a_dropped_index_leaves_no_keys(server_url: Callable[[str], str]) -> None:
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    odd = f"{prefix}[a-z]*?\\"  # a pattern, if it were one
    url = server_url(KIND)
    async with (
        opened(RedisStore(url, prefix=odd)) as store,
        opened(RedisStore(url, prefix=f"{prefix}az")) as other,
    ):
        for each in (store, other):
            await each.ensure_index(INDEX, dim=4)
            await each.upsert(INDEX, [make("a", metadata={NASTY: 1, "s": NASTY}), make("b", document=NASTY)])
        await store.drop_index(INDEX)
        assert await other.count(INDEX) == 2
        with redis.Redis.from_url(url, decode_responses=True, protocol=2) as client:
            left = list(client.scan_iter(f"{prefix}*"))
    assert left
    assert all(key.startswith(f"{prefix}az:") for key in left)


async def test_a_drop_that_was_cut_off_is_finished_before_the_index_is_made_anew(store: RedisStore) -> None:
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, [make("a", terms=["old"])])
    await store._call("EVAL", redis_store._DROP, 1, store._key(INDEX))
    with pytest.raises(NotFound):
        await store.upsert(INDEX, [make("b")])
    await store.ensure_index(INDEX, dim=5)
    assert await store.count(INDEX) == 0
    assert await store.get(INDEX, ["a"]) == []
    assert (await store.term_stats(INDEX, ["old"])).document_frequency == {"old": 0}


# --- servers that are not as they should be


async def test_a_server_that_keeps_nothing_is_refused_unless_that_is_allowed() -> None:
    with running_redis("--save", "") as server:
        with pytest.raises(StoreError, match="append-only") as raised:
            await RedisStore(server.url).open()
        assert "appendonly" in str(raised.value.hint)
        async with opened(RedisStore(server.url, allow_volatile=True)) as store:
            await store.ping()


async def test_a_server_with_snapshots_only_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with running_redis("--save", "60", "1") as server, caplog.at_level(logging.WARNING):
        async with opened(RedisStore(server.url)) as store:
            await store.ping()
    assert "crash loses the records" in caplog.text


async def test_a_server_that_evicts_records_is_refused() -> None:
    options = ("--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with running_redis(*options) as server:
        with pytest.raises(StoreError, match="allkeys-lru") as raised:
            await RedisStore(server.url).open()
        assert "noeviction" in str(raised.value.hint)


async def test_a_server_out_of_memory_says_so_and_may_be_tried_again() -> None:
    with running_redis("--appendonly", "yes", "--maxmemory", "30mb") as server:
        async with opened(RedisStore(server.url)) as store:
            await store.ensure_index(INDEX, dim=4)
            with pytest.raises(StoreUnavailable, match="no memory left"):
                for i in range(40):
                    await store.upsert(INDEX, [make(f"{i}", text="x" * 1_000_000)])
            assert 0 < await store.count(INDEX) < 40


async def test_a_server_without_its_search_module_is_refused() -> None:
    with running_redis(search=False) as server:
        with pytest.raises(StoreError, match="no search module") as raised:
            await RedisStore(server.url).open()
        assert "Redis 8" in str(raised.value.hint)


async def test_a_wrong_password_is_an_error_that_does_not_show_it() -> None:
    with running_redis("--appendonly", "yes", "--requirepass", "right") as server:
        async with opened(RedisStore(server.url.replace("//", "//:right@"))) as store:
            await store.ping()
        with pytest.raises(StoreError, match="password") as raised:
            await RedisStore(server.url.replace("//", "//:s3cret@")).open()
        assert not raised.value.retryable
        assert "s3cret" not in str(raised.value)


async def test_another_database_than_0_is_refused_with_the_cure(server_url: Callable[[str], str]) -> None:
    async with opened(RedisStore(f"{server_url(KIND)}/1")) as store:
        with pytest.raises(StoreError, match="database 0"):
            await store.ensure_index(INDEX, dim=4)


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(StoreError, match="not open"):
        await RedisStore("redis://127.0.0.1:1").ping()


async def test_more_tasks_than_connections_wait_for_one_but_not_forever() -> None:
    with running_redis() as server:
        store = RedisStore(server.url, pool_size=1, timeout_s=1)
        await store.open()
        await asyncio.gather(*(store.ping() for _ in range(50)))
        server.freeze()
        failures = await asyncio.gather(*(store.ping() for _ in range(3)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [StoreUnavailable] * 3
        await store.close()
