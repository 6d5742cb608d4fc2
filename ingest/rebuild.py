"""How a knowledge base gets another generation: built beside the one that readers see, and shown all at once.

What is done is in the rows of `document_generations`, one document at a time, so a build that was killed goes on where
it was. Documents come, change and go meanwhile in the generation that readers see; what changed is built again, until
nothing is missing. Going back is the same, towards the generation that a switch kept.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from core.db import documents, generations, jobs, kbs
from core.db.generations import Generation
from core.db.models import Document, DocumentGeneration, DocumentStatus, Job, KnowledgeBase
from core.db.session import Database
from core.errors import NotFound, RagError, Unavailable, UnreadableDocument, broken
from core.types import IndexKind
from ingest.chunkers.base import Chunking
from ingest.files import FileStore
from ingest.pipeline import Ingested, IngestPipeline, Source, Target, percent_done
from stores.base import VectorStore
from stores.live import LiveStores

log = logging.getLogger(__name__)

BATCH = 50  # documents looked up together
LOOK_EVERY_S = 1.0  # whether documents that were being read are done
LONGEST_SWITCH_S = 600.0
MOST_NAMED = 10  # documents in the message of a build that failed


class CannotBeRead(RagError):
    """Documents cannot be read in the new generation."""

    code = "documents-cannot-be-read"


@dataclass(slots=True)
class _Build:
    """One worker's stretch of a job. `detail` is what a successor needs: the document `at` work, and what `failed`."""

    job: Job
    target: Target
    detail: dict[str, Any]

    @property
    def failed(self) -> dict[str, list[str]]:
        """By document: the content that cannot be read, the name, and why."""
        found: dict[str, list[str]] = self.detail.setdefault("failed", {})
        return found


