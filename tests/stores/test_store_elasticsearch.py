"""Does Elasticsearch keep the contract of stores, and what only it must promise?

The server is a real node of one process (`tests/servers/elasticsearch_server.py`), or the one that
`RAG_TEST_ELASTICSEARCH_URL` names, without its restarts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from elasticsearch_server import running_node
from store_agreement import NewStore, StoreAgreement
from store_contract import AXES, INDEX, StoreContract, ids, make, zipf_records

from core.errors import DimensionMismatch, NotFound, StoreError, StoreUnavailable
from core.types import Metadata
from stores.base import VectorStore
from stores.elasticsearch import ElasticsearchStore
from stores.filters import Contains, Eq, Gt, Lt, Ne

# Taken out of the environment, where the service would refuse it as an unknown setting.
_URL = os.environ.pop("RAG_TEST_ELASTICSEARCH_URL", None)

pytestmark = [
    pytest.mark.skipif(not _URL and shutil.which("mvn") is None, reason="Maven fetches the server"),
    pytest.mark.timeout(600),  # the first run fetches it
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if _URL:
        yield _URL
        return
    with running_node() as node:
        yield node.url


@asynccontextmanager
async def opened(url: str, prefix: str) -> AsyncIterator[ElasticsearchStore]:
    store = ElasticsearchStore(url, prefix=prefix, timeout_s=60)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def drop_everything(url: str, prefix: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        for name in client.get("/_cat/indices", params={"format": "json"}).json():
            if name["index"].startswith(prefix):
                client.delete(f"/{name['index']}").raise_for_status()


@pytest.fixture
def prefix(url: str) -> Iterator[str]:
    prefix = f"test-{uuid.uuid4().hex[:8]}-"
    yield prefix
    drop_everything(url, prefix)


class TestElasticsearchStore(StoreContract):
    @pytest.fixture
    async def store(self, url: str, prefix: str) -> AsyncIterator[VectorStore]:
        async with opened(url, prefix) as store:
            yield store

    @pytest.fixture
    def unreachable_store(self) -> VectorStore:
        return ElasticsearchStore("http://127.0.0.1:1", timeout_s=2)


@pytest.fixture(scope="module")
def new_store(url: str) -> Iterator[NewStore]:
    prefix = f"test-{uuid.uuid4().hex[:8]}-"
    yield lambda: opened(url, prefix)
    drop_everything(url, prefix)


class TestElasticsearchAgreement(StoreAgreement):
    """With the fixture `new_store`."""


# --- what only this store has to promise


async def test_a_write_to_an_index_dropped_elsewhere_does_not_bring_it_back(url: str, prefix: str) -> None:
    async with opened(url, prefix) as store, opened(url, prefix) as other:
        await store.ensure_index(INDEX, dim=4)
        await store.upsert(INDEX, [make("a")])
        await other.drop_index(INDEX)
        with pytest.raises(NotFound):
            await store.upsert(INDEX, [make("b")])
        await other.ensure_index(INDEX, dim=5)
        with pytest.raises(DimensionMismatch):
            await store.upsert(INDEX, [make("b")])
        assert await other.count(INDEX) == 0


async def test_vectors_of_one_byte_for_each_number_cost_no_precision(url: str, prefix: str) -> None:
    records = zipf_records(400, seed=31, dim=32)
    query = records[7].vector
    async with opened(url, prefix) as store:
        await store.ensure_index(INDEX, dim=32)
        await store.upsert(INDEX, records)
        found = await store.search_dense(INDEX, query, k=20)
        async with httpx.AsyncClient() as client:
            options = (await client.get(f"{url}/{prefix}*/_mapping")).text
        kept = {record.id: vector for record, vector in await store.scan(INDEX, limit=400)}
    assert '"int8_hnsw"' in options
    best = sorted(((1 + float(each.vector @ query)) / 2 for each in records), reverse=True)[:20]
    assert [hit.score for hit in found] == pytest.approx(best, abs=1e-6)
    assert all((kept[each.record.id] == each.vector).all() for each in records)


async def test_long_texts_and_names_in_metadata_are_filtered_by(url: str, prefix: str) -> None:
    long = "字" * 20_000
    async with opened(url, prefix) as store:
        await store.ensure_index(INDEX, dim=4)
        metadatas: list[Metadata] = [{"f": long}, {"f": long + "!"}, {long: "x"}, {"f": [long]}]
        await store.upsert(INDEX, [make(f"{i}", metadata=m) for i, m in enumerate(metadatas)])
        filters = [
            Eq("f", long),
            Ne("f", long),
            Eq(long, "x"),
            Contains("f", long),
            Gt("f", "字"),
            Lt("f", "字"),
        ]
        found = [ids(await store.search_dense(INDEX, AXES[0], k=9, where=where)) for where in filters]
    assert found == [["0"], ["1", "2", "3"], ["2"], ["3"], ["0", "1"], []]


async def test_numbers_are_in_order_whatever_their_sign_and_size(url: str, prefix: str) -> None:
    numbers = [-(10**400), -1e300, -2.5, -1, -1e-300, 0, 1e-300, 1, 2.5, 1e300, 10**400]
    async with opened(url, prefix) as store:
        await store.ensure_index(INDEX, dim=4)
        await store.upsert(INDEX, [make(f"{i:02}", metadata={"n": n}) for i, n in enumerate(numbers)])
        for i, number in enumerate(numbers):
            below = await store.search_dense(INDEX, AXES[0], k=99, where=Lt("n", number))
            assert ids(below) == [f"{j:02}" for j in range(i)]
        assert await store.count(INDEX, where=Eq("n", -0.0)) == 1


async def test_a_server_that_is_not_elasticsearch_is_named(other_server: str) -> None:
    store = ElasticsearchStore(other_server)
    with pytest.raises(StoreError, match="is not Elasticsearch"):
        await store.open()


@pytest.fixture
def other_server() -> Iterator[str]:
    """The URL of a web server that answers everything with an empty page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_passwords_do_not_appear_in_errors() -> None:
    store = ElasticsearchStore("http://elastic:s3cret@127.0.0.1:1", timeout_s=2)
    with pytest.raises(StoreUnavailable) as raised:
        await store.open()
    assert "s3cret" not in str(raised.value)
    assert "127.0.0.1:1" in str(raised.value)


@pytest.mark.skipif(_URL is not None, reason="a server that is not ours is not killed")
async def test_a_killed_server_is_reported_and_used_again_when_it_is_back() -> None:
    with running_node() as node:
        async with opened(node.url, "test-") as store:
            await store.ensure_index(INDEX, dim=4)
            await store.upsert(INDEX, [make(f"{i}") for i in range(50)])
            writes = asyncio.create_task(_write_until_it_fails(store))
            await asyncio.sleep(1)
            node.kill()
            with pytest.raises(StoreUnavailable) as raised:
                await writes
            assert raised.value.hint
            with pytest.raises(StoreUnavailable):
                await store.search_dense(INDEX, AXES[0], k=1)
            node.start()
            await store.ensure_index(INDEX, dim=4)  # waits until the index is recovered
            kept = await store.count(INDEX)
            assert kept >= 50
            assert await store.delete_document(INDEX, "half") == kept - 50
            assert await store.count(INDEX) == 50


async def _write_until_it_fails(store: VectorStore) -> None:
    number = 0
    while True:
        await store.upsert(INDEX, [make(f"half{number + i}", document="half") for i in range(20)])
        number += 20
