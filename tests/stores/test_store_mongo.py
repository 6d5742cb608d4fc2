"""Does MongoDB do everything that a store must, and what only it must promise?

The server is a lookalike (`tests/servers/mongo_server.py`), or the one that `RAG_TEST_MONGO_URL` names.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pytest
from mongo_search_proxy import SearchNode, searching
from pymongo.asynchronous.database import AsyncDatabase
from store_contract import AXES, DIM, INDEX, ids, make, oracle_of, zipf_queries, zipf_records
from store_spec import StoreSpec, Subject
from subjects import GIVEN, build, opened, subject

from benchmarks.store_agreement import same_ranking
from core.errors import InvalidValue, NotFound, StoreError, StoreUnavailable
from stores import mongo
from stores.base import VectorStore
from stores.filters import And, Contains, Eq, Exists, Filter, Gte, In, Lt, Not, Or
from stores.mongo import MongoStore

KIND = "mongo"

pytestmark = [
    pytest.mark.timeout(600),  # the first run fetches the server
    # A client that is closed while it connects leaves its socket to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


class TestMongoStore(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, server_url: Callable[[str], str]) -> Subject:
        return subject(KIND, server_url(KIND), slow=KIND not in GIVEN)


class TestMongoStoreWithVectorSearch(StoreSpec):
    """Not with a real one: with a proxy that holds our requests to the documentation."""

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, search_node: tuple[str, SearchNode]) -> Subject:
        return subject(KIND, search_node[0], slow=KIND not in GIVEN)


@pytest.fixture
def url(server_url: Callable[[str], str]) -> str:
    """A database for the test alone: the lookalike takes half a minute to drop 1,000 records."""
    return urlunsplit(urlsplit(server_url(KIND))._replace(path=f"/test{uuid.uuid4().hex[:12]}"))


@pytest.fixture
async def store(url: str) -> AsyncIterator[VectorStore]:
    async with opened(build(KIND, url)) as store:
        yield store


@pytest.fixture(scope="module")
def search_node(server_url: Callable[[str], str]) -> Iterator[tuple[str, SearchNode]]:
    """The URL of the same server with a vector search, in a database of its own."""
    with searching(server_url(KIND)) as (url, node):
        yield urlunsplit(urlsplit(url)._replace(path="/searching")), node


@pytest.fixture
def searching_url(search_node: tuple[str, SearchNode]) -> str:
    return urlunsplit(urlsplit(search_node[0])._replace(path=f"/test{uuid.uuid4().hex[:12]}"))


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
    async with opened(build(KIND, url)) as writer:
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
    async with opened(build(KIND, searching_url)) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make("a", metadata={"n": 1})])
        before = search_node[1].searches
        await store.search_dense(INDEX, AXES[0], k=3, where=where)
        assert (search_node[1].searches > before) == native


async def test_an_index_without_vector_search_stays_usable_when_the_server_gets_it(
    url: str, search_node: tuple[str, SearchNode]
) -> None:
    async with opened(build(KIND, url)) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make("a")])
    later = urlunsplit(urlsplit(search_node[0])._replace(path=urlsplit(url).path))
    async with opened(build(KIND, later)) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make("b")])
        assert ids(await store.search_dense(INDEX, AXES[0], k=3)) == ["a", "b"]


async def test_a_write_larger_than_an_answer_of_the_vector_search_is_waited_for(
    searching_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "MOST_NEIGHBOURS", 10)
    monkeypatch.setattr(mongo, "BUILD_S", 20)
    async with opened(build(KIND, searching_url)) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make(f"{i:02}") for i in range(25)])
        assert len(await store.search_dense(INDEX, AXES[0], k=10)) == 10


async def test_a_vector_index_that_never_shows_a_write_is_an_error_that_may_be_tried_again(
    searching_url: str, search_node: tuple[str, SearchNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(build(KIND, searching_url)) as store:
        await store.ensure_index(INDEX, dim=DIM)
        monkeypatch.setattr(mongo, "BUILD_S", 0.3)
        monkeypatch.setattr(search_node[1], "_records", lambda _: [])
        with pytest.raises(StoreUnavailable, match="does not show the records"):
            await store.upsert(INDEX, [make("a")])


# --- indexes that come and go


async def test_an_index_dropped_during_a_write_does_not_come_back(
    store: MongoStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.ensure_index(INDEX, dim=DIM)
    write = store._write

    async def write_late(*arguments: Any) -> None:
        async with opened(build(KIND, url)) as other:
            await other.drop_index(INDEX)
        await write(*arguments)

    monkeypatch.setattr(store, "_write", write_late)
    with pytest.raises(NotFound):
        await store.upsert(INDEX, [make("a")])
    left = await store._database.list_collection_names()
    assert not [name for name in left if name.startswith(str(INDEX))]


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
    url: str, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    alone = urlunsplit(urlsplit(url)._replace(path="/cut_off"))
    async with opened(MongoStore(alone)) as store:
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
    with pymongo.MongoClient[dict[str, object]](alone) as client:
        database = client.get_default_database()
        assert database.list_collection_names() == [mongo.REGISTRY]
        assert database[mongo.REGISTRY].count_documents({}) == 0


async def _cut_off(*_: object) -> None:
    raise pymongo.errors.AutoReconnect("cut off")
