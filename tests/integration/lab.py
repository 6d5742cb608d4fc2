"""A knowledge base and everything that works on it, with real parts. Tests lay down faults between the steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import jobs, kbs
from core.db.models import Job, KnowledgeBase
from core.db.session import Database
from core.types import EmbeddedRecord, IndexKind, IndexName, ParsedDocument, derived_id
from ingest.fetch import Allowed, Fetcher
from ingest.files import FileStore, Incoming
from ingest.fsck import Fsck
from ingest.intake import Accepted, Intake
from ingest.parsers import Limits, parse
from ingest.pipeline import IngestPipeline
from ingest.runner import JobRunner
from ingest.summarise import always_extractive
from ingest.sync import Syncer
from models.embedders.base import Embedder, Embedders
from rag_service.wiring import make_chunker
from stores.filters import In
from stores.live import LiveStores
from stores.memory import MemoryStore
from stores.pgvector import PgVectorStore

OLD = "Parental leave is 16 weeks.\n"
NEW = "Parental leave is 20 weeks.\n"
MAX_ATTEMPTS = 3

Step = Callable[[], Awaitable[None]]


async def nothing() -> None:
    return


class TroubledStore(PgVectorStore):
    """The real store, with a step of the test's own before some of its calls."""

    before_summaries: Step = staticmethod(nothing)
    before_delete: Step = staticmethod(nothing)

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        if index.kind == IndexKind.SUMMARIES:
            await self.before_summaries()
        await super().upsert(index, records)

    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        await self.before_delete()
        return await super().delete_document(index, document_id, keep_revision=keep_revision)


class TroubledCopy(MemoryStore):
    """Where moves go, with a step of the test's own before it is written to."""

    before_upsert: Step = staticmethod(nothing)

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        await self.before_upsert()
        await super().upsert(index, records)


@dataclass
class Lab:
    """One knowledge base and everything that works on it."""

    url: str
    database: Database
    files: FileStore
    folder: Path
    store: TroubledStore
    embedder: Embedder
    intake: Intake
    kb_id: str
    parsed: list[str] = field(default_factory=list)  # names, in the order in which parsing began
    before_parsing: Step = nothing
    other: TroubledCopy = field(default_factory=TroubledCopy)
    older: Sequence[Embedder] = ()

    def runner(self, owner: str = "worker", *, per_kb: int = 0) -> JobRunner:
        pipeline = IngestPipeline(
            parse=self._parse,
            make_chunker=make_chunker,
            summariser_of=always_extractive,
            embedders=Embedders(self.embedder, self.older),
            stores=LiveStores.of(self.store, self.other),
        )
        return JobRunner(
            database=self.database,
            files=self.files,
            pipeline=pipeline,
            stores=LiveStores.of(self.store, self.other),
            syncer=Syncer(
                database=self.database,
                intake=self.intake,
                fetcher=Fetcher(self.files, Allowed(), max_bytes=10_000, timeout_s=5),
                max_pages=10,
            ),
            owner=owner,
            lease=timedelta(seconds=30),
            max_attempts=MAX_ATTEMPTS,
            per_kb=per_kb,
        )

    async def _parse(self, path: Path, name: str) -> ParsedDocument:
        self.parsed.append(name)
        await self.before_parsing()
        return await asyncio.to_thread(parse, path, name, Limits())

    async def receive(self, content: str) -> Incoming:
        async def chunks() -> AsyncIterator[bytes]:
            yield content.encode()

        return await self.files.receive(chunks(), max_bytes=10_000)

    async def upload(self, content: str, name: str = "leave.md", kb_id: str | None = None) -> Accepted:
        return await self.intake.accept(kb_id or self.kb_id, name, await self.receive(content), None)

    async def run_all(self, runner: JobRunner | None = None) -> None:
        """Do all open jobs of the knowledge base; what has to wait does not wait here."""
        runner = runner or self.runner()
        while True:
            await self.sql(
                "UPDATE jobs SET run_after = now() WHERE kb_id = :kb AND status = 'queued'", kb=self.kb_id
            )
            open_jobs = await self.sql(
                "SELECT id FROM jobs WHERE kb_id = :kb AND status IN ('queued', 'running') ORDER BY created_at",
                kb=self.kb_id,
            )
            if not open_jobs:
                return
            for (job_id,) in open_jobs:
                await runner.run(job_id)

    async def sql(self, query: str, **parameters: object) -> list[Any]:
        async with self.database.transaction() as session:
            result = await session.execute(text(query), parameters)
            return list(result) if result.returns_rows else []  # type: ignore[attr-defined]

    async def job(self, job: Job | None) -> Job:
        assert job is not None
        async with self.database.transaction() as session:
            return await jobs.get(session, job.id)

    async def kb(self, session: AsyncSession) -> KnowledgeBase:
        kb = await kbs.by_id(session, self.kb_id)
        assert kb is not None
        return kb

    async def documents(self) -> list[Any]:
        return await self.sql("SELECT * FROM documents WHERE kb_id = :kb ORDER BY name", kb=self.kb_id)

    async def texts(self) -> list[str]:
        """The texts of the chunks that readers can find."""
        live = [d.live_revision for d in await self.documents() if d.live_revision]
        index = IndexName(self.kb_id, 1, IndexKind.CHUNKS)
        ids = [
            derived_id(d.id, r, "chunk", n) for d in await self.documents() for r in live for n in range(3)
        ]
        return [record.text for record in await self.store.get(index, ids)]

    async def count(self, document_id: str | None = None) -> int:
        """Records in both indexes, of one document or all."""
        where = In("document_id", (document_id,)) if document_id else None
        return sum(
            [await self.store.count(IndexName(self.kb_id, 1, kind), where=where) for kind in IndexKind]
        )

    def stored(self) -> list[str]:
        return sorted(p.read_text() for p in self.folder.rglob("*") if p.is_file())

    def fsck(self, *, mend: bool = False, foreign: bool = False) -> Fsck:
        stores = LiveStores.of(self.store, self.other)
        return Fsck(self.database, self.files, stores, self.intake, mend, foreign)

    async def expire_lease(self) -> None:
        await self.sql("UPDATE jobs SET lease_until = now() - interval '1 second' WHERE status = 'running'")


async def new_kb(lab: Lab) -> str:
    kb_id = derived_id(str(datetime.now(UTC)))[:12]
    kb = KnowledgeBase(
        id=kb_id,
        name=kb_id,
        store="pgvector",
        embedder=lab.embedder.name,
        dim=await lab.embedder.dimension(),
        settings={},
    )
    async with lab.database.transaction() as session:
        await kbs.create(session, kb)
    return kb_id


async def move(lab: Lab, to: str) -> Job:
    async with lab.database.transaction() as session:
        kb = await kbs.by_name(session, lab.kb_id, lock=True)
        return await lab.intake.move_kb(session, kb, to)


async def place(lab: Lab) -> tuple[str, list[str]]:
    """Where the knowledge base lies, and where it left copies."""
    [row] = await lab.sql("SELECT store, copies FROM knowledge_bases WHERE id = :kb", kb=lab.kb_id)
    return row.store, row.copies


def once(step: Step) -> Step:
    """`step` the first time, nothing afterwards."""
    todo = [step]

    async def run() -> None:
        if todo:
            await todo.pop()()

    return run


def failing(error: BaseException) -> Step:
    async def fail() -> None:
        raise error

    return fail
