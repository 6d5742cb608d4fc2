"""A move between two stores is killed three times, and its target's server once: what do users see?

The moments are drawn at random; a failure prints the seed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pytest
from books import BOOKS, SETTINGS, VERSIONS, Reading, entries, is_over, search, upload, whole
from folders import short_folder
from kills import kill_again_and_again
from running import StoreProcess, running
from store_servers import KINDS, names_in, open_store
from up_service import UpService, eventually

from core.types import EmbeddedRecord, IndexKind, IndexName, Record
from ingest.move import compare_index
from stores.base import VectorStore

ROUND = ("pgvector", "redis", "elasticsearch", "pgvector", "mongo", "milvus", "pgvector")
PAIRS = [pair for pair in itertools.pairwise(ROUND) if set(pair) <= set(KINDS)]
LONGEST_S = 0.3  # between the beginning of an attempt and its kill
KB = "travels"
MORE_RECORDS = 1500  # of a document that is no longer there: to make the move long without embedding anything
WRITTEN_AT_ONCE = 50  # of more, aiohttp warns that they hold up the event loop
DIM = 384  # of the bundled embedder

pytestmark = pytest.mark.timeout(1200)  # the first run fetches the servers


@dataclass(frozen=True, slots=True)
class Pair:
    """The service, two stores by name and address, and the target's server unless that is the service's database."""

    service: UpService
    source: str
    target: str
    urls: Mapping[str, str]
    target_server: StoreProcess | None


@pytest.fixture(params=PAIRS, ids=" to ".join)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    source, target = request.param
    with ExitStack() as stack:
        servers = {
            kind: stack.enter_context(running(kind)) for kind in (source, target) if kind != "pgvector"
        }
        urls = {kind: server.url for kind, server in servers.items()}
        where = {f"RAG_STORES__{kind.upper()}__URL": url for kind, url in urls.items()}
        service = UpService(stack.enter_context(short_folder()), **SETTINGS, **where)
        stack.callback(service.stop)
        service.start()
        urls["pgvector"] = service.database_url
        yield Pair(service, source, target, urls, servers.get(target))


def test_a_killed_move_goes_on_and_ends_equal_while_questions_are_answered(pair: Pair) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it when the test fails)
    with pair.service.client() as client:
        kb_id = client.post("/kbs", json={"name": KB, "store": pair.source}).json()["id"]
        reading_it = upload(client, KB, BOOKS[0], VERSIONS[0])
        eventually(lambda: is_over(client, reading_it))
        asyncio.run(add_records(pair, kb_id))
        with Reading(lambda book: search(client, KB, book), BOOKS[:1]) as reading:
            move = client.post(f"/kbs/{KB}/move", json={"store": pair.target}).json()["id"]
            kill_again_and_again(
                pair.service, pair.target_server, client, move, random.Random(seed), longest_s=LONGEST_S
            )
            eventually(lambda: is_over(client, move))
        assert client.get(f"/jobs/{move}").json()["error"] is None
        kb = client.get(f"/kbs/{KB}").json()
        assert (kb["store"], kb["copies"]) == (pair.target, [pair.source])
        assert reading.wrong == []
        assert (reading.statuses, reading.versions) == ({200}, {VERSIONS[0]})
        asyncio.run(compare(pair, kb_id))
        dropped = client.delete(f"/kbs/{KB}/copies/{pair.source}").json()["id"]
        eventually(lambda: is_over(client, dropped))
        assert [name for name in names_in(pair.source, pair.urls[pair.source]) if kb_id in name] == []
        assert entries(search(client, KB, BOOKS[0])) == whole(VERSIONS[0])


async def add_records(pair: Pair, kb_id: str) -> None:
    async with open_store(pair.source, pair.urls[pair.source]) as store:
        records = list(more_records())
        for start in range(0, MORE_RECORDS, WRITTEN_AT_ONCE):
            batch = records[start : start + WRITTEN_AT_ONCE]
            await store.upsert(IndexName(kb_id, 1, IndexKind.CHUNKS), batch)


def more_records() -> Iterator[EmbeddedRecord]:
    vectors = np.random.default_rng(5).normal(size=(MORE_RECORDS, DIM)).astype(np.float32)
    for number, vector in enumerate(vectors):
        text = f"第 {number} 条 clause {number}"
        record = Record(
            id=f"{number * 7919 % MORE_RECORDS:04}",
            document_id="gone",
            revision="gone",
            text=text,
            header="",
            section="",
            start=0,
            end=len(text),
            position=number,
        )
        yield EmbeddedRecord(record, vector / np.linalg.norm(vector), ("clause", str(number)))


async def compare(pair: Pair, kb_id: str) -> None:
    async with (
        open_store(pair.source, pair.urls[pair.source]) as old,
        open_store(pair.target, pair.urls[pair.target]) as new,
    ):
        for kind in IndexKind:
            index = IndexName(kb_id, 1, kind)
            await compare_index(old, new, index)
            await counts_agree(old, new, index)


async def counts_agree(old: VectorStore, new: VectorStore, index: IndexName) -> None:
    assert await old.count(index) == await new.count(index) > 0
    if index.kind == IndexKind.CHUNKS:
        assert await new.count(index) > MORE_RECORDS
