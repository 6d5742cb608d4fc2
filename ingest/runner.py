"""What a worker does with a job: lease it, do it, make the result visible at once, and clean up after errors.

Delivered twice or killed in the middle, a job ends in the same state. The lease is extended while the work
goes on and checked again in the transaction that shows the result, so a worker that was taken for dead
cannot undo the work of its successor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import documents, generations, jobs, kbs
from core.db.models import (
    OF_THE_API,
    Conversation,
    Document,
    DocumentStatus,
    Job,
    JobKind,
    JobStatus,
    KnowledgeBase,
)
from core.db.models import Source as WebSource
from core.db.session import Database
from core.errors import DatabaseUnavailable, NotFound, RagError, StoreUnavailable, Unavailable, broken
from core.types import IndexKind, IndexName
from ingest.backup_file import BackupFile
from ingest.files import FileStore
from ingest.intake import queue_all
from ingest.move import CopyDiffers, Place, compare_index, copy_index, exists
from ingest.pipeline import Ingested, IngestPipeline, Source, Target, percent_done
from ingest.rebuild import Rebuilder, delete_if_there, target_of
from ingest.restore import Restoring
from ingest.sync import Syncer
from stores.live import LiveStores

log = logging.getLogger(__name__)

LONGEST_BACKOFF = timedelta(minutes=5)
LONGEST_REMOVAL_S = 600.0  # of the rows of a knowledge base


class Switched(Unavailable):
    """Its knowledge base switched to another generation while the document was read."""

    code = "switched"
    retry_after_s = 1.0


class JobRunner:
    """Runs jobs, any number at a time. `owner` names this worker process in leases."""

    def __init__(
        self,
        *,
        database: Database,
        files: FileStore,
        pipeline: IngestPipeline,
        stores: LiveStores,
        syncer: Syncer,
        owner: str,
        lease: timedelta,
        max_attempts: int,
        per_kb: int = 0,
    ) -> None:
        self._database = database
        self._files = files
        self._pipeline = pipeline
        self._stores = stores
        self._syncer = syncer
        self._owner = owner
        self._lease = lease
        self._max_attempts = max_attempts
        self._per_kb = per_kb
        self._rebuilder = Rebuilder(
            database=database,
            files=files,
            pipeline=pipeline,
            stores=stores,
            owner=owner,
            max_attempts=max_attempts,
            per_kb=per_kb,
        )
        self._stopping = False
        self._working: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Do one job after the other, in fair turns, until none may begin."""
        while not self._stopping:
            async with self._database.transaction() as session:
                job_id = await jobs.whose_turn(session, per_kb=self._per_kb)
            if job_id is None:
                return
            await self.run(job_id)

    async def run(self, job_id: str) -> None:
        """Do the job if it is to be had. Never raises for a job that fails: the row tells."""
        async with self._database.transaction() as session:
            job = await jobs.claim(session, job_id, owner=self._owner, lease=self._lease, per_kb=self._per_kb)
        if job is None:
            return
        work = asyncio.create_task(self._attempt(job))
        beat = asyncio.create_task(self._keep_lease(job, work))
        self._working.add(work)
        try:
            await work
        except jobs.LeaseLost:
            log.warning("job %s went to another worker", job.id)
        except asyncio.CancelledError:
            if not work.cancelled():
                raise
            log.info("job %s was given back", job.id)
        finally:
            beat.cancel()
            self._working.discard(work)

    async def stop(self) -> None:
        """Stop the jobs that are under way and give them back, as if they had not been tried."""
        self._stopping = True
        under_way = list(self._working)
        for work in under_way:
            work.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        async with self._database.transaction() as session:
            await jobs.release(session, owner=self._owner)

    async def _keep_lease(self, job: Job, work: asyncio.Task[None]) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                async with self._database.transaction() as session:
                    await jobs.extend(session, job.id, owner=self._owner, lease=self._lease)
            except jobs.LeaseLost:
                work.cancel()
                return
            except RagError as error:  # the database is away: the lease decides whether we keep the job
                log.warning("job %s: %s", job.id, error)

    async def _attempt(self, job: Job) -> None:
        try:
            if job.cancelling:
                raise jobs.CancelAsked
            # Only documents are read by parsers that can bring a worker down; others were killed from outside.
            if job.kind == JobKind.INGEST and job.attempts > self._max_attempts:
                raise RagError(f"The worker stopped {self._max_attempts} times while it read this document.")
            await self._dispatch(job)
        except jobs.LeaseLost:
            raise
        except jobs.CancelAsked:
            log.info("job %s (%s) is called off", job.id, job.document_name)
            await self._persist(job, partial(self._leave_nothing, job, JobStatus.CANCELLED))
        except RagError as error:
            await self._tell(job, error)
        except Exception as error:
            log.exception("job %s (%s) broke", job.id, job.document_name)
            await self._tell(job, broken(error))

    async def _dispatch(self, job: Job) -> None:
        async with self._database.transaction() as session:
            kb = await kbs.by_id(session, job.kb_id)
        if kb is None:
            raise RagError("The knowledge base of this job is gone.")
        if job.kind in OF_THE_API:
            raise RagError("It broke off: the reader took nothing for too long, or the API was stopped.")
        work = {
            JobKind.INGEST: self._ingest,
            JobKind.DELETE_DOCUMENT: self._delete_document,
            JobKind.DELETE_KB: self._delete_kb,
            JobKind.MOVE_KB: self._move_kb,
            JobKind.DROP_COPY: self._drop_copy,
            JobKind.RESTORE_KB: self._restore_kb,
            JobKind.SYNC_SOURCE: self._sync_source,
            JobKind.REBUILD_KB: self._rebuild_kb,
            JobKind.ROLLBACK_KB: self._rebuild_kb,
            JobKind.DROP_GENERATION: self._drop_generation,
        }
        await work[JobKind(job.kind)](job, kb)

    # --- ingest ---------------------------------------------------------------------------------------------

    async def _ingest(self, job: Job, kb: KnowledgeBase) -> None:
        assert job.document_id is not None
        assert job.sha256 is not None
        if not await self._start(job, kb):
            return
        target = target_of(kb, generations.seen(kb))
        revision = self._pipeline.revision(target, job.sha256)
        source = Source(job.document_id, job.document_name or "", job.sha256, self._files.path(job.sha256))

        async def report(stage: str, done: int, total: int) -> None:
            percent = percent_done(stage, done, total)
            async with self._database.transaction() as session:
                await jobs.progress(
                    session, job.id, owner=self._owner, stage=stage, done=done, total=total, percent=percent
                )

        ingested = await self._pipeline.run(source, target, report)
        if not await self._flip(job, target, revision, ingested):
            return
        await self._forget_other_revisions(job.document_id, kb, keep=revision)
        await self._remove_unused_files(job)
        await self._finish(job)

    async def _start(self, job: Job, kb: KnowledgeBase) -> bool:
        """Mark the document as being processed; False (and the job ended) if it is no longer wanted."""
        async with self._database.transaction() as session:
            document = await documents.find(session, job.document_id or "", lock=True)
            wanted = (
                kb.deleted_at is None
                and document is not None
                and document.sha256 == job.sha256
                and document.status != DocumentStatus.DELETING
            )
            if document is not None and wanted:
                document.status = DocumentStatus.PROCESSING
                return True
            await jobs.finish(session, job.id, owner=self._owner, status=JobStatus.CANCELLED)
        if job.sha256:
            await self._remove_file_if_unused(job.sha256)
        return False

    async def _flip(self, job: Job, target: Target, revision: str, ingested: Ingested) -> bool:
        """Show the new revision to readers, all at once; False (and the job ended) if it was deleted meanwhile.

        Raises `Switched` if readers see another generation by now: a worker fell silent while it read this.
        """
        assert job.document_id is not None
        async with self._database.transaction() as session:
            await jobs.hold(session, job.id, owner=self._owner)
            kb = await session.get(KnowledgeBase, job.kb_id, with_for_update={"read": True})
            if kb is None or kb.generation != target.generation:
                raise Switched
            document = await documents.find(session, job.document_id, lock=True)
            if document is None or document.status == DocumentStatus.DELETING:
                # The job that deletes it waits for this one, and cleans up.
                await jobs.finish(session, job.id, owner=self._owner, status=JobStatus.CANCELLED)
                return False
            await documents.put_text(session, document.id, revision, ingested.parsed)
            document.live_revision = revision
            document.live_sha256 = job.sha256
            for name, value in ingested.columns().items():
                setattr(document, name, value)
            # A newer upload may be waiting already: then its job goes on from here.
            document.status = DocumentStatus.READY if document.sha256 == job.sha256 else DocumentStatus.QUEUED
            return True

    async def _forget_other_revisions(self, document_id: str, kb: KnowledgeBase, *, keep: str | None) -> None:
        await self._delete_records(document_id, kb, keep=keep)
        async with self._database.transaction() as session:
            await documents.drop_other_texts(session, document_id, keep or "")

    async def _delete_records(self, document_id: str, kb: KnowledgeBase, *, keep: str | None) -> None:
        store = await self._stores.get(kb.store)
        target = target_of(kb, generations.seen(kb))
        for kind in IndexKind:
            await store.ensure_index(target.index(kind), dim=kb.dim)
            await store.delete_document(target.index(kind), document_id, keep_revision=keep)

    async def _finish(self, job: Job) -> None:
        async with self._database.transaction() as session:
            await jobs.finish(session, job.id, owner=self._owner, status=JobStatus.DONE)

    # --- errors ---------------------------------------------------------------------------------------------

    async def _tell(self, job: Job, error: RagError) -> None:
        """Write down what went wrong."""
        await self._persist(job, partial(self._failed, job, error))

    async def _persist(self, job: Job, ending: Callable[[], Awaitable[None]]) -> None:
        """Bring the job to an end, when the database is there again if that is what is away."""
        while True:
            try:
                return await ending()
            except DatabaseUnavailable as away:
                log.warning("job %s waits for the database: %s", job.id, away)
                await asyncio.sleep(away.retry_after_s or 0)

    async def _failed(self, job: Job, error: RagError) -> None:
        """Try again later if that can help, else leave nothing but the reason, and the file for a later try."""
        reason = error.reason
        # A server that is away is not the document's fault: wait for it, however long that takes.
        waits = isinstance(error, Unavailable)
        if waits or (error.retryable and job.attempts < self._max_attempts):
            after = _pause(error.retry_after_s or 0) if waits else _backoff(job.attempts)
            async with self._database.transaction() as session:
                await jobs.retry_later(
                    session, job.id, owner=self._owner, after=after, error=reason, counts=not waits
                )
                if isinstance(error, StoreUnavailable) and job.kind != JobKind.MOVE_KB:
                    # They would find the same, each after a time-out that holds up jobs of other stores.
                    await jobs.postpone(session, job.kb_id, after=after, error=reason)
            return
        log.warning("job %s (%s) failed: %s", job.id, job.document_name, error)
        await self._leave_nothing(job, JobStatus.FAILED, reason)

    async def _leave_nothing(
        self, job: Job, status: JobStatus, reason: dict[str, str | None] | None = None
    ) -> None:
        """Remove what the job did so far, and end it. One that failed keeps its file."""
        if job.kind == JobKind.INGEST:
            await self._drop_failed_version(job)
        if job.kind == JobKind.MOVE_KB:
            await self._drop_failed_copy(job)
        if job.kind == JobKind.RESTORE_KB:
            await self._drop_failed_restore(job)
        if job.kind == JobKind.REBUILD_KB and status == JobStatus.CANCELLED:  # one that failed can go on
            await self._drop_unfinished_generation(job)
        async with self._database.transaction() as session:
            await jobs.hold(session, job.id, owner=self._owner)
            lost = None
            if job.kind == JobKind.INGEST and job.document_id:
                lost = await _restore(session, job.document_id, job.sha256)
            await jobs.finish(session, job.id, owner=self._owner, status=status, error=reason, detail=lost)
            if job.kind == JobKind.RESTORE_KB and job.sha256:
                await self._remove_if_unused(session, job.sha256)
        if job.document_id:
            await self._remove_unused_files(job)

    async def _drop_failed_version(self, job: Job) -> None:
        assert job.document_id is not None
        async with self._database.transaction() as session:
            await jobs.hold(session, job.id, owner=self._owner)
            kb = await kbs.by_id(session, job.kb_id)
            document = await documents.find(session, job.document_id)
        if kb is None or document is None:
            return
        try:
            await self._delete_records(job.document_id, kb, keep=document.live_revision)
        except RagError as error:
            # The store is what failed. Readers do not see these records; the next version replaces them.
            log.warning("job %s: records of the failed version stay: %s", job.id, error)

    async def _drop_failed_copy(self, job: Job) -> None:
        async with self._database.transaction() as session:
            await jobs.hold(session, job.id, owner=self._owner)
            kb = await kbs.by_id(session, job.kb_id)
        to = (job.detail or {})["to"]
        if kb is None or kb.store == to:
            return
        try:
            await self._drop_indexes(kb, to)
        except RagError as error:
            # The store is what failed. The next move there begins by dropping this.
            log.warning("job %s: the incomplete copy in %s stays: %s", job.id, to, error)

    async def _drop_unfinished_generation(self, job: Job) -> None:
        async with self._database.transaction() as session:
            await jobs.hold(session, job.id, owner=self._owner)
            kb = await kbs.by_id(session, job.kb_id)
            beside = generations.other(kb) if kb else None
        if kb is None or beside is None or beside.complete or beside.number != (job.detail or {})["number"]:
            return
        try:
            await self._drop_other_generation(job, kb, beside.number)
        except StoreUnavailable as error:
            log.warning("job %s: the unfinished generation %d stays: %s", job.id, beside.number, error)

    # --- deletes --------------------------------------------------------------------------------------------

    async def _delete_document(self, job: Job, kb: KnowledgeBase) -> None:
        assert job.document_id is not None
        async with self._database.transaction() as session:
            document = await documents.find(session, job.document_id)
        if document is not None and document.status == DocumentStatus.DELETING:
            await self._delete_all_records(job.document_id, kb)
            async with self._database.transaction() as session:
                await jobs.hold(session, job.id, owner=self._owner)
                again = await documents.find(session, job.document_id, lock=True)
                if again is not None and again.status == DocumentStatus.DELETING:
                    await session.delete(again)
        await self._remove_unused_files(job)
        await self._finish(job)

    async def _delete_all_records(self, document_id: str, kb: KnowledgeBase) -> None:
        """Of all generations."""
        await self._delete_records(document_id, kb, keep=None)
        if (beside := generations.other(kb)) is not None:
            store = await self._stores.get(kb.store)
            await delete_if_there(store, target_of(kb, beside), document_id, keep=None)

    async def _delete_kb(self, job: Job, kb: KnowledgeBase) -> None:
        async with self._database.transaction() as session:
            unfinished = await jobs.targets_of_unfinished_moves(session, kb.id)
        for kind in {kb.store, *kb.copies, *unfinished}:
            for number in generations.numbers(kb):
                await self._drop_indexes(kb, kind, number)
        await self._delete_rows(job, kb)
        await self._remove_unused_files(job)
        await self._finish(job)

    async def _delete_rows(self, job: Job, kb: KnowledgeBase) -> None:
        async with self._database.transaction(timeout_s=LONGEST_REMOVAL_S) as session:
            await jobs.hold(session, job.id, owner=self._owner)
            await session.execute(delete(Document).where(Document.kb_id == kb.id))
            await session.execute(delete(Conversation).where(Conversation.kb_id == kb.id))
            await session.execute(delete(WebSource).where(WebSource.kb_id == kb.id))

    async def _drop_indexes(self, kb: KnowledgeBase, store_kind: str, number: int | None = None) -> None:
        """Of the generation `number`; without: of the one that readers see."""
        store = await self._stores.get(store_kind)
        for kind in IndexKind:
            await store.drop_index(IndexName(kb.id, number or kb.generation, kind))

    # --- moves ----------------------------------------------------------------------------------------------

    async def _move_kb(self, job: Job, kb: KnowledgeBase) -> None:
        """Copy both indexes, compare them with the originals, and switch."""
        detail = dict(job.detail or {})
        source, target = await self._stores.get(kb.store), await self._stores.get(detail["to"])
        indexes = [target_of(kb, generations.seen(kb)).index(kind) for kind in IndexKind]
        indexes = [index for index in indexes if await exists(source, index)]
        total = sum([await source.count(index) for index in indexes])

        async def save(place: Place, copied: int) -> None:
            detail["done"] = detail.get("done", 0) + copied
            detail["places"] = {**detail.get("places", {}), place.kind.value: place.after}
            await self._moving(job, "copying", detail, total)

        async def copy_and_compare() -> None:
            for index in indexes:
                after = detail.get("places", {}).get(index.kind.value)
                await copy_index(source, target, index, dim=kb.dim, after=after, save=save)
            for index in indexes:
                await self._moving(job, "comparing", detail, total)
                await compare_index(source, target, index)

        if kb.store != detail["to"]:  # else a predecessor was killed right after the switch
            goes_on = "places" in detail
            try:
                await copy_and_compare()
            except CopyDiffers as error:
                if not goes_on:
                    raise
                log.info("job %s: documents came or went while the move waited: %s", job.id, error)
                detail.update(done=0, places={})
                await copy_and_compare()
            await self._switch(job, detail["to"])
        await self._finish(job)

    async def _moving(self, job: Job, stage: str, detail: dict[str, Any], total: int) -> None:
        done = detail.get("done", 0)
        percent = 90 * done // max(total, 1) if stage == "copying" else 95
        async with self._database.transaction() as session:
            kb = await kbs.by_id(session, job.kb_id)
            if kb is None or kb.deleted_at is not None:
                raise NotFound("The knowledge base was deleted.")
            await jobs.progress(
                session,
                job.id,
                owner=self._owner,
                stage=stage,
                done=done,
                total=total,
                percent=min(percent, 95),
                detail=dict(detail),
            )

    async def _switch(self, job: Job, to: str) -> None:
        """From here on questions and documents go to the new store; the old one keeps its copy."""
        async with self._database.transaction() as session:
            await jobs.hold(session, job.id, owner=self._owner)
            kb = await session.get(KnowledgeBase, job.kb_id, with_for_update=True, populate_existing=True)
            assert kb is not None
            kb.copies = sorted({*kb.copies, kb.store} - {to})
            kb.store = to
            await jobs.wait_no_longer(session, kb.id)  # for the store that was left, perhaps

    async def _drop_copy(self, job: Job, kb: KnowledgeBase) -> None:
        store = (job.detail or {})["store"]
        if store != kb.store:
            await self._drop_indexes(kb, store)
            async with self._database.transaction() as session:
                await jobs.hold(session, job.id, owner=self._owner)
                held = await session.get(KnowledgeBase, kb.id, with_for_update=True, populate_existing=True)
                assert held is not None
                held.copies = [kind for kind in held.copies if kind != store]
        await self._finish(job)

    # --- generations ----------------------------------------------------------------------------------------

    async def _rebuild_kb(self, job: Job, kb: KnowledgeBase) -> None:
        if await self._rebuilder.run(job, kb):
            await self._finish(job)

    async def _drop_generation(self, job: Job, kb: KnowledgeBase) -> None:
        beside = generations.other(kb)
        if beside is not None and beside.number == (job.detail or {})["number"]:
            await self._drop_other_generation(job, kb, beside.number)
        await self._finish(job)

    async def _drop_other_generation(self, job: Job, kb: KnowledgeBase, number: int) -> None:
        await self._drop_indexes(kb, kb.store, number)
        async with self._database.transaction(timeout_s=LONGEST_REMOVAL_S) as session:
            await jobs.hold(session, job.id, owner=self._owner)
            # Not so strong that deletions, which hold rows that go here, cannot queue their jobs.
            held = await session.get(
                KnowledgeBase, kb.id, with_for_update={"key_share": True}, populate_existing=True
            )
            assert held is not None
            await generations.drop(session, held)

    # --- sources of the web -----------------------------------------------------------------------------------

    async def _sync_source(self, job: Job, kb: KnowledgeBase) -> None:
        if kb.deleted_at is None:

            async def report(done: int, total: int) -> None:
                async with self._database.transaction() as session:
                    await jobs.progress(
                        session, job.id, owner=self._owner, stage="fetching", done=done, total=total
                    )

            await self._syncer.run(kb, (job.detail or {})["source"], report)
        await self._finish(job)

    # --- restores -------------------------------------------------------------------------------------------

    async def _restore_kb(self, job: Job, kb: KnowledgeBase) -> None:
        """Put everything there, then show the knowledge base and forget the backup."""
        assert job.sha256 is not None
        detail = dict(job.detail or {})
        told = 0.0

        async def report(done: int) -> None:
            nonlocal told
            if time.monotonic() - told < 1:
                return
            detail["done"], told = done, time.monotonic()
            await self._restoring(job, detail)

        if kb.deleted_at is not None:  # else a predecessor was killed right after it appeared
            restoring = Restoring(
                BackupFile(self._files.path(job.sha256)),
                kb,
                database=self._database,
                files=self._files,
                store=await self._stores.get(kb.store),
                reread=detail["reread"],
            )
            await restoring.run(done=detail["done"], report=report)
            await self._appear(job, reread=detail["reread"])
        async with self._database.transaction() as session:
            await jobs.finish(session, job.id, owner=self._owner, status=JobStatus.DONE)
            await self._remove_if_unused(session, job.sha256)

    async def _restoring(self, job: Job, detail: dict[str, Any]) -> None:
        async with self._database.transaction() as session:
            await jobs.progress(
                session,
                job.id,
                owner=self._owner,
                stage="restoring",
                done=detail["done"],
                total=detail["members"],
                detail=dict(detail),
            )

    async def _appear(self, job: Job, *, reread: bool) -> None:
        async with self._database.transaction(timeout_s=LONGEST_REMOVAL_S) as session:
            await jobs.hold(session, job.id, owner=self._owner)
            kb = await session.get(KnowledgeBase, job.kb_id, with_for_update=True, populate_existing=True)
            assert kb is not None
            await kbs.appear(session, kb)
            if reread:
                await queue_all(session, kb.id)

    async def _drop_failed_restore(self, job: Job) -> None:
        # From here on a successor of a killed worker must begin anew.
        with suppress(jobs.CancelAsked):  # the successor of one that is called off begins here
            await self._restoring(job, {**(job.detail or {}), "done": 0})
        async with self._database.transaction() as session:
            kb = await kbs.by_id(session, job.kb_id)
        if kb is None or kb.deleted_at is None:
            return
        try:
            await self._drop_indexes(kb, kb.store)
        except RagError as error:
            log.warning("job %s: what was restored in %s stays: %s", job.id, kb.store, error)
        await self._delete_rows(job, kb)
        await self._remove_unused_files(job)

    async def _remove_unused_files(self, job: Job) -> None:
        """Remove what the job's document (or knowledge base) once had and nothing refers to any more.

        Jobs remember the contents, so a worker that was killed half-way leaves no file to its successor.
        """
        async with self._database.transaction() as session:
            if job.document_id is None:
                contents = await documents.contents_of_kb(session, job.kb_id)
            else:
                contents = await documents.contents_of_document(session, job.document_id)
        for sha256 in contents:
            if self._files.path(sha256).exists():
                await self._remove_file_if_unused(sha256)

    async def _remove_file_if_unused(self, sha256: str) -> None:
        async with self._database.transaction() as session:
            await self._remove_if_unused(session, sha256)

    async def _remove_if_unused(self, session: AsyncSession, sha256: str) -> None:
        await documents.lock_content(session, sha256)
        if not await documents.content_in_use(session, sha256):
            self._files.remove(sha256)


async def _restore(session: AsyncSession, document_id: str, sha256: str | None) -> dict[str, Any] | None:
    """After a failed version: back to the one that readers see, or away if there is none.

    Returns what the row said of the version, so that it can be tried again.
    """
    document = await documents.find(session, document_id, lock=True)
    if document is None or document.sha256 != sha256 or document.status == DocumentStatus.DELETING:
        return None
    lost = {"size": document.size, "attributes": document.attributes}
    if document.live_revision is None or document.live_sha256 is None:
        await session.delete(document)
    else:
        document.sha256 = document.live_sha256
        document.status = DocumentStatus.READY
    return lost


def _backoff(attempts: int) -> timedelta:
    """2, 4, 8 … seconds."""
    return min(timedelta(seconds=2**attempts), LONGEST_BACKOFF)


def _pause(seconds: float) -> timedelta:
    """As long as the server that failed asks for, within reason: it may ask for years."""
    return timedelta(seconds=min(seconds, jobs.LONGEST_WAIT.total_seconds()))
