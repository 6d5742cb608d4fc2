"""The worker that restores a backup is killed three times, and the target's server once: what is there afterwards?

The moments are drawn at random; a failure prints the seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from books import BOOKS, VERSIONS, entries, is_over, search, upload, whole
from kills import kill_again_and_again
from store_servers import KINDS, names_in, open_store
from target import Target, service_beside
from up_service import UpService, eventually

from core.types import EmbeddedRecord, IndexKind, IndexName, Record

LONGEST_S = 0.4  # between the beginning of an attempt and its kill
MORE_RECORDS = 3000  # of the first book: to make the restoration long without embedding anything
WRITTEN_AT_ONCE = 200
DIM = 384  # of the bundled embedder

pytestmark = pytest.mark.timeout(1200)  # the first run fetches the servers


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with service_beside(request.param) as target:
        yield target


def test_a_killed_restoration_shows_nothing_until_all_of_it_is_there_once(target: Target) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it when the test fails)
    with target.service.client() as client:
        kb_id = client.post("/kbs", json={"name": "original"}).json()["id"]
        reading = [upload(client, "original", book, VERSIONS[0]) for book in BOOKS]
        for job in reading:
            eventually(lambda job=job: is_over(client, job))
        asyncio.run(add_records(target.service, kb_id))
        backup = client.get("/kbs/original/backup").content
        query = {"name": "copy", "store": target.kind}
        job = client.post("/kbs/restore", content=backup, params=query).json()["job"]
        kill_again_and_again(
            target.service,
            target.server,
            client,
            job["id"],
            random.Random(seed),
            longest_s=LONGEST_S,
            before_kill=lambda: assert_hidden(client),
        )
        eventually(lambda: is_over(client, job["id"]))
        assert client.get(f"/jobs/{job['id']}").json()["error"] is None
        copy = client.get("/kbs/copy").json()
        assert (copy["store"], copy["documents"]) == (target.kind, len(BOOKS))
        for book in BOOKS[1:]:
            assert entries(search(client, "copy", book)) == whole(VERSIONS[0])
        assert asyncio.run(counts(target, copy["id"])) == asyncio.run(
            counts_in_pgvector(target.service, kb_id)
        )
        assert files(target.service) == len(BOOKS)  # shared with the original; the backup itself is gone
        deleted = client.delete("/kbs/copy").json()["id"]
        eventually(lambda: is_over(client, deleted))
        assert [name for name in names_in(target.kind, target.url) if copy["id"] in name] == []


def assert_hidden(client: httpx.Client) -> None:
    assert client.get("/kbs/copy").status_code == 404


async def add_records(service: UpService, kb_id: str) -> None:
    query = "SELECT id, live_revision FROM documents WHERE kb_id = %s AND name = %s"
    ((document_id, revision),) = service.rows(query, kb_id, f"{BOOKS[0]}.md")
    vectors = np.random.default_rng(5).normal(size=(MORE_RECORDS, DIM)).astype(np.float32)
    records = [
        EmbeddedRecord(
            Record(f"more {number}", document_id, revision, f"clause {number}", position=1000 + number),
            vector / np.linalg.norm(vector),
            ("clause", str(number)),
        )
        for number, vector in enumerate(vectors)
    ]
    async with open_store("pgvector", service.database_url) as store:
        for start in range(0, MORE_RECORDS, WRITTEN_AT_ONCE):
            batch = records[start : start + WRITTEN_AT_ONCE]
            await store.upsert(IndexName(kb_id, 1, IndexKind.CHUNKS), batch)


async def counts(target: Target, kb_id: str) -> list[int]:
    async with open_store(target.kind, target.url) as store:
        return [await store.count(IndexName(kb_id, 1, kind)) for kind in IndexKind]


async def counts_in_pgvector(service: UpService, kb_id: str) -> list[int]:
    async with open_store("pgvector", service.database_url) as store:
        return [await store.count(IndexName(kb_id, 1, kind)) for kind in IndexKind]


def files(service: UpService) -> int:
    """How many have their place. What a killed worker was writing is in `incoming`."""
    return len(list((service.data_dir / "files").glob("[0-9a-f][0-9a-f]/*")))
