"""What happens to an upload before it is acknowledged: one transaction stores file, document and job.

When `accept` returns, nothing can get lost: the file has its place on disk and the rows are committed.
"""

from __future__ import annotations

import asyncio
import unicodedata
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.db import documents, jobs
from core.db.models import Document, DocumentStatus, Job, JobKind, KnowledgeBase
from core.db.session import Database
from core.errors import Conflict, InvalidValue, NotFound, RagError, UnreadableDocument
from core.types import derived_id
from ingest.archive import Archive, ArchiveLimits, Entry
from ingest.files import FileStore, Incoming
from ingest.parsers import sniff

LONGEST_NAME = 500  # characters


@dataclass(frozen=True, slots=True)
class Accepted:
    """`job` is None when the same bytes are there already and no work is needed.

    `same_as` is the name of the document that holds the same bytes, when that is another name than the upload's.
    """

    document_id: str
    job: Job | None
    same_as: str | None = None


def clean_name(name: str | None) -> str:
    """A document's name: a relative path with `/`, in NFC, without `.`, `..`, control characters.

    Raises `InvalidValue` if nothing is left or it is too long.
    """
    normal = unicodedata.normalize("NFC", (name or "").replace("\\", "/"))
    printable = "".join(c for c in normal if unicodedata.category(c)[0] != "C")
    parts = [part.strip() for part in printable.split("/")]
    cleaned = "/".join(part for part in parts if part not in ("", ".", ".."))
    if not cleaned:
        raise InvalidValue("The file has no name.")
    if len(cleaned) > LONGEST_NAME:
        raise InvalidValue(f"The file's name is longer than {LONGEST_NAME} characters.")
    return cleaned