class Rebuilder:
    """Does the jobs that build a generation and switch to it."""

    def __init__(
        self,
        *,
        database: Database,
        files: FileStore,
        pipeline: IngestPipeline,
        stores: LiveStores,
        owner: str,
        max_attempts: int,
        per_kb: int,
    ) -> None:
        self._database = database
        self._files = files
        self._pipeline = pipeline
        self._stores = stores
        self._owner = owner
        self._max_attempts = max_attempts
        self._per_kb = per_kb

    async def run(self, job: Job, kb: KnowledgeBase) -> bool:
        """Build what is missing, and switch. False if other jobs have their turn first: then this one waits again.

        Raises `CannotBeRead` if documents could not be read; nothing is switched then.
        """
        detail = dict(job.detail or {})
        if kb.generation == detail["number"]:
            return True  # a predecessor was killed right after the switch
        beside = generations.other(kb)
        if beside is None or beside.number != detail["number"]:
            raise NotFound("The generation that this job built was dropped.")
        build = _Build(job, target_of(kb, beside), detail)
        self._pipeline.check(build.target)
        detail.pop("all_built", None)  # said by a predecessor: documents may have come since
        missing, total = await self._counts(build)
        await self._report(build, "building", total - missing, total)
        await self._tidy(build)
        while True:
            if not await self._build_all(build):
                return False
            if await self._switch(build):
                return True
            await asyncio.sleep(LOOK_EVERY_S)

    async def _build_all(self, build: _Build) -> bool:
        """Build until nothing is missing; False if other jobs have their turn first."""
        while True:
            todo = await self._missing(build)
            if not todo:
                return True
            for document in todo:
                await self._build(build, document)
                if await self._others_turn(build):
                    return False

    async def _missing(self, build: _Build) -> list[Document]:
        """Some documents that are to be built. Raises `CannotBeRead` if only those are left that cannot be."""
        after, unreadable = "", list[str]()
        kb_id, number = build.target.kb_id, build.target.generation
        while True:
            async with self._database.transaction() as session:
                found = await generations.missing(session, kb_id, number, after=after, limit=BATCH)
            todo = [each for each in found if build.failed.get(each.id, [""])[0] != each.live_sha256]
            unreadable += [each.id for each in found if each not in todo]
            if todo:
                return todo
            if len(found) < BATCH:
                break
            after = found[-1].id
        if unreadable:
            raise _cannot_be_read([build.failed[document_id] for document_id in unreadable], build.job)
        return []

    async def _others_turn(self, build: _Build) -> bool:
        """Whether other jobs wait for a worker: then the build is given back, and takes its turn again."""
        if build.detail.get("all_built"):  # it keeps them from beginning: it must come to its end
            return False
        async with self._database.transaction() as session:
            if not await jobs.others_wait(session, build.job.id, per_kb=self._per_kb):
                return False
            await jobs.give_back(session, build.job.id, owner=self._owner)
        return True

    # --- one document -----------------------------------------------------------------------------------------

    async def _build(self, build: _Build, document: Document) -> None:
        """Build the document; one that cannot be read is written down in `build.failed`."""
        sha256 = document.live_sha256 or ""
        if build.detail.get("at") != document.id:
            build.detail |= {"at": document.id, "attempts": build.job.attempts}
        kills = build.job.attempts - build.detail["attempts"]
        if kills >= self._max_attempts:
            error: RagError | None = RagError(
                f"The worker stopped {kills} times while it read this document."
            )
        else:
            error = await self._read(build, document, sha256)
        if error is not None:
            log.warning("job %s: %s cannot be read: %s", build.job.id, document.name, error)
            await self._tidy(build)
            build.failed[document.id] = [sha256, document.name, error.message]
            missing, total = await self._counts(build)
            await self._report(build, "building", total - missing, total)

    async def _read(self, build: _Build, document: Document, sha256: str) -> RagError | None:
        """Build the document, or return why it cannot be read, after as many tries as an upload has."""
        attempt = 1
        while True:
            try:
                await self._try(build, document, sha256)
                return None
            except (Unavailable, jobs.LeaseLost, jobs.CancelAsked):
                raise
            except Exception as error:
                if not await self._is_wanted(document.id, sha256):
                    await self._tidy(build)
                    return None  # it was deleted or replaced meanwhile, and its file with it
                reason = error if isinstance(error, RagError) else broken(error)
                if not reason.retryable or attempt == self._max_attempts:
                    return reason
                log.warning("job %s: %s: %s", build.job.id, document.name, reason, exc_info=error)
                await asyncio.sleep(2**attempt)
                attempt += 1

    async def _try(self, build: _Build, document: Document, sha256: str) -> None:
        target, path = build.target, self._files.path(sha256)
        if not path.exists():
            raise UnreadableDocument("The file that was uploaded is gone.")
        revision = self._pipeline.revision(target, sha256)
        missing, total = await self._counts(build)

        async def report(stage: str, done: int, of: int) -> None:
            await self._report(build, "building", total - missing, total, percent_done(stage, done, of))

        ingested = await self._pipeline.run(Source(document.id, document.name, sha256, path), target, report)
        if await self._keep(build, document.id, sha256, revision, ingested):
            await self._delete_records(build, document.id, keep=revision)
        else:  # it was deleted meanwhile
            await self._delete_records(build, document.id, keep=None)

    async def _keep(
        self, build: _Build, document_id: str, sha256: str, revision: str, ingested: Ingested
    ) -> bool:
        """Write down what the document is in the generation; False if it is gone."""
        async with self._database.transaction() as session:
            await jobs.hold(session, build.job.id, owner=self._owner)
            document = await documents.find(session, document_id, lock=True)
            if document is None or document.live_revision is None:
                return False
            await documents.put_text(session, document_id, revision, ingested.parsed)
            row = DocumentGeneration(
                document_id=document_id,
                generation=build.target.generation,
                sha256=sha256,
                revision=revision,
                **ingested.columns(),
            )
            await generations.put(session, row)
            await session.flush()
            await documents.drop_other_texts(session, document_id, document.live_revision)
        build.failed.pop(document_id, None)
        return True

    async def _is_wanted(self, document_id: str, sha256: str) -> bool:
        async with self._database.transaction() as session:
            document = await documents.find(session, document_id)
        return (
            document is not None
            and document.status != DocumentStatus.DELETING
            and document.live_revision is not None
            and document.live_sha256 == sha256
        )

    async def _tidy(self, build: _Build) -> None:
        """Remove records of the document at work that are in no row: it may be half done, or deleted since."""
        document_id = build.detail.get("at")
        if document_id is None:
            return
        async with self._database.transaction() as session:
            row = await generations.of_document(session, document_id, build.target.generation)
        await self._delete_records(build, document_id, keep=row.revision if row else None)

    async def _delete_records(self, build: _Build, document_id: str, *, keep: str | None) -> None:
        store = await self._stores.get(build.target.store)
        await delete_if_there(store, build.target, document_id, keep=keep)

    # --- progress and the switch ------------------------------------------------------------------------------

    async def _counts(self, build: _Build) -> tuple[int, int]:
        """How many documents are missing, of how many."""
        kb_id = build.target.kb_id
        async with self._database.transaction() as session:
            missing = await generations.count_missing(session, kb_id, build.target.generation)
            return missing, (await kbs.searchable_documents(session, [kb_id]))[kb_id]

    async def _report(self, build: _Build, stage: str, done: int, total: int, part: int = 0) -> None:
        """`part`: how much of the document at work is done, in percent.

        Raises `CancelAsked`, `LeaseLost`, and `NotFound` if the knowledge base was deleted.
        """
        if build.detail.get("all_built"):
            stage = jobs.SWITCHING
        async with self._database.transaction() as session:
            kb = await kbs.by_id(session, build.job.kb_id)
            if kb is None or kb.deleted_at is not None:
                raise NotFound("The knowledge base was deleted.")
            await jobs.progress(
                session,
                build.job.id,
                owner=self._owner,
                stage=stage,
                done=done,
                total=total,
                percent=min(98 * (100 * done + part) // max(100 * total, 1), 98),
                detail=dict(build.detail),
            )

    async def _switch(self, build: _Build) -> bool:
        """Show the generation to readers; False while documents are being read, and if some are missing."""
        _, total = await self._counts(build)
        build.detail["all_built"] = True  # from here on no document begins to be read
        await self._report(build, jobs.SWITCHING, total, total)
        async with self._database.transaction(timeout_s=LONGEST_SWITCH_S) as session:
            await jobs.lock_claims(session, build.job.kb_id)
            await jobs.hold(session, build.job.id, owner=self._owner)
            if await jobs.forbids_switch(session, build.job.kb_id):
                return False
            # Uploads wait for this lock; deletions, which do not, for that of their document.
            kb = await session.get(
                KnowledgeBase, build.job.kb_id, with_for_update={"key_share": True}, populate_existing=True
            )
            if kb is None or kb.deleted_at is not None:
                raise NotFound("The knowledge base was deleted.")
            await documents.lock_all(session, kb.id)
            if await generations.count_missing(session, kb.id, build.target.generation):
                return False
            await generations.switch(session, kb)
        return True


async def delete_if_there(store: VectorStore, target: Target, document_id: str, *, keep: str | None) -> None:
    """Delete the document's records but those of the revision `keep`; an index that is gone has none."""
    for kind in IndexKind:
        with suppress(NotFound):
            await store.delete_document(target.index(kind), document_id, keep_revision=keep)


def target_of(kb: KnowledgeBase, generation: Generation) -> Target:
    """Where and how documents are read into this generation of the knowledge base."""
    return Target(
        kb.id,
        generation.number,
        kb.store,
        generation.embedder,
        Chunking.of_kb(generation.cutting),
        kb.settings.get("llms", {}).get("summarise"),
    )


def _cannot_be_read(failed: list[list[str]], job: Job) -> CannotBeRead:
    named = [f"{name}: {why}" for _, name, why in failed[:MOST_NAMED]]
    more = f" … and {len(failed) - MOST_NAMED} more." if len(failed) > MOST_NAMED else ""
    return CannotBeRead(
        f"{len(failed)} documents cannot be read anew, so readers see what they saw before. {' '.join(named)}{more}",
        hint="Delete them or upload them again, then go on: "
        f"`rag-service jobs retry {job.id}`. Or give up: `rag-service kb drop-generation NAME`.",
    )
