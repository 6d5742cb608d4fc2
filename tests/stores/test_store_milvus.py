"""Does Milvus keep the contract of stores, and what only it must promise?

With Milvus Lite (everything) and with the real Milvus 2.3.5 (all but text search), as
`tests/servers/milvus_server.py` starts them. `RAG_TEST_MILVUS_URL` names a server to test instead of Lite.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from milvus_server import Kind, running_milvus
from pymilvus import MilvusClient
from store_agreement import NewStore, StoreAgreement
from store_contract import AXES, INDEX, StoreContract, assert_same_ranking, ids, make, oracle_of

from core.errors import InvalidValue, StoreError, StoreUnavailable, UnsupportedByStore
from core.types import Metadata
from stores import milvus
from stores.base import VectorStore
from stores.filters import Contains, Eq, Gt, Lt, Ne, Not
from stores.milvus import MilvusStore

# Taken out of the environment, where the service would refuse it as an unknown setting.
_URL = os.environ.pop("RAG_TEST_MILVUS_URL", None)

pytestmark = pytest.mark.timeout(900)  # the first run installs the servers
needs_unshare = pytest.mark.skipif(shutil.which("unshare") is None, reason="Milvus 2.3 needs its own network")


@pytest.fixture(scope="module")
def lite_url() -> Iterator[str]:
    if _URL:
        yield _URL
        return
    with running_milvus("lite") as server:
        yield server.url


@pytest.fixture(scope="module")
def real_url() -> Iterator[str]:
    with running_milvus("real") as server:
        yield server.url


@asynccontextmanager
async def opened(url: str, prefix: str, timeout_s: float = 60) -> AsyncIterator[MilvusStore]:
    store = MilvusStore(url, prefix=prefix, timeout_s=timeout_s)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def new_prefix() -> str:
    return f"test_{uuid.uuid4().hex[:8]}_"


def drop_everything(url: str, prefix: str) -> None:
    client = MilvusClient(url, timeout=60, dedicated=True)
    for name in client.list_collections():
        if name.startswith(prefix):
            client.drop_collection(name)
    client.close()


@asynccontextmanager
async def empty(url: str) -> AsyncIterator[MilvusStore]:
    prefix = new_prefix()
    async with opened(url, prefix) as store:
        yield store
    drop_everything(url, prefix)


class TestMilvusLite(StoreContract):
    @pytest.fixture
    async def store(self, lite_url: str) -> AsyncIterator[VectorStore]:
        async with empty(lite_url) as store:
            yield store

    @pytest.fixture
    def unreachable_store(self) -> VectorStore:
        return MilvusStore("http://127.0.0.1:1", timeout_s=2)


@needs_unshare
class TestMilvus23(StoreContract):
    @pytest.fixture
    async def store(self, real_url: str) -> AsyncIterator[VectorStore]:
        async with empty(real_url) as store:
            yield store

    @pytest.fixture
    def unreachable_store(self) -> VectorStore:
        return MilvusStore("http://127.0.0.1:1", timeout_s=2)


@pytest.fixture(scope="module")
def lite_prefix(lite_url: str) -> Iterator[str]:
    prefix = new_prefix()
    yield prefix
    drop_everything(lite_url, prefix)


@pytest.fixture(scope="module")
def real_prefix(real_url: str) -> Iterator[str]:
    prefix = new_prefix()
    yield prefix
    drop_everything(real_url, prefix)


class TestMilvusLiteAgreement(StoreAgreement):
    @pytest.fixture
    def new_store(self, lite_url: str, lite_prefix: str) -> NewStore:
        return lambda: opened(lite_url, lite_prefix)


@needs_unshare
class TestMilvus23Agreement(StoreAgreement):
    @pytest.fixture
    def new_store(self, real_url: str, real_prefix: str) -> NewStore:
        return lambda: opened(real_url, real_prefix)


# --- what only this store has to promise


@needs_unshare
async def test_a_server_without_sparse_vectors_declares_no_text_search(real_url: str, lite_url: str) -> None:
    async with empty(real_url) as old, empty(lite_url) as present:
        assert not old.capabilities.full_text
        assert present.capabilities.full_text
        await old.ensure_index(INDEX, dim=4)
        with pytest.raises(UnsupportedByStore, match="sparse"):
            await old.search_text(INDEX, ["a"], k=1)


async def test_text_rankings_agree_after_lengths_have_changed(lite_url: str) -> None:
    """Candidates are chosen by the average length at the time of writing."""
    short = [make(f"s{i:03}", document="short", terms=["a", f"s{i}"] * (1 + i % 3)) for i in range(100)]
    long = [make(f"l{i:03}", document="long", terms=["a", "b", *["x"] * (i % 90)]) for i in range(200)]
    oracle = await oracle_of([*short, *long])
    async with empty(lite_url) as store:
        await store.ensure_index(INDEX, dim=4)
        await store.upsert(INDEX, short)
        await store.upsert(INDEX, long)
        for terms in (["a"], ["a", "b"], ["b", "s7"], ["x", "a"]):
            ours = await store.search_text(INDEX, terms, k=10)
            assert_same_ranking(ours, await oracle.search_text(INDEX, terms, k=10))


async def test_what_milvus_cannot_keep_is_refused_in_words_and_nothing_is_written(lite_url: str) -> None:
    metadata: Metadata = {"f": ["x" * 70_000]}
    wrong = [
        make("b" * 501),
        make("b", text="字" * 30_000),
        make("b", metadata=metadata),
        make("b", metadata={"f": [f"{i}" for i in range(5000)]}),
        make("b", metadata={f"f{i}": "x" * 400 for i in range(100)}),
        make("b", terms=[f"t{i}" for i in range(5000)]),
    ]
    async with empty(lite_url) as store:
        await store.ensure_index(INDEX, dim=4)
        for record in wrong:
            with pytest.raises(InvalidValue, match="most"):
                await store.upsert(INDEX, [make("a"), record])
        assert await store.count(INDEX) == 0


async def test_long_texts_and_names_in_metadata_are_filtered_by(lite_url: str) -> None:
    long = "字" * 5000
    async with empty(lite_url) as store:
        await store.ensure_index(INDEX, dim=4)
        metadatas: list[Metadata] = [{"f": long}, {"f": long + "!"}, {long: "x"}, {"f": [long]}]
        await store.upsert(INDEX, [make(f"{i}", metadata=m) for i, m in enumerate(metadatas)])
        filters = [
            (Eq("f", long), ["0"]),
            (Ne("f", long), ["1", "2", "3"]),
            (Eq(long, "x"), ["2"]),
            (Contains("f", long), ["3"]),
            (Gt("f", "字"), ["0", "1"]),
            (Not(Gt("f", "字")), ["2", "3"]),
            (Lt("f", "字"), []),
        ]
        for where, expected in filters:
            assert ids(await store.search_dense(INDEX, AXES[0], k=9, where=where)) == expected


async def test_a_scan_of_more_ids_than_one_answer_has_is_in_order_and_complete(
    lite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "SCAN_IDS", 20)
    written = [make(f"{i * 7919 % 1009:04}") for i in range(300)]
    async with empty(lite_url) as store:
        await store.ensure_index(INDEX, dim=4)
        await store.upsert(INDEX, written)
        seen: list[str] = []
        while piece := await store.scan(INDEX, after=seen[-1] if seen else "", limit=9):
            seen += [record.id for record, _ in piece]
    assert seen == sorted(embedded.record.id for embedded in written)


async def test_a_file_of_milvus_lite_is_refused() -> None:
    store = MilvusStore("./milvus.db")
    with pytest.raises(StoreError, match="not the address"):
        await store.open()
    await store.close()


@pytest.mark.parametrize("kind", ["lite", pytest.param("real", marks=needs_unshare)])
async def test_a_killed_server_is_reported_and_used_again_when_it_is_back(kind: Kind) -> None:
    with running_milvus(kind) as server:
        async with opened(server.url, "test_", timeout_s=30) as store:
            await store.ensure_index(INDEX, dim=4)
            await store.upsert(INDEX, [make(f"{i}") for i in range(50)])
            writes = asyncio.create_task(_write_until_it_fails(store))
            await asyncio.sleep(1)
            server.kill()
            with pytest.raises(StoreUnavailable) as raised:
                await writes
            assert raised.value.hint
            server.start()
            await _until_it_answers(store)
            kept = await store.count(INDEX)
            assert kept >= 50
            assert await store.delete_document(INDEX, "half") == kept - 50
            assert await store.count(INDEX) == 50
            assert len(await store.search_dense(INDEX, AXES[0], k=99)) == 50


async def _write_until_it_fails(store: VectorStore) -> None:
    number = 0
    while True:
        await store.upsert(INDEX, [make(f"half{number + i}", document="half") for i in range(20)])
        number += 20


async def _until_it_answers(store: VectorStore) -> None:
    """A server that has begun to listen may take a while to recover; until then errors say so."""
    for _ in range(60):
        try:
            await store.ensure_index(INDEX, dim=4)
            await store.count(INDEX)
            return
        except StoreUnavailable:
            await asyncio.sleep(1)
    await store.ping()
