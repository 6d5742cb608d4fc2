"""Does MongoDB keep the contract of stores, and what only it must promise?

The server is a lookalike (`tests/servers/mongo_server.py`), or the one that `RAG_TEST_MONGO_URL` names, in
databases that are dropped afterwards; one that must be killed is always started here.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pytest
import store_agreement
from mongo_search_proxy import SearchNode, searching
from mongo_server import running_mongo
from pymongo.asynchronous.database import AsyncDatabase
from store_agreement import NewStore, StoreAgreement
from store_contract import (
    AXES,
    DIM,
    INDEX,
    StoreContract,
    ids,
    make,
    oracle_of,
    same_ranking,
    zipf_queries,
    zipf_records,
)

from core.errors import DimensionMismatch, InvalidValue, NotFound, StoreError, StoreUnavailable
from core.types import EmbeddedRecord
from stores import mongo
from stores.base import VectorStore
from stores.filters import And, Contains, Eq, Exists, Filter, Gte, In, Lt, Not, Or
from stores.mongo import MongoStore

# Taken out of the environment, where the service would refuse it as an unknown setting.
_URL = os.environ.pop("RAG_TEST_MONGO_URL", None)

pytestmark = [
    pytest.mark.timeout(600),  # the first run fetches the server
    # A client that is closed while it connects leaves its socket to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    if _URL:
        yield _URL
        return
    with running_mongo() as server:
        yield server.url


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MongoStore]:
    store = MongoStore(url, pool_size=3, timeout_s=60)
    await store.open()
    yield store
    await store.close()


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """The URL of a database of its own, which is dropped afterwards.

    On our own server it is left for the end: the lookalike needs half a minute to drop 1,000 records.
    """
    name = f"rag_test_{uuid.uuid4().hex[:8]}"
    yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    if not _URL:
        return
    with pymongo.MongoClient[dict[str, object]](server_url) as client:
        client.drop_database(name)


@pytest.fixture
def url(server_url: str) -> Iterator[str]:
    with new_database(server_url) as url:
        yield url


@pytest.fixture
async def store(url: str) -> AsyncIterator[MongoStore]:
    async with opened(url) as store:
        yield store


@cache
def fewer_records() -> list[EmbeddedRecord]:
    return zipf_records(1000, seed=21, dim=store_agreement.DIM, words=store_agreement.WORDS)


@pytest.fixture(autouse=True)
def _fewer_records_for_the_lookalike(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads 5,000 records a second, and every search here reads many."""
    if not _URL:
        monkeypatch.setattr(store_agreement, "records", fewer_records)


class TestMongoStore(StoreContract):
    @pytest.fixture
    async def store(self, url: str) -> AsyncIterator[VectorStore]:
        async with opened(url) as store:
            yield store

    @pytest.fixture
    def unreachable_store(self) -> VectorStore:
        return MongoStore("mongodb://127.0.0.1:1", timeout_s=2)


@pytest.fixture(scope="module")
def search_node(server_url: str) -> Iterator[tuple[str, SearchNode]]:
    with searching(server_url) as found:
        yield found


@pytest.fixture
def searching_url(search_node: tuple[str, SearchNode]) -> Iterator[str]:
    with new_database(search_node[0]) as url:
        yield url


class TestMongoStoreWithVectorSearch(StoreContract):
    """Not with a real one: with a proxy that holds our requests to the documentation."""

    @pytest.fixture
    async def store(self, searching_url: str) -> AsyncIterator[VectorStore]:
        async with opened(searching_url) as store:
            yield store

    @pytest.fixture
    def unreachable_store(self) -> VectorStore:
        return MongoStore("mongodb://127.0.0.1:1", timeout_s=2)


class TestMongoAgreement(StoreAgreement):
    @pytest.fixture(scope="class")
    @classmethod
    def new_store(cls, server_url: str) -> Iterator[NewStore]:
        with new_database(server_url) as url:
            yield lambda: opened(url)


# --- what the agreement is too small for


