"""Does Elasticsearch do everything that a store must, and what only it must promise?

The server is a real node of one process (`tests/servers/elasticsearch_server.py`), or the one that
`RAG_TEST_ELASTICSEARCH_URL` names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from store_contract import AXES, INDEX, ids, make, zipf_records
from store_spec import StoreSpec, Subject
from subjects import subject

from core.errors import StoreError, StoreUnavailable
from core.types import Metadata
from stores.base import VectorStore
from stores.elasticsearch import ElasticsearchStore
from stores.filters import Contains, Eq, Gt, Lt, Ne

KIND = "elasticsearch"

pytestmark = pytest.mark.timeout(600)  # the first run fetches the server


class TestElasticsearchStore(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, server_url: Callable[[str], str]) -> Subject:
        return subject(KIND, server_url(KIND))


# --- what only this store has to promise


async def test_vectors_of_one_byte_for_each_number_cost_no_precision(
    store: ElasticsearchStore, server_url: Callable[[str], str]
) -> None:
    records = zipf_records(400, seed=31, dim=32)
    query = records[7].vector
    await store.ensure_index(INDEX, dim=32)
    await store.upsert(INDEX, records)
    found = await store.search_dense(INDEX, query, k=20)
    async with httpx.AsyncClient() as client:
        options = (await client.get(f"{server_url(KIND)}/{store._name(INDEX)}/_mapping")).text
    kept = {record.id: vector for record, vector in await store.scan(INDEX, limit=400)}
    assert '"int8_hnsw"' in options
    best = sorted(((1 + float(each.vector @ query)) / 2 for each in records), reverse=True)[:20]
    assert [hit.score for hit in found] == pytest.approx(best, abs=1e-6)
    assert all((kept[each.record.id] == each.vector).all() for each in records)


async def test_long_texts_and_names_in_metadata_are_filtered_by(store: VectorStore) -> None:
    long = "字" * 20_000
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


async def test_numbers_are_in_order_whatever_their_sign_and_size(store: VectorStore) -> None:
    numbers = [-(10**400), -1e300, -2.5, -1, -1e-300, 0, 1e-300, 1, 2.5, 1e300, 10**400]
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