class Intake:
    """Takes uploads and deletions, and leaves the work to the workers."""

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files

    async def accept(
        self, kb_id: str, name: str, incoming: Incoming, attributes: dict[str, Any] | None
    ) -> Accepted:
        """Keep the file and queue its ingestion, unless the same bytes are there already.

        The same bytes under a new name are kept once, under the first name and with its attributes.
        Raises `UnreadableDocument` if the file is empty, mislabelled or of an unknown format, `NotFound`
        if the knowledge base is gone. Whatever happens, `incoming` is used up.
        """
        try:
            await asyncio.to_thread(sniff, incoming.path, name)
            async with self._database.transaction() as session:
                return await self._store(session, kb_id, name, incoming, attributes)
        finally:
            incoming.drop()

    async def accept_archive(
        self,
        kb_id: str,
        name: str,
        incoming: Incoming,
        attributes: dict[str, Any] | None,
        limits: ArchiveLimits,
        max_file_bytes: int,
    ) -> AsyncIterator[tuple[str, Accepted | RagError]]:
        """Accept each file of the ZIP archive `name` as a document `name/path`.

        Yields each document's name and what became of it; a file that is refused does not keep the others out.
        Raises `UnreadableDocument` if the archive as a whole is refused. Whatever happens, `incoming` is used up.
        """
        try:
            with await asyncio.to_thread(Archive, incoming.path, limits) as archive:
                for entry in archive.entries:
                    yield await self._accept_entry(kb_id, name, archive, entry, attributes, max_file_bytes)
        except UnreadableDocument as error:
            raise UnreadableDocument(f"{name}: {error.message}", hint=error.hint) from error
        finally:
            incoming.drop()

    async def _accept_entry(
        self,
        kb_id: str,
        archive_name: str,
        archive: Archive,
        entry: Entry,
        attributes: dict[str, Any] | None,
        max_bytes: int,
    ) -> tuple[str, Accepted | RagError]:
        name = f"{archive_name}/{entry.name}"
        try:
            name = clean_name(name)
            async with aclosing(archive.blocks(entry)) as blocks:
                unpacked = await self._files.receive(blocks, max_bytes=max_bytes)
            return name, await self.accept(kb_id, name, unpacked, attributes)
        except RagError as error:
            if error.status >= 500:
                raise  # the service's trouble, not this file's
            return name, error

    async def _store(
        self,
        session: AsyncSession,
        kb_id: str,
        name: str,
        incoming: Incoming,
        attributes: dict[str, Any] | None,
    ) -> Accepted:
        kb = await session.get(KnowledgeBase, kb_id, with_for_update={"read": True})
        if kb is None or kb.deleted_at is not None:
            raise NotFound("The knowledge base was deleted.")
        document_id = derived_id(kb_id, name)
        await documents.lock_content(session, f"document {document_id}")  # ten equal uploads at once
        await documents.lock_content(session, incoming.sha256)
        document = await documents.find(session, document_id, lock=True)
        if document is not None and document.sha256 == incoming.sha256:
            unchanged = await self._unchanged(session, document, attributes)
            if unchanged is not None:
                return unchanged
        if document is None:
            twin = await documents.with_content(session, kb_id, incoming.sha256)
            if twin is not None:
                return Accepted(twin.id, await jobs.newest_open(session, twin.id), same_as=twin.name)
            document = Document(id=document_id, kb_id=kb_id, name=name, sha256="", size=0, status="")
            session.add(document)
        self._files.keep(incoming)
        document.sha256 = incoming.sha256
        document.size = incoming.size
        document.status = DocumentStatus.QUEUED
        if attributes is not None:
            document.attributes = attributes
        await session.flush()
        await jobs.cancel_waiting(session, kb_id, document_id)
        return Accepted(document_id, await queue_job(session, document, JobKind.INGEST))

    async def _unchanged(
        self, session: AsyncSession, document: Document, attributes: dict[str, Any] | None
    ) -> Accepted | None:
        """The answer if this content is live or on its way; None if it has to be read (again)."""
        job = await jobs.newest_open(session, document.id)
        live = document.live_revision is not None and document.live_sha256 == document.sha256
        if not live and (job is None or job.kind != JobKind.INGEST):
            return None
        if attributes is not None:
            document.attributes = attributes
        return Accepted(document.id, None if live else job)

    async def delete(self, kb_id: str, document_id: str) -> Job:
        """Hide the document at once and queue its removal. Raises `NotFound`."""
        async with self._database.transaction() as session:
            document = await documents.get(session, kb_id, document_id)
            await session.refresh(document, with_for_update=True)
            await jobs.cancel_waiting(session, kb_id, document_id)
            document.status = DocumentStatus.DELETING
            document.live_revision = None
            return await queue_job(session, document, JobKind.DELETE_DOCUMENT)

    async def reread(self, session: AsyncSession, kb: KnowledgeBase) -> int:
        """Queue the reading of every document that is there in full, as its kb now wants it; returns how many."""
        return await queue_all(session, kb.id)

    async def move_kb(self, session: AsyncSession, kb: KnowledgeBase, to: str) -> Job:
        """Queue the move of a knowledge base to another store. Raises `Conflict` if it is there or on its way."""
        if kb.store == to:
            raise Conflict(f"The knowledge base '{kb.name}' is in {to} already.")
        if await jobs.is_open(session, kb.id, JobKind.MOVE_KB):
            raise Conflict(f"The knowledge base '{kb.name}' is being moved already.")
        return await _queue_for_kb(session, kb, JobKind.MOVE_KB, {"to": to})

    async def drop_copy(self, session: AsyncSession, kb: KnowledgeBase, store: str) -> Job:
        """Queue the removal of what a move left in `store`. Raises `NotFound` if it left nothing there."""
        if store not in kb.copies:
            raise NotFound(f"The knowledge base '{kb.name}' has no copy in {store}.")
        return await _queue_for_kb(session, kb, JobKind.DROP_COPY, {"store": store})

    async def restore_kb(
        self, session: AsyncSession, kb: KnowledgeBase, backup: Incoming, detail: dict[str, Any]
    ) -> Job:
        """Keep the backup and queue its restoration into `kb`, a new row that is hidden till then."""
        session.add(kb)
        await documents.lock_content(session, backup.sha256)
        self._files.keep(backup)
        return await _queue_for_kb(session, kb, JobKind.RESTORE_KB, detail, sha256=backup.sha256)

    async def delete_kb(self, session: AsyncSession, kb: KnowledgeBase) -> Job:
        """Queue the removal of everything in the knowledge base; the caller marks it as deleted."""
        await jobs.cancel_waiting(session, kb.id)
        return await _queue_for_kb(session, kb, JobKind.DELETE_KB, None)


async def queue_all(session: AsyncSession, kb_id: str) -> int:
    """Queue the reading of every document of a knowledge base that is ready; returns how many."""
    found = await documents.ready(session, kb_id)
    for document in found:
        document.status = DocumentStatus.QUEUED
    session.add_all([_job(document, JobKind.INGEST) for document in found])
    return len(found)


def _job(document: Document, kind: JobKind) -> Job:
    return Job(
        id=uuid.uuid4().hex,
        kb_id=document.kb_id,
        kind=kind,
        document_id=document.id,
        document_name=document.name,
        sha256=document.sha256 if kind == JobKind.INGEST else None,
    )


async def queue_job(session: AsyncSession, document: Document, kind: JobKind) -> Job:
    """Queue a job of the document, for what it is now."""
    job = _job(document, kind)
    session.add(job)
    await session.flush()
    await session.refresh(job)
    return job


async def _queue_for_kb(
    session: AsyncSession,
    kb: KnowledgeBase,
    kind: JobKind,
    detail: dict[str, Any] | None,
    sha256: str | None = None,
) -> Job:
    job = Job(id=uuid.uuid4().hex, kb_id=kb.id, kind=kind, detail=detail, sha256=sha256)
    session.add(job)
    await session.flush()
    await session.refresh(job)
    return job
