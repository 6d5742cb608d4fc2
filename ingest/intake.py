"""What happens to an upload before it is acknowledged: one transaction stores file, document and job.

When `accept` returns, nothing can get lost: the file has its place on disk and the rows are committed.
"""

from __future__ import annotations

import asyncio
import unicodedata
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.db import documents, generations, jobs
from core.db.generations import Generation
from core.db.models import (
    BUILDS,
    CAN_BE_CANCELLED,
    OF_THE_API,
    Document,
    DocumentStatus,
    Job,
    JobKind,
    JobStatus,
    Json,
    KnowledgeBase,
)
from core.db.session import Database
from core.errors import Conflict, InvalidValue, NotFound, RagError, UnreadableDocument
from core.types import derived_id
from ingest.archive import Archive, ArchiveLimits, Entry
from ingest.files import FileStore, Incoming
from ingest.parsers import sniff

LONGEST_NAME = 500  # characters
OF_FOLDER = "folder:"  # how the sources that clients keep begin


@dataclass(frozen=True, slots=True)
class Accepted:
    """`job` is None when the same bytes are there already and no work is needed.

    `same_as` is the name of the document that holds the same bytes, when that is another name than the upload's.
    """

    document_id: str
    job: Job | None
    same_as: str | None = None


class OfAnotherSource(Conflict):
    """The document belongs to another source."""

    code = "of-another-source"


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
        self,
        kb_id: str,
        name: str,
        incoming: Incoming,
        attributes: dict[str, Any] | None,
        uploader: str = "",
        source: str | None = None,
    ) -> Accepted:
        """Keep the file and queue its ingestion, unless the same bytes are there already.

        The same bytes under a new name are kept once, under the first name and with its attributes. From now on the
        document belongs to `source`, if it is given.
        Raises `UnreadableDocument` if the file is empty, mislabelled or of an unknown format, `NotFound`
        if the knowledge base is gone, `OfAnotherSource`. Whatever happens, `incoming` is used up.
        """
        try:
            await asyncio.to_thread(sniff, incoming.path, name)
            async with self._database.transaction() as session:
                return await self._store(session, kb_id, name, incoming, attributes, uploader, source)
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
        uploader: str = "",
        source: str | None = None,
    ) -> AsyncIterator[tuple[str, Accepted | RagError]]:
        """Accept each file of the ZIP archive `name` as a document `name/path`.

        Yields each document's name and what became of it; a file that is refused does not keep the others out.
        Raises `UnreadableDocument` if the archive as a whole is refused. Whatever happens, `incoming` is used up.
        """
        try:
            with await asyncio.to_thread(Archive, incoming.path, limits) as archive:
                for entry in archive.entries:
                    yield await self._accept_entry(
                        kb_id, name, archive, entry, attributes, max_file_bytes, uploader, source
                    )
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
        uploader: str,
        source: str | None,
    ) -> tuple[str, Accepted | RagError]:
        name = f"{archive_name}/{entry.name}"
        try:
            name = clean_name(name)
            async with aclosing(archive.blocks(entry)) as blocks:
                unpacked = await self._files.receive(blocks, max_bytes=max_bytes)
            return name, await self.accept(kb_id, name, unpacked, attributes, uploader, source)
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
        uploader: str,
        source: str | None,
    ) -> Accepted:
        kb = await session.get(KnowledgeBase, kb_id, with_for_update={"read": True})
        if kb is None or kb.deleted_at is not None:
            raise NotFound("The knowledge base was deleted.")
        document_id = derived_id(kb_id, name)
        await documents.lock_content(session, f"document {document_id}")  # ten equal uploads at once
        await documents.lock_content(session, incoming.sha256)
        document = await documents.find(session, document_id, lock=True)
        if document is not None and source is not None:
            _give(document, source)
        if document is not None and document.sha256 == incoming.sha256:
            unchanged = await self._unchanged(session, document, attributes)
            if unchanged is not None:
                await self._mend_original(incoming)
                return unchanged
        if document is None:
            twin = await documents.with_content(session, kb_id, incoming.sha256)
            if twin is not None:
                await self._mend_original(incoming)
                return Accepted(twin.id, await jobs.newest_open(session, twin.id), same_as=twin.name)
            document = Document(
                id=document_id, kb_id=kb_id, name=name, sha256="", size=0, status="", source=source
            )
            session.add(document)
        self._files.keep(incoming)
        document.sha256 = incoming.sha256
        document.size = incoming.size
        document.status = DocumentStatus.QUEUED
        if attributes is not None:
            document.attributes = attributes
        await session.flush()
        await jobs.cancel_waiting(session, kb_id, document_id)
        await jobs.dismiss_failed(session, kb_id, document_id)
        return Accepted(document_id, await queue_job(session, document, JobKind.INGEST, uploader))

    async def _mend_original(self, incoming: Incoming) -> None:
        """Put back the original of a document that is there, if it was lost or has changed."""
        if not await asyncio.to_thread(self._files.is_whole, incoming.sha256):
            self._files.keep(incoming)

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
            await jobs.dismiss_failed(session, kb_id, document_id)
            document.status = DocumentStatus.DELETING
            document.live_revision = None
            await generations.forget_document(session, document_id)
            return await queue_job(session, document, JobKind.DELETE_DOCUMENT)

    async def reread(self, session: AsyncSession, kb: KnowledgeBase) -> int:
        """Queue the reading of every document that is there in full, as its kb now wants it; returns how many."""
        return await queue_all(session, kb.id)

    async def move_kb(self, session: AsyncSession, kb: KnowledgeBase, to: str) -> Job:
        """Queue the move of a knowledge base to another store, or return the job that is on its way there.

        Raises `Conflict` if the knowledge base is there, or on its way to a third.
        """
        if kb.store == to:
            raise Conflict(f"The knowledge base '{kb.name}' is in {to} already.")
        if kb.other_generation is not None:
            raise Conflict(
                f"The knowledge base '{kb.name}' has a second generation, which cannot be moved with it.",
                hint="Wait for `kb rebuild`, then delete what it kept: "
                f"`rag-service kb drop-generation {kb.name}`.",
            )
        under_way = await jobs.open_of_kb(session, kb.id, JobKind.MOVE_KB)
        if under_way is None:
            return await _queue_for_kb(session, kb, JobKind.MOVE_KB, {"to": to})
        going_to = (under_way.detail or {})["to"]
        if going_to != to or under_way.cancelling:
            raise Conflict(
                f"The knowledge base '{kb.name}' is being moved to {going_to} already.",
                hint=f"Call that off first: `rag-service jobs cancel {under_way.id}`."
                if not under_way.cancelling
                else "That is being called off; try again in a moment.",
            )
        return under_way

    async def drop_copy(self, session: AsyncSession, kb: KnowledgeBase, store: str) -> Job:
        """Queue the removal of what a move left in `store`. Raises `NotFound` if it left nothing there."""
        if store not in kb.copies:
            raise NotFound(
                f"The knowledge base '{kb.name}' has no copy in {store}.",
                hint=f"It has copies in {', '.join(kb.copies)}." if kb.copies else None,
            )
        return await _queue_for_kb(session, kb, JobKind.DROP_COPY, {"store": store})

    async def rebuild_kb(
        self, session: AsyncSession, kb: KnowledgeBase, *, embedder: str, dim: int, cutting: Json
    ) -> Job:
        """Queue the building of a generation made so, or return the job that is at it.

        What an earlier build of the same left is gone on with. Raises `Conflict` if something else is in the way.
        """
        wanted, beside = Generation(0, embedder, dim, cutting), generations.other(kb)
        same = beside is not None and not beside.complete and beside.makes_the_same_as(wanted)
        if (job := await self._build_under_way(session, kb, JobKind.REBUILD_KB, same=same)) is not None:
            return job
        if beside is not None and not same:
            kept = "keeps the generation before" if beside.complete else "has another generation half built"
            raise Conflict(
                f"The knowledge base '{kb.name}' {kept} (number {beside.number}, {beside.embedder}).",
                hint=f"Delete it: `rag-service kb drop-generation {kb.name}`.",
            )
        if kb.copies:
            raise Conflict(
                f"The knowledge base '{kb.name}' has a copy in {' and '.join(kb.copies)}, which would be outdated.",
                hint=f"Delete it: `rag-service kb drop-copy {kb.name} --store {kb.copies[0]}`.",
            )
        if beside is None:
            beside = generations.begin(kb, embedder=embedder, dim=dim, cutting=cutting)
        return await _queue_build(session, kb, JobKind.REBUILD_KB, beside)

    async def roll_back_kb(self, session: AsyncSession, kb: KnowledgeBase) -> Job:
        """Queue the way back to the generation that the last switch kept, or return the job that is at it.

        Raises `Conflict` if there is none, or something else is in the way.
        """
        if (job := await self._build_under_way(session, kb, JobKind.ROLLBACK_KB, same=True)) is not None:
            return job
        beside = generations.other(kb)
        if beside is None or not beside.complete:
            raise Conflict(f"The knowledge base '{kb.name}' keeps no generation that it could go back to.")
        return await _queue_build(session, kb, JobKind.ROLLBACK_KB, beside)

    async def drop_generation(self, session: AsyncSession, kb: KnowledgeBase, number: int) -> Job:
        """Queue the removal of the generation that readers do not see. Raises `NotFound`, `Conflict`."""
        beside = generations.other(kb)
        if beside is None or beside.number != number:
            raise NotFound(
                f"The knowledge base '{kb.name}' has no generation {number} that could be deleted."
            )
        job = await self._build_under_way(session, kb, JobKind.DROP_GENERATION, same=True)
        return job or await _queue_build(session, kb, JobKind.DROP_GENERATION, beside)

    async def _build_under_way(
        self, session: AsyncSession, kb: KnowledgeBase, kind: JobKind, *, same: bool
    ) -> Job | None:
        """The open job of this kind, if it does the `same`. Raises `Conflict` about others that are in the way."""
        job = await jobs.open_of_kb(session, kb.id, *BUILDS, JobKind.DROP_GENERATION, JobKind.MOVE_KB)
        if job is None or (same and job.kind == kind and not job.cancelling):
            return job
        raise Conflict(
            f"A job is at work on the knowledge base '{kb.name}' as a whole ({job.kind}).",
            hint="It is being called off; try again in a moment."
            if job.cancelling
            else f"Wait for it, or call it off: `rag-service jobs cancel {job.id}`.",
        )

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
        await jobs.dismiss_failed(session, kb.id)
        return await _queue_for_kb(session, kb, JobKind.DELETE_KB, None)

    # --- jobs that are called off, or failed -------------------------------------------------------------------

    async def cancel(self, job_id: str) -> Job:
        """Have a worker undo what the job did so far and end it. Raises `NotFound`, `Conflict` if that cannot be."""
        async with self._database.transaction() as session:
            job = await jobs.get(session, job_id, lock=True)
            if job.status not in (JobStatus.QUEUED, JobStatus.RUNNING):
                raise Conflict(f"This job is {job.status} already.")
            if job.kind in OF_THE_API:
                raise Conflict("This job ends when whoever reads it hangs up.")
            if job.kind not in CAN_BE_CANCELLED:
                raise Conflict("A deletion cannot be cancelled: nobody sees any more what it removes.")
            await jobs.cancel(session, job)
            return job

    async def retry(self, job_id: str) -> Job:
        """Queue a failed job again. Raises `NotFound`, or `Conflict` if it did not fail or cannot be tried again."""
        async with self._database.transaction() as session:
            job = await jobs.get(session, job_id, lock=True)
            _refuse_unless_failed(job)
            kb = await session.get(KnowledgeBase, job.kb_id, with_for_update={"read": True})
            if kb is None or (kb.deleted_at is not None and job.kind != JobKind.DELETE_KB):
                raise NotFound("The knowledge base of this job was deleted.")
            if job.kind == JobKind.INGEST:
                await self._retry_document(session, job)
            elif job.kind in (JobKind.RESTORE_KB, *OF_THE_API):
                raise Conflict("What this job worked on is gone.", hint="Start a new one.")
            elif job.kind == JobKind.MOVE_KB:
                if await jobs.open_of_kb(session, kb.id, JobKind.MOVE_KB):
                    raise Conflict(f"The knowledge base '{kb.name}' is being moved already.")
                job.detail = {"to": (job.detail or {})["to"]}  # the copy that failed is gone
            elif job.kind in BUILDS:
                await self._retry_build(session, kb, job)
            jobs.queue_again(job)
            await session.flush()
            await session.refresh(job)
            return job

    async def _retry_document(self, session: AsyncSession, job: Job) -> None:
        assert job.document_id is not None
        assert job.sha256 is not None
        name = job.document_name or ""
        await documents.lock_content(session, f"document {job.document_id}")
        await documents.lock_content(session, job.sha256)
        document = await documents.find(session, job.document_id, lock=True)
        if await jobs.is_superseded(session, job):
            raise Conflict(f"{name} was uploaded again, or deleted, since this job.")
        if job.detail is None or not self._files.path(job.sha256).exists():
            raise Conflict(f"The file of {name} is gone.", hint="Upload it again.")
        if document is None:
            document = Document(id=job.document_id, kb_id=job.kb_id, name=name)
            session.add(document)
        document.sha256, document.status = job.sha256, DocumentStatus.QUEUED
        document.size, document.attributes = job.detail["size"], job.detail["attributes"]

    async def _retry_build(self, session: AsyncSession, kb: KnowledgeBase, job: Job) -> None:
        beside, number = generations.other(kb), (job.detail or {})["number"]
        if beside is None or beside.number != number:
            raise Conflict("The generation that this job built is gone, or readers see it already.")
        if await jobs.open_of_kb(session, kb.id, *BUILDS, JobKind.DROP_GENERATION):
            raise Conflict(f"Another job is at the generations of '{kb.name}' already.")
        job.detail = {"number": number}  # documents that failed are tried again

    async def retry_all(self, kb_id: str | None = None) -> list[Job | RagError]:
        """Queue all failed jobs again, of one knowledge base or all; those that cannot be are errors."""
        async with self._database.transaction() as session:
            job_ids = await jobs.failed_ids(session, kb_id)
        results: list[Job | RagError] = []
        for job_id in job_ids:
            try:
                results.append(await self.retry(job_id))
            except (Conflict, NotFound) as error:
                results.append(error)
        return results

    async def dismiss(self, job_id: str) -> Job:
        """Give up a failed job, and with it the file. Raises `NotFound`, `Conflict` if it did not fail."""
        async with self._database.transaction() as session:
            job = await jobs.get(session, job_id, lock=True)
            _refuse_unless_failed(job)
            job.status = JobStatus.DISMISSED
            await session.flush()
            if job.sha256:
                await documents.lock_content(session, job.sha256)
                if not await documents.content_in_use(session, job.sha256):
                    self._files.remove(job.sha256)
            return job

    async def dismiss_all(self, kb_id: str | None = None, *, older_than: timedelta = timedelta(0)) -> int:
        """Give up all failed jobs, of one knowledge base or all, that ended longer ago; returns how many."""
        async with self._database.transaction() as session:
            job_ids = await jobs.failed_ids(session, kb_id, older_than=older_than)
        dismissed = 0
        for job_id in job_ids:
            with suppress(Conflict, NotFound):  # somebody was quicker
                await self.dismiss(job_id)
                dismissed += 1
        return dismissed


