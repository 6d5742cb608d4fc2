"""Is what should not be in a store found and deleted, and what is missing read again, whichever store it is?"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
from store_contract import make, unit
from subjects import KINDS, build, opened

import migrations
from core.db import jobs
from core.db.models import Document, DocumentText, KnowledgeBase
from core.db.session import Database
from core.types import IndexKind, IndexName
from ingest.files import FileStore
from ingest.fsck import Fsck, Report, Trouble
from ingest.intake import Intake
from stores.base import VectorStore
from stores.filters import Eq
from stores.live import LiveStores

ServerUrl = Callable[[str], str]
SHA256 = "ab" * 32
CHUNKS = 3


@dataclass
class Place:
    """A knowledge base with two documents in a store, as rows and records say; nobody has read them."""

    kb_id: str
    store: VectorStore
    database: Database
    files: FileStore

    def index(self, kind: IndexKind = IndexKind.CHUNKS, *, kb_id: str | None = None) -> IndexName:
        return IndexName(kb_id or self.kb_id, 1, kind)

    async def write(self, document_id: str, revision: str, number: int, kind: IndexKind) -> None:
        records = [
            make(
                f"{document_id} {revision} {n}",
                document=document_id,
                revision=revision,
                vector=unit(1, n, 0, 0),
            )
            for n in range(number)
        ]
        await self.store.ensure_index(self.index(kind), dim=4)
        await self.store.upsert(self.index(kind), records)

    async def check(self, *, mend: bool = False) -> Report:
        stores = LiveStores.of(self.store)
        return await Fsck(self.database, self.files, stores, Intake(self.database, self.files), mend).run()


@pytest.fixture(params=KINDS)
async def place(
    request: pytest.FixtureRequest, server_url: ServerUrl, database_url: str, tmp_path: Path
) -> AsyncIterator[Place]:
    migrations.upgrade(database_url)
    database, files = Database(database_url), FileStore(tmp_path)
    files.open()
    files.path(SHA256).parent.mkdir()
    files.path(SHA256).write_text("original")
    async with opened(build(request.param, server_url(request.param))) as store:
        place = Place(uuid4().hex[:12], store, database, files)
        async with database.transaction() as session:
            session.add(KnowledgeBase(id=place.kb_id, name="kb", store=store.kind, embedder="e", dim=4))
            await session.flush()
            for name in ("a", "b"):
                document = Document(
                    id=name,
                    kb_id=place.kb_id,
                    name=name,
                    status="ready",
                    sha256=SHA256,
                    size=8,
                    live_sha256=SHA256,
                    live_revision="now",
                    chunks=CHUNKS,
                    summaries=1,
                )
                session.add(document)
                await session.flush()
                session.add(DocumentText(document_id=name, revision="now", text="", pages=[], sections=[]))
        for name in ("a", "b"):
            await place.write(name, "now", CHUNKS, IndexKind.CHUNKS)
            await place.write(name, "now", 1, IndexKind.SUMMARIES)
        yield place
        for index in await store.indexes():
            if index.kb_id == place.kb_id:
                await store.drop_index(index)
        await database.close()


async def test_what_is_too_much_goes_and_what_is_missing_is_queued(place: Place) -> None:
    ours = (await place.check()).findings
    assert [f for f in ours if f.trouble is not Trouble.FOREIGN_INDEX] == []  # a given server may hold others
    await place.write("a", "before", 2, IndexKind.CHUNKS)
    await place.write("gone", "now", 2, IndexKind.SUMMARIES)
    await place.store.delete_document(place.index(IndexKind.SUMMARIES), "b")
    orphan = replace(place.index(), generation=2)
    await place.store.ensure_index(orphan, dim=4)
    expected = Counter(
        [Trouble.STALE_RECORDS, Trouble.ORPHAN_RECORDS, Trouble.MISSING_RECORDS, Trouble.ORPHAN_INDEX]
    )
    for mend in (False, True):
        found = (await place.check(mend=mend)).found
        del found[Trouble.FOREIGN_INDEX]
        assert found == expected
    assert orphan not in await place.store.indexes()
    assert await place.store.count(place.index()) == 2 * CHUNKS
    assert await place.store.count(place.index(), where=Eq("revision", "now")) == 2 * CHUNKS
    assert await place.store.count(place.index(IndexKind.SUMMARIES)) == 1
    async with place.database.transaction() as session:
        assert await jobs.is_any_open(session, place.kb_id, "b")
        assert not await jobs.is_any_open(session, place.kb_id, "a")
