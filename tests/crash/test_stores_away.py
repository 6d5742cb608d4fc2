"""A store's server is killed or frozen under the running service, and comes back: what do users see?

The service runs as users run it, and none of its processes is started again. `make test-stores` tests all
five stores, the crash tests of every run three. The server of pgvector is the service's own database, and everything
waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from books import (
    BOOKS,
    ENTRIES,
    SETTINGS,
    VERSIONS,
    Reading,
    entries,
    is_over,
    search,
    upload,
    whole,
    wrong_refusal,
)
from folders import short_folder
from running import StoreProcess, running
from store_servers import KINDS, names_in, open_store
from up_service import UpService, eventually

from core.errors import NotFound
from core.types import IndexKind, IndexName
from stores.filters import Eq

TIMEOUT_S = "8"  # enough for a busy machine
OPEN_JOBS = "SELECT 1 FROM jobs WHERE status IN ('queued', 'running')"
DONE_JOBS = "SELECT 1 FROM jobs WHERE status = 'done'"
HALF_WRITTEN = "SELECT 1 FROM jobs WHERE status = 'running' AND stage = 'embedding' AND done > 0"

pytestmark = pytest.mark.timeout(900)  # the first run fetches the servers


class Place:
    """The service, connected to one store whose server can be killed."""

    def __init__(self, kind: str, service: UpService, server: StoreProcess, client: httpx.Client) -> None:
        self.kind = kind
        self.service = service
        self.server = server
        self.client = client
        self.is_database = kind == "pgvector"  # the service's own rows are there, too

    def new_kb(self, name: str, *books: str, store: str | None = None) -> str:
        """The id of a new knowledge base in the store (unless another is named) that has read the books."""
        response = self.client.post("/kbs", json={"name": name, "store": store or self.kind})
        assert response.status_code == 201, response.text
        for book in books:
            job_id = upload(self.client, name, book, VERSIONS[0])
            eventually(lambda job_id=job_id: is_over(self.client, job_id))  # type: ignore[misc]
            assert entries(self.search(name, book)) == whole(VERSIONS[0])
        return str(response.json()["id"])

    def search(self, kb: str, book: str) -> httpx.Response:
        return search(self.client, kb, book)

    def is_answered(self, kb: str, book: str) -> bool:
        return self.search(kb, book).status_code == 200

    def says_what_it_waits_for(self, kb: str) -> bool:
        """Whether a waiting job says that the store is away; where the database is, every request does."""
        response = self.client.get(f"/kbs/{kb}/jobs", params={"status": "queued"})
        if self.is_database:
            return wrong_refusal(response) is None
        errors = [job["error"] or {} for job in response.json()["items"]]
        return any(error.get("code") == "store-unavailable" and error.get("hint") for error in errors)

    def checks(self) -> tuple[int, dict[str, str]]:
        """Status and checks of the ready page."""
        response = self.client.get("/ready")
        return response.status_code, response.json()["checks"]

    def is_ready(self) -> bool:
        status, checks = self.checks()
        return status == 200 and checks[f"store {self.kind}"] == "ok"

    def processes(self) -> list[int]:
        return [self.service.part(name).pid for name in ("api", "worker")]

    def counts(self, kb_id: str, document_id: str | None = None) -> list[int | None]:
        """How many records the store has in the indexes for chunks and summaries; None: there is no such index."""
        return asyncio.run(self._counts(kb_id, Eq("document_id", document_id) if document_id else None))

    async def _counts(self, kb_id: str, where: Eq | None) -> list[int | None]:
        found: list[int | None] = []
        async with open_store(self.kind, self.server.url) as store:
            for kind in (IndexKind.CHUNKS, IndexKind.SUMMARIES):
                try:
                    found.append(await store.count(IndexName(kb_id, 1, kind), where=where))
                except NotFound:
                    found.append(None)
        return found


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with ExitStack() as stack:
        kind: str = request.param
        server = stack.enter_context(running(kind))
        folder = stack.enter_context(short_folder())
        group = "DATABASE" if kind == "pgvector" else f"STORES__{kind.upper()}"
        where = {f"RAG_{group}__URL": server.url, f"RAG_{group}__TIMEOUT_S": TIMEOUT_S}
        service = UpService(folder, **SETTINGS, **where)
        stack.callback(service.stop)
        service.start()
        yield Place(kind, service, server, stack.enter_context(service.client()))


def test_a_killed_store_delays_ingestion_and_no_reader_sees_half_a_document(place: Place) -> None:
    kb_id = place.new_kb("books")
    before = place.processes()
    for number, version in enumerate(VERSIONS):
        enough = number + len(place.service.rows(DONE_JOBS))  # so that the second kill hits a later book
        with Reading(lambda book: place.search("books", book)) as reading:
            for book in BOOKS:
                upload(place.client, "books", book, version)
            eventually(lambda enough=enough: is_half_written(place, enough))  # type: ignore[misc]
            place.server.kill()
            eventually(lambda: place.says_what_it_waits_for("books"))
            eventually(lambda reading=reading: 503 in reading.statuses)  # type: ignore[misc]
            place.server.start()
            eventually(lambda: place.is_answered("books", BOOKS[0]))
            eventually(lambda: place.service.rows(OPEN_JOBS) == [])
        assert reading.wrong == []
        for book in BOOKS:
            assert entries(place.search("books", book)) == whole(version)
        assert place.counts(kb_id)[0] == len(BOOKS) * ENTRIES
    assert place.processes() == before


def is_half_written(place: Place, done: int) -> bool:
    """Whether some records of a document are written and others are not, when `done` jobs are done."""
    return len(place.service.rows(DONE_JOBS)) >= done and place.service.rows(HALF_WRITTEN) != []


def test_while_a_store_is_away_questions_to_it_are_refused_in_words_and_others_answered(place: Place) -> None:
    place.new_kb("asked", BOOKS[0])
    place.new_kb("elsewhere", BOOKS[0], store="pgvector")
    place.server.kill()
    assert wrong_refusal(place.search("asked", BOOKS[0])) is None
    status, checks = place.checks()
    assert checks[f"store {place.kind}"] != "ok"
    if place.is_database:
        assert status == 503
    else:
        assert status == 200
        assert entries(place.search("elsewhere", BOOKS[0])) == whole(VERSIONS[0])
    place.server.start()
    eventually(lambda: place.is_answered("asked", BOOKS[0]))
    assert entries(place.search("asked", BOOKS[0])) == whole(VERSIONS[0])
    eventually(place.is_ready)


def test_a_frozen_store_is_refused_in_the_same_words_when_the_time_is_up(place: Place) -> None:
    place.new_kb("frozen", BOOKS[0])
    place.server.freeze()
    try:
        refused = place.search("frozen", BOOKS[0])
        _, checks = place.checks()
    finally:
        place.server.thaw()
    assert wrong_refusal(refused) is None
    assert checks[f"store {place.kind}"] != "ok"
    eventually(lambda: place.is_answered("frozen", BOOKS[0]))
    eventually(place.is_ready)


def test_what_is_deleted_while_its_store_is_away_is_gone_at_once_and_from_the_store_later(
    place: Place,
) -> None:
    kept, dropped = place.new_kb("kept", *BOOKS[:2]), place.new_kb("dropped", BOOKS[0])
    found: list[dict[str, Any]] = place.client.get("/kbs/kept/documents", params={"name": BOOKS[0]}).json()[
        "items"
    ]
    document_id = found[0]["id"]
    deletions = [f"/kbs/kept/documents/{document_id}", "/kbs/dropped"]
    assert place.counts(kept, document_id)[0] == ENTRIES
    place.server.kill()
    if place.is_database:  # then nothing is deleted, and that is said
        for path in deletions:
            assert wrong_refusal(place.client.delete(path)) is None
        place.server.start()
        eventually(place.is_ready)
    for path in deletions:
        assert place.client.delete(path).status_code == 202
        assert place.client.get(path).status_code == 404
    if not place.is_database:
        eventually(lambda: place.says_what_it_waits_for("kept"))
        place.server.start()
    eventually(lambda: place.service.rows(OPEN_JOBS) == [])
    assert place.counts(kept, document_id) == [0, 0]
    assert place.counts(kept)[0] == ENTRIES
    assert place.counts(dropped) == [None, None]
    assert [name for name in names_in(place.kind, place.server.url) if dropped in name] == []
