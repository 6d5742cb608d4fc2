"""What does a store say while its server is killed or frozen, and is all well when the server is back?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from milvus_server import running_milvus
from running import StoreProcess, running
from store_contract import AXES, DIM, INDEX, ids, make
from subjects import KINDS, MILVUS_23, build, opened

from core.errors import StoreUnavailable
from stores.base import VectorStore

pytestmark = [
    pytest.mark.timeout(900),  # the first run fetches the servers
    # A client that is closed while it connects leaves its socket to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
BACK_S = 60


@pytest.fixture(params=[*KINDS, MILVUS_23])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str) -> Iterator[StoreProcess]:
    """One of its own: the others' is not killed."""
    with running_milvus("real") if kind == MILVUS_23 else running(kind) as server:
        yield server


async def test_a_killed_server_is_reported_and_used_again_when_it_is_back(
    kind: str, server: StoreProcess
) -> None:
    async with opened(build(kind.split(maxsplit=1)[0], server.url, timeout_s=30)) as store:
        await store.ensure_index(INDEX, dim=DIM)
        await store.upsert(INDEX, [make(f"{i}") for i in range(50)])
        written: list[str] = []
        writes = asyncio.create_task(_write_until_it_fails(store, written))
        await _until(lambda: len(written) > 40)
        server.kill()
        with pytest.raises(StoreUnavailable) as raised:
            await writes
        assert raised.value.hint
        server.start()
        await _until_it_answers(store)
        assert ids(await store.get(INDEX, written)) == written
        kept = await store.count(INDEX)
        assert kept == len(await store.search_dense(INDEX, AXES[0], k=9999))
        if store.capabilities.full_text:
            assert kept == len(await store.search_text(INDEX, ["common"], k=9999))
        assert await store.delete_document(INDEX, "half") == kept - 50
        assert await store.count(INDEX) == 50


async def test_a_server_that_stops_answering_is_given_up_in_time_and_used_again(
    kind: str, server: StoreProcess
) -> None:
    name = kind.split(maxsplit=1)[0]
    async with opened(build(name, server.url)) as patient:
        await patient.ensure_index(INDEX, dim=DIM)  # an old Milvus needs more than two seconds for that
    async with opened(build(name, server.url, timeout_s=2)) as store:
        server.freeze()
        try:
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(store.count(INDEX), 60)
        finally:
            server.thaw()
        await _until_it_answers(store)


async def _write_until_it_fails(store: VectorStore, written: list[str]) -> None:
    while True:
        batch = [make(f"half{len(written) + i}", document="half") for i in range(20)]
        await store.upsert(INDEX, batch)
        written += [embedded.record.id for embedded in batch]


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what changes is a list
        await asyncio.sleep(0.01)


async def _until_it_answers(store: VectorStore) -> None:
    """A server that has begun to listen may take a while to recover; until then errors say so."""
    for _ in range(BACK_S):
        try:
            await store.ensure_index(INDEX, dim=DIM)
            await store.count(INDEX)
            return
        except StoreUnavailable:
            await asyncio.sleep(1)
    await store.ping()
