"""`kill -9` at any moment: what was acknowledged is searchable exactly once, and nothing else is left.

The moments are drawn at random; a failure prints the seed that drew them.
"""

from __future__ import annotations

import hashlib
import random
import time
from pathlib import Path

import httpx
import pytest
from up_service import UpService, eventually

DOCUMENTS = 30
UPDATED = 6  # of them get a second version
WORKER_KILLS = 3
LEASE_S = "2"
CHUNK_CHARACTERS = "100"  # small chunks: several to each document, quickly embedded

OPEN_JOBS = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')"
UNFINISHED = "SELECT document_name, status, error FROM jobs WHERE status NOT IN ('done', 'cancelled')"
LIVE = "SELECT id, name, sha256, live_sha256, live_revision, chunks, status FROM documents"


def sentences(number: int, version: int) -> list[str]:
    owners = [hashlib.sha256(f"{number} {version} {shelf}".encode()).hexdigest()[:12] for shelf in range(5)]
    return [
        f"Shelf {shelf} of locker {number} belongs to {owner}, who keeps tools and papers in it."
        for shelf, owner in enumerate(owners)
    ]


def content(number: int, version: int) -> bytes:
    return f"# Locker {number}\n\n{' '.join(sentences(number, version))}\n".encode()


class Uploads:
    """Sends documents and remembers what was acknowledged: the newest version of each."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, bytes] = {}

    def send(self, client: httpx.Client, number: int, version: int = 1) -> None:
        name, data = f"locker-{number}.md", content(number, version)
        response = client.post("/kbs/default/documents", files={"file": (name, data)})
        assert response.status_code == 202, response.text
        self.acknowledged[name] = data


@pytest.mark.timeout(600)
def test_every_acknowledged_upload_survives_kills_of_worker_and_service(data_dir: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it when the test fails)
    moments = random.Random(seed)
    uploads = Uploads()
    service = UpService(data_dir, RAG_WORKER__LEASE_S=LEASE_S, RAG_INGEST__CHUNK_CHARACTERS=CHUNK_CHARACTERS)
    service.start()
    try:
        with service.client() as client:
            for number in range(DOCUMENTS):
                uploads.send(client, number)
            for _ in range(WORKER_KILLS):
                done = finished(service)
                eventually(lambda done=done: finished(service) > done)  # type: ignore[misc]
                time.sleep(moments.uniform(0, 1))
                service.part("worker").kill()
            for number in range(UPDATED):
                uploads.send(client, number, version=2)
            eventually(lambda: finished(service) > done)
            time.sleep(moments.uniform(0, 1))
        service.kill()
        service.start()
        eventually(lambda: service.rows(OPEN_JOBS) == [(0,)])
        assert service.rows(UNFINISHED) == []
        everything_is_there_once(service, uploads)
        nothing_else_is_there(service, uploads)
    finally:
        service.stop()


def everything_is_there_once(service: UpService, uploads: Uploads) -> None:
    documents = {row[1]: row for row in service.rows(LIVE)}
    assert documents.keys() == uploads.acknowledged.keys()
    with service.client() as client:
        for name, data in uploads.acknowledged.items():
            document_id, _, sha256, live_sha256, _, chunks, status = documents[name]
            assert (status, sha256, live_sha256) == ("ready", hashlib.sha256(data).hexdigest(), sha256)
            assert chunks > 1
            sentence = data.decode().splitlines()[2].split(". ")[0]
            found = client.post("/kbs/default/search", json={"query": sentence, "top_k": 50}).json()[
                "passages"
            ]
            assert found[0]["document_id"] == document_id
            assert [sentence in p["text"] for p in found].count(True) == 1
            text = client.get(f"/kbs/default/documents/{document_id}/text").json()["text"]
            assert sentence in text


def nothing_else_is_there(service: UpService, uploads: Uploads) -> None:
    live = {(row[0], row[4]): row[5] for row in service.rows(LIVE)}
    tables = [
        name
        for (name,) in service.rows(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'vectors' AND table_name LIKE 'kb\\_%'",
        )
    ]
    assert len(tables) == 2
    for table in tables:
        query = f'SELECT document_id, revision, count(*), count(DISTINCT position) FROM vectors."{table}" GROUP BY 1, 2'
        counted = {
            (document, revision): (n, distinct) for document, revision, n, distinct in service.rows(query)
        }
        assert counted.keys() <= live.keys()
        assert all(n == distinct for n, distinct in counted.values())
        if "chunks" in table:
            assert {key: n for key, (n, _) in counted.items()} == live
    texts = service.rows("SELECT document_id, revision FROM document_texts")
    assert sorted(texts) == sorted(live)
    files = {path.name for path in (service.data_dir / "files").rglob("*") if path.is_file()}
    assert files == {hashlib.sha256(data).hexdigest() for data in uploads.acknowledged.values()}


def finished(service: UpService) -> int:
    [(count,)] = service.rows("SELECT count(*) FROM jobs WHERE status = 'done'")
    return int(count)