async def test_text_rankings_agree_when_only_the_rarest_terms_choose_candidates(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In proportion as in an index of 20,000 records: candidates are a fifth of it.
    monkeypatch.setattr(mongo, "CANDIDATE_ROWS", 400)
    records = zipf_records(2000, seed=11, words=2000)
    await store.ensure_index(INDEX, dim=DIM)
    await store.upsert(INDEX, records)
    oracle = await oracle_of(records)
    agreed, queries = 0, zipf_queries(60, seed=12, words=2000)
    for query in queries:
        ours = await store.search_text(INDEX, query, k=10)
        agreed += same_ranking(ours, await oracle.search_text(INDEX, query, k=10))
    assert agreed >= 0.95 * len(queries)


async def test_a_term_written_by_another_process_is_found_though_its_count_is_old(
    store: VectorStore, url: str
) -> None:
    await store.ensure_index(INDEX, dim=DIM)
    await store.upsert(INDEX, [make("a", terms=["old"])])
    assert await store.search_text(INDEX, ["new"], k=9) == []
    async with opened(url) as writer:
        await writer.upsert(INDEX, [make("b", terms=["new"])])
    assert ids(await store.search_text(INDEX, ["new", "old"], k=9)) == ["b", "a"]


async def test_numbers_are_in_order_whatever_their_sign_and_size(store: VectorStore) -> None:
    numbers = [-(10**400), -1e300, -2.5, -1, -1e-300, 0, 1e-300, 1, 2.5, 1e300, 10**400]
    await store.ensure_index(INDEX, dim=DIM)
    await store.upsert(INDEX, [make(f"{i:02}", metadata={"n": n}) for i, n in enumerate(numbers)])
    for i, number in enumerate(numbers):
        below = await store.search_dense(INDEX, AXES[0], k=99, where=Lt("n", number))
        assert ids(below) == [f"{j:02}" for j in range(i)]
    assert await store.count(INDEX, where=Eq("n", -0.0)) == 1


# --- the server's vector search


@pytest.mark.parametrize(
    ("where", "native"),
    [
        (None, True),
        (Eq("n", 1), True),
        (Not(And((In("s", ("a", "b")), Or((Exists("n"), Contains("l", "x")))))), True),
        (Lt("n", 2), False),
        (And((Eq("n", 1), Not(Gte("s", "a")))), False),
        (In("n", ()), False),
        (Or(()), False),
    ],
)
async def test_the_server_searches_unless_the_filter_has_a_range_or_is_empty(
    searching_url: str, search_node: tuple[str, SearchNode], where: Filter | None, native: bool
) -> None:
    async with opened(searching_url) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make("a", metadata={"n": 1})])
        before = search_node[1].searches
        await store.search_dense(INDEX, AXES[0], k=3, where=where)
        assert (search_node[1].searches > before) == native


async def test_an_index_without_vector_search_stays_usable_when_the_server_gets_it(
    url: str, search_node: tuple[str, SearchNode]
) -> None:
    async with opened(url) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make("a")])
    later = urlunsplit(urlsplit(search_node[0])._replace(path=urlsplit(url).path))
    async with opened(later) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make("b")])
        assert ids(await store.search_dense(INDEX, AXES[0], k=3)) == ["a", "b"]


async def test_a_write_larger_than_an_answer_of_the_vector_search_is_waited_for(
    searching_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "MOST_NEIGHBOURS", 10)
    monkeypatch.setattr(mongo, "BUILD_S", 20)
    async with opened(searching_url) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make(f"{i:02}") for i in range(25)])
        assert len(await store.search_dense(INDEX, AXES[0], k=10)) == 10


