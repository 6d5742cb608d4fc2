"""Does Redis keep the contract of stores, and what only it must promise?

The server is a real one (`tests/servers/redis_server.py`), or the one that `RAG_TEST_REDIS_URL` names; those
that must be killed or set up otherwise are always started here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import redis
from redis_server import running_redis
from store_agreement import NewStore, StoreAgreement
from store_contract import AXES, DIM, INDEX, NASTY, StoreContract, ids, make, unit

from core.errors import DimensionMismatch, NotFound, StoreError, StoreUnavailable
from core.types import Metadata
from stores import redis as redis_store
from stores.base import VectorStore
from stores.filters import And, Eq, Gt, Gte, Lt, Lte, Not, Or
from stores.redis import RedisStore

# Taken out of the environment, where the service would refuse it as an unknown setting.
_URL = os.environ.pop("RAG_TEST_REDIS_URL", None)

pytestmark = pytest.mark.timeout(600)  # the first run fetches the server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if _URL:
        yield _URL
        return
    with running_redis() as server:
        yield server.url


@asynccontextmanager
async def opened(url: str, prefix: str = "test", **options: bool) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, prefix=prefix, pool_size=3, timeout_s=60, **options)
    await store.open()
    yield store
    await store.close()


def drop_everything(url: str, prefix: str) -> list[str]:
    """The names of all keys with the prefix, which are then gone."""
    with redis.Redis.from_url(url, decode_responses=True, protocol=2) as client:
        for name in client.execute_command("FT._LIST"):
            if name.startswith(prefix):
                client.execute_command("FT.DROPINDEX", name)
        keys = list(client.scan_iter(f"{prefix}*"))
        for start in range(0, len(keys), 1000):
            client.unlink(*keys[start : start + 1000])
    return keys


@pytest.fixture
def prefix(url: str) -> Iterator[str]:
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    yield prefix
    drop_everything(url, prefix)


@pytest.fixture
async def store(url: str, prefix: str) -> AsyncIterator[VectorStore]:
    async with opened(url, prefix) as store:
        yield store


class TestRedisStore(StoreContract):
    @pytest.fixture
    async def store(self, url: str, prefix: str) -> AsyncIterator[VectorStore]:
        async with opened(url, prefix) as store:
            yield store

    @pytest.fixture
    def unreachable_store(self) -> VectorStore:
        return RedisStore("redis://127.0.0.1:1", timeout_s=2)


class TestRedisAgreement(StoreAgreement):
    @pytest.fixture(scope="class")
    @classmethod
    def new_store(cls, url: str) -> Iterator[NewStore]:
        prefix = f"test-{uuid.uuid4().hex[:8]}"
        yield lambda: opened(url, prefix)
        drop_everything(url, prefix)


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


async def test_a_dropped_index_leaves_no_keys(url: str, prefix: str) -> None:
    odd = f"{prefix}[a-z]*?\\"  # a pattern, if it were one
    async with opened(url, odd) as store, opened(url, f"{prefix}az") as other:
        for each in (store, other):
            await each.ensure_index(INDEX, dim=4)
            await each.upsert(INDEX, [make("a", metadata={NASTY: 1, "s": NASTY}), make("b", document=NASTY)])
        await store.drop_index(INDEX)
        assert await other.count(INDEX) == 2
    left = drop_everything(url, prefix)
    assert left
    assert all(key.startswith(f"{prefix}az:") for key in left)


async def test_a_drop_that_was_cut_off_is_finished_before_the_index_is_made_anew(
    url: str, prefix: str
) -> None:
    async with opened(url, prefix) as store:
        await store.ensure_index(INDEX, dim=4)
        await store.upsert(INDEX, [make("a", terms=["old"])])
        await store._call("EVAL", redis_store._DROP, 1, store._key(INDEX))
        with pytest.raises(NotFound):
            await store.upsert(INDEX, [make("b")])
        await store.ensure_index(INDEX, dim=5)
        assert await store.count(INDEX) == 0
        assert await store.get(INDEX, ["a"]) == []
        assert (await store.term_stats(INDEX, ["old"])).document_frequency == {"old": 0}


async def test_an_index_dropped_by_another_process_is_not_written_into(url: str, prefix: str) -> None:
    async with opened(url, prefix) as store, opened(url, prefix) as other:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make("a")])
        await other.drop_index(INDEX)
        with pytest.raises(NotFound):
            await store.upsert(INDEX, [make("b")])
        await other.ensure_index(INDEX, dim=5)
        with pytest.raises(DimensionMismatch):
            await store.upsert(INDEX, [make("b")])
        assert await other.count(INDEX) == 0


# --- servers that are not as they should be


async def test_a_server_that_keeps_nothing_is_refused_unless_that_is_allowed() -> None:
    with running_redis("--save", "") as server:
        with pytest.raises(StoreError, match="append-only") as raised:
            await RedisStore(server.url).open()
        assert "appendonly" in str(raised.value.hint)
        async with opened(server.url, allow_volatile=True) as store:
            await store.ping()


async def test_a_server_with_snapshots_only_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with running_redis("--save", "60", "1") as server, caplog.at_level(logging.WARNING):
        async with opened(server.url) as store:
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
        async with opened(server.url) as store:
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
        async with opened(server.url.replace("//", "//:right@")) as store:
            await store.ping()
        with pytest.raises(StoreError, match="password") as raised:
            await RedisStore(server.url.replace("//", "//:s3cret@")).open()
        assert not raised.value.retryable
        assert "s3cret" not in str(raised.value)


async def test_another_database_than_0_is_refused_with_the_cure(url: str) -> None:
    async with opened(f"{url}/1") as store:
        with pytest.raises(StoreError, match="database 0"):
            await store.ensure_index(INDEX, dim=4)


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(StoreError, match="not open"):
        await RedisStore("redis://127.0.0.1:1").ping()


async def test_a_killed_server_is_reported_and_used_again_when_it_is_back() -> None:
    with running_redis("--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server.url) as store:
            await store.ensure_index(INDEX, dim=4)
            await store.upsert(INDEX, [make(f"{i}") for i in range(50)])
            written: list[str] = []
            writes = asyncio.create_task(_write_until_it_fails(store, written))
            await _until(lambda: len(written) > 40)
            server.kill()
            with pytest.raises(StoreUnavailable) as raised:
                await writes
            assert raised.value.hint
            with pytest.raises(StoreUnavailable):
                await store.search_dense(INDEX, AXES[0], k=1)
            server.start()
            assert ids(await store.get(INDEX, written)) == written
            kept = await store.count(INDEX)
            assert kept == len(await store.search_dense(INDEX, AXES[0], k=9999))
            assert kept == len(await store.search_text(INDEX, ["common"], k=9999))
            assert await store.delete_document(INDEX, "half") == kept - 50
            assert await store.count(INDEX) == 50


async def test_a_server_that_stops_answering_is_given_up_in_time() -> None:
    with running_redis() as server:
        store = RedisStore(server.url, timeout_s=0.3)
        await store.open()
        server.freeze()
        with pytest.raises(StoreUnavailable, match="in time"):
            await store.ping()
        await store.close()


async def test_more_tasks_than_connections_wait_for_one_but_not_forever() -> None:
    with running_redis() as server:
        store = RedisStore(server.url, pool_size=1, timeout_s=1)
        await store.open()
        await asyncio.gather(*(store.ping() for _ in range(50)))
        server.freeze()
        failures = await asyncio.gather(*(store.ping() for _ in range(3)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [StoreUnavailable] * 3
        await store.close()


async def _write_until_it_fails(store: VectorStore, written: list[str]) -> None:
    while True:
        batch = [make(f"half{len(written) + i}", document="half") for i in range(20)]
        await store.upsert(INDEX, batch)
        written += [embedded.record.id for embedded in batch]


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what changes is a list
        await asyncio.sleep(0.01)