def _refuse_unless_failed(job: Job) -> None:
    if job.status != JobStatus.FAILED:
        raise Conflict(f"This job is {job.status}: only failed ones can be tried again or dismissed.")


def _give(document: Document, source: str) -> None:
    if document.source not in (None, source) and document.status != DocumentStatus.DELETING:
        raise OfAnotherSource(
            f"There is a document {document.name} already, which comes from {document.source}.",
            hint="Delete it, or synchronise one of the two into another knowledge base.",
        )
    document.source = source


async def queue_all(session: AsyncSession, kb_id: str) -> int:
    """Queue the reading of every document of a knowledge base that is ready; returns how many."""
    found = await documents.ready(session, kb_id)
    for document in found:
        document.status = DocumentStatus.QUEUED
    session.add_all([_job(document, JobKind.INGEST) for document in found])
    return len(found)


def _job(document: Document, kind: JobKind, uploader: str = "") -> Job:
    return Job(
        id=uuid.uuid4().hex,
        kb_id=document.kb_id,
        kind=kind,
        document_id=document.id,
        document_name=document.name,
        sha256=document.sha256 if kind == JobKind.INGEST else None,
        uploader=uploader,
    )


async def queue_job(session: AsyncSession, document: Document, kind: JobKind, uploader: str = "") -> Job:
    """Queue a job of the document, for what it is now."""
    job = _job(document, kind, uploader)
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
    uploader: str = "",
) -> Job:
    job = Job(id=uuid.uuid4().hex, kb_id=kb.id, kind=kind, detail=detail, sha256=sha256, uploader=uploader)
    session.add(job)
    await session.flush()
    await session.refresh(job)
    return job


async def _queue_build(session: AsyncSession, kb: KnowledgeBase, kind: JobKind, beside: Generation) -> Job:
    """Builds take their turns as an uploader of their own, so that deletions do not wait behind them."""
    return await _queue_for_kb(session, kb, kind, {"number": beside.number}, uploader="generations")