async def test_a_vector_index_that_never_shows_a_write_is_an_error_that_may_be_tried_again(
    searching_url: str, search_node: tuple[str, SearchNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(searching_url) as store:
        await store.ensure_index(INDEX, dim=DIM)
        monkeypatch.setattr(mongo, "BUILD_S", 0.3)
        monkeypatch.setattr(search_node[1], "_records", lambda _: [])
        with pytest.raises(StoreUnavailable, match="does not show the records"):
            await store.upsert(INDEX, [make("a")])


# --- indexes that come and go


async def test_an_index_dropped_by_another_process_is_not_written_into(store: VectorStore, url: str) -> None:
    await store.ensure_index(INDEX, dim=DIM)
    await store.upsert(INDEX, [make("a")])
    async with opened(url) as other:
        await other.drop_index(INDEX)
        with pytest.raises(NotFound):
            await store.upsert(INDEX, [make("b")])
        await other.ensure_index(INDEX, dim=DIM + 1)
        with pytest.raises(DimensionMismatch):
            await store.upsert(INDEX, [make("b")])
        assert await other.count(INDEX) == 0


async def test_an_index_dropped_during_a_write_does_not_come_back(
    store: MongoStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.ensure_index(INDEX, dim=DIM)
    write = store._write

    async def write_late(*arguments: Any) -> None:
        async with opened(url) as other:
            await other.drop_index(INDEX)
        await write(*arguments)

    monkeypatch.setattr(store, "_write", write_late)
    with pytest.raises(NotFound):
        await store.upsert(INDEX, [make("a")])
    assert await store._database.list_collection_names() == [mongo.REGISTRY]


# --- servers that are not as they should be


async def test_passwords_do_not_appear_in_errors() -> None:
    store = MongoStore("mongodb://rag:s3cret@127.0.0.1:1/db?authSource=admin", timeout_s=1)
    with pytest.raises(StoreUnavailable) as raised:
        await store.open()
    assert "s3cret" not in str(raised.value)
    assert "127.0.0.1:1" in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "mongodb://", "mongodb://a:b:c@127.0.0.1"])
async def test_a_url_that_cannot_be_used_is_an_error_that_names_the_setting(url: str) -> None:
    store = MongoStore(url)
    with pytest.raises(StoreError, match="RAG_STORES__MONGO__URL") as raised:
        await store.open()
    assert not raised.value.retryable


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(StoreError, match="not open"):
        await MongoStore("mongodb://127.0.0.1:1").ping()


async def test_a_record_too_large_for_the_server_is_refused(store: VectorStore) -> None:
    await store.ensure_index(INDEX, dim=DIM)
    with pytest.raises(InvalidValue, match="16 MB"):
        await store.upsert(INDEX, [make("a", text="x" * 17_000_000)])


@pytest.mark.parametrize("again", ["drop_index", "ensure_index"])
async def test_a_removal_that_was_cut_off_is_finished_by_the_next_call(
    store: MongoStore, url: str, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    await store.ensure_index(INDEX, dim=DIM)
    await store.upsert(INDEX, [make("a")])
    with monkeypatch.context() as patch:
        patch.setattr(AsyncDatabase, "drop_collection", _cut_off)
        with pytest.raises(StoreUnavailable):
            await store.drop_index(INDEX)
    with pytest.raises(NotFound):
        await store.count(INDEX)
    if again == "ensure_index":
        await store.ensure_index(INDEX, dim=DIM)
        assert await store.count(INDEX) == 0
    await store.drop_index(INDEX)
    with pymongo.MongoClient[dict[str, object]](url) as client:
        database = client.get_default_database()
        assert database.list_collection_names() == [mongo.REGISTRY]
        assert database[mongo.REGISTRY].count_documents({}) == 0


async def _cut_off(*_: object) -> None:
    raise pymongo.errors.AutoReconnect("cut off")


async def test_a_killed_server_is_reported_and_used_again_when_it_is_back() -> None:
    with running_mongo() as server:
        store = MongoStore(server.url, timeout_s=5)
        await store.open()
        await store.ensure_index(INDEX, dim=DIM)
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
        await store.close()


async def _write_until_it_fails(store: VectorStore, written: list[str]) -> None:
    while True:
        batch = [make(f"half{len(written) + i}", document="half") for i in range(20)]
        await store.upsert(INDEX, batch)
        written += [embedded.record.id for embedded in batch]


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what changes is a list
        await asyncio.sleep(0.01)
