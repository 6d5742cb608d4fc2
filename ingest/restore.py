"""How does a backup become a knowledge base? Under new ids, in any store, all at once or not at all.

The row of the knowledge base is hidden (`deleted_at`) until everything is there. Ids are derived anew from the new
knowledge base's, so a backup can be restored beside its original, and a restored document can be read again. Every
step may be repeated; one that a killed worker had done is not done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from core.db import documents
from core.db.models import Document, DocumentStatus, Job, JobKind, JobStatus, KnowledgeBase
from core.db.session import Database
from core.types import (
    IndexKind,
    IndexName,
    Page,
    ParsedDocument,
    Record,
    Section,
    Span,
    derived_id,
    record_id,
)
from ingest.backup_file import BackupFile, DamagedBackup, Member, SavedDocument, SavedText
from ingest.files import FileStore
from ingest.move import embedded
from stores.base import VectorStore

Report = Callable[[int], Awaitable[None]]  # how many members are restored


class Restoring:
    """One backup on its way into one hidden knowledge base; of a `reread` only documents and originals."""

    def __init__(
        self,
        backup: BackupFile,
        kb: KnowledgeBase,
        *,
        database: Database,
        files: FileStore,
        store: VectorStore,
        reread: bool,
    ) -> None:
        self._backup = backup
        self._kb = kb
        self._database = database
        self._files = files
        self._store = store
        self._reread = reread
        self._documents: dict[str, SavedDocument] = {}  # by the ids that the backup has
        self._originals: set[str] = set()  # that documents have
        self._came: set[str] = set()
        self._records = dict.fromkeys(IndexKind, 0)

    async def run(self, *, done: int, report: Report) -> None:
        """Restore what follows the first `done` members. Raises `DamagedBackup` and what stores raise."""
        if not done:
            await self._begin()
        for number, member in enumerate(self._backup.members(), start=1):
            await self._restore(member, again=number <= done)
            if number > done:
                await report(number)
        await self._check()

    async def _begin(self) -> None:
        for kind in IndexKind:
            await self._store.drop_index(self._index(kind))  # what an attempt that failed left there
            await self._store.ensure_index(self._index(kind), dim=self._kb.dim)

    async def _restore(self, member: Member, *, again: bool) -> None:
        match member.kind:
            case "documents":
                await self._put_documents(member, again=again)
            case "files":
                await self._put_file(member, again=again)
            case "texts" if not (again or self._reread):
                await self._put_text(member)
            case "chunks" | "summaries" if not self._reread:
                await self._put_records(IndexKind(member.kind), member, again=again)

    async def _put_documents(self, member: Member, *, again: bool) -> None:
        saved = await asyncio.to_thread(self._backup.documents, member)
        for each in saved:
            self._documents[each.id] = each
            self._originals.add(each.sha256)
        if again or not saved:
            return
        async with self._database.transaction() as session:
            await documents.insert_new(session, Document, [self._row(each) for each in saved])
            # A document's jobs remember its contents: they tell which files may go when it is deleted.
            await documents.insert_new(session, Job, [self._read_once(each) for each in saved])

    def _row(self, saved: SavedDocument) -> dict[str, Any]:
        kept = saved.model_dump(exclude={"id", "revision"})
        live = {
            "live_sha256": None if self._reread else saved.sha256,
            "live_revision": None if self._reread else saved.revision,
        }
        ids = {"id": self._id(saved), "kb_id": self._kb.id}
        return {**kept, **live, **ids, "status": DocumentStatus.READY}

    def _read_once(self, saved: SavedDocument) -> dict[str, Any]:
        document_id = self._id(saved)
        return {
            "id": derived_id(document_id, "restored"),
            "kb_id": self._kb.id,
            "kind": JobKind.INGEST,
            "document_id": document_id,
            "document_name": saved.name,
            "sha256": saved.sha256,
            "status": JobStatus.DONE,
            "stage": "restored",
            "percent": 100,
            "finished_at": datetime.now(UTC),
        }

    async def _put_file(self, member: Member, *, again: bool) -> None:
        self._came.add(member.sha256)
        if again:
            return
        if member.sha256 not in self._originals:
            raise DamagedBackup(f"The original {member.sha256[:12]}… belongs to no document of the backup.")
        blocks = _in_thread(self._backup.blocks(member))
        incoming = await self._files.receive(blocks, max_bytes=member.size)
        try:
            async with self._database.transaction() as session:
                await documents.lock_content(session, incoming.sha256)
                self._files.keep(incoming)
        finally:
            incoming.drop()

    async def _put_text(self, member: Member) -> None:
        saved = await asyncio.to_thread(self._backup.model, member, SavedText)
        document = self._document(saved.document_id)
        parsed = ParsedDocument(
            text=saved.text,
            title=saved.title,
            pages=tuple(Page(number, Span(start, end)) for number, start, end in saved.pages),
            sections=tuple(Section(tuple(path), Span(start, end)) for path, start, end in saved.sections),
        )
        async with self._database.transaction() as session:
            await documents.put_text(session, self._id(document), document.revision, parsed)

    async def _put_records(self, kind: IndexKind, member: Member, *, again: bool) -> None:
        batch = await asyncio.to_thread(self._backup.records, member)
        self._records[kind] += len(batch)
        if not again:
            records = [embedded(self._renamed(record, kind), vector) for record, vector in batch]
            await self._store.upsert(self._index(kind), records)

    def _renamed(self, record: Record, kind: IndexKind) -> Record:
        document = self._document(record.document_id)
        new = self._id(document)
        return replace(
            record,
            id=record_id(new, document.revision, kind, record.position),
            document_id=new,
            revision=document.revision,
        )

    async def _check(self) -> None:
        if missing := self._originals - self._came:
            raise DamagedBackup(f"The backup lacks {len(missing)} originals of its documents.")
        for kind, expected in self._records.items():
            if (found := await self._store.count(self._index(kind))) != expected:
                raise DamagedBackup(f"{found} of {expected} {kind.value} arrived in {self._store.kind}.")

    def _document(self, saved_id: str) -> SavedDocument:
        if saved_id not in self._documents:
            raise DamagedBackup(f"The backup tells of a document {saved_id[:40]!r} that it does not hold.")
        return self._documents[saved_id]

    def _id(self, saved: SavedDocument) -> str:
        return derived_id(self._kb.id, saved.name)

    def _index(self, kind: IndexKind) -> IndexName:
        return IndexName(self._kb.id, self._kb.generation, kind)


async def _in_thread(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    rest = iter(blocks)
    while (block := await asyncio.to_thread(partial(next, rest, None))) is not None:
        yield block
