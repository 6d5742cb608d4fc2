"""Do rows, files and stores agree? Finds what is too much, missing or outdated, and mends it if it is told to.

The rows are the truth. What looks wrong while others write is looked at again where nobody can: no job of the
document is open, none can begin (`jobs.lock_claims`) and its row is locked. So nothing that is being written, or will
be written again by a retry, is taken for an orphan; it is counted as `busy`.

Records of a document with the right number of chunks and summaries are taken to be the right ones: their ids, and
so their contents, follow from the revision (`ingest.pipeline`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.db import documents, generations, jobs, kbs
from core.db.models import (
    BUILDS,
    Document,
    DocumentGeneration,
    DocumentStatus,
    JobKind,
    KnowledgeBase,
)
from core.db.session import Database
from core.errors import NotFound, StoreError, StoreUnavailable
from core.types import IndexKind, IndexName, Record
from ingest.files import FileStore
from ingest.intake import Intake, queue_job
from ingest.rebuild import delete_if_there, target_of
from stores.base import VectorStore
from stores.filters import And, Eq, Filter, Ne
from stores.live import LiveStores

BATCH = 200  # documents, files or records looked at together
MOST_FINDINGS = 1000  # that a report describes; all are counted
UPLOAD_S = 24 * 3600.0  # an upload to which nothing was written for so long has ended
LONGEST_LOOK_S = 120.0  # at one document or index, with what is mended


class Trouble(StrEnum):
    """What can be found. `FOREIGN_INDEX` may be in order: other services may share the server."""

    ORPHAN_INDEX = "orphan-index"  # its knowledge base was deleted, or lies elsewhere
    FOREIGN_INDEX = "foreign-index"  # no such knowledge base was ever in this database
    ORPHAN_RECORDS = "orphan-records"  # of a document that is gone
    STALE_RECORDS = "stale-records"  # of another revision than the one that readers see
    MISSING_RECORDS = "missing-records"
    SURPLUS_RECORDS = "surplus-records"  # of the revision that readers see, but more than it has
    STALE_TEXT = "stale-text"
    MISSING_TEXT = "missing-text"
    ORPHAN_FILE = "orphan-file"
    MISSING_FILE = "missing-file"
    STUCK = "stuck"  # waits to be read or deleted, but no job is there to do it


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` says what is wrong, in words. `mended`: what was done about it, or None."""

    trouble: Trouble
    what: str
    kb: str | None = None
    store: str | None = None
    document_id: str | None = None
    document: str | None = None
    mended: str | None = None


@dataclass(slots=True)
class Report:
    """What was looked at and found. `busy`: what is being written. `unchecked`: what could not be looked at."""

    checked: Counter[str] = field(default_factory=Counter)  # knowledge_bases, documents, records, files
    found: Counter[Trouble] = field(default_factory=Counter)
    mended: Counter[Trouble] = field(default_factory=Counter)
    busy: int = 0
    unchecked: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        self.found[finding.trouble] += 1
        if finding.mended:
            self.mended[finding.trouble] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)

    @property
    def problems(self) -> int:
        """Found and not mended; foreign indexes do not count."""
        foreign = self.found[Trouble.FOREIGN_INDEX] - self.mended[Trouble.FOREIGN_INDEX]
        return self.found.total() - self.mended.total() - foreign


@dataclass(slots=True)
class Fsck:
    """One check. `mend`: what can be mended is; `foreign`: and indexes of unknown knowledge bases are dropped."""

    database: Database
    files: FileStore
    stores: LiveStores
    intake: Intake
    mend: bool = False
    foreign: bool = False
    report: Report = field(default_factory=Report)

    async def run(self) -> Report:
        """Look at everything. A store that is away or refuses is left out, and the report says so."""
        for kind in self.stores.kinds:
            try:
                await self._check_indexes(await self.stores.get(kind))
            except (StoreError, StoreUnavailable) as error:
                self.report.unchecked.append(f"Indexes in {kind}: {error}")
        async with self.database.transaction() as session:
            kb_ids = await kbs.all_ids(session)
        for kb_id in kb_ids:
            await self._check_kb(kb_id)
        await self._check_files()
        return self.report

    @asynccontextmanager
    async def _alone(self, kb_id: str) -> AsyncIterator[AsyncSession]:
        """A transaction during which no job of the knowledge base begins."""
        async with self.database.transaction(timeout_s=LONGEST_LOOK_S) as session:
            await jobs.lock_claims(session, kb_id)
            yield session

    # --- indexes --------------------------------------------------------------------------------------------

    async def _check_indexes(self, store: VectorStore) -> None:
        for index in sorted(await store.indexes(), key=str):
            async with self._alone(index.kb_id) as session:
                kb = await kbs.by_id(session, index.kb_id)
                if kb is None:
                    await self._add_index(store, index, Trouble.FOREIGN_INDEX, None)
                elif _belongs(index, kb, store.kind):
                    self.report.checked["indexes"] += 1
                elif await jobs.is_any_open(session, kb.id):  # it is being moved or deleted
                    self.report.busy += 1
                else:
                    await self._add_index(store, index, Trouble.ORPHAN_INDEX, kb)

    async def _add_index(
        self, store: VectorStore, index: IndexName, trouble: Trouble, kb: KnowledgeBase | None
    ) -> None:
        mended = None
        if self.mend and (self.foreign or trouble is not Trouble.FOREIGN_INDEX):
            await store.drop_index(index)
            mended = "deleted"
        whose = "whose knowledge base this database does not know" if kb is None else "that nobody reads"
        what = f"{store.kind} has the index {index}, {whose}."
        self.report.add(Finding(trouble, what, kb.name if kb else None, store.kind, mended=mended))

    # --- documents ------------------------------------------------------------------------------------------

    async def _check_kb(self, kb_id: str) -> None:
        async with self._alone(kb_id) as session:
            kb = await kbs.by_id(session, kb_id)
            if kb is None:
                return
            if await jobs.is_whole_kb_open(session, kb_id):
                self.report.busy += 1
                return
            if kb.deleted_at is not None:
                await self._check_deleted_kb(session, kb)
                return
            wrong_texts = await documents.with_wrong_texts(session, kb_id)
        self.report.checked["knowledge_bases"] += 1
        try:
            await self._check_documents(kb, await self.stores.get(kb.store), wrong_texts)
        except (StoreError, StoreUnavailable) as error:
            self.report.unchecked.append(f"Knowledge base {kb.name}: {error}")
            return
        try:
            await self._check_other_generation(kb, await self.stores.get(kb.store))
        except (StoreError, StoreUnavailable) as error:
            self.report.unchecked.append(f"Knowledge base {kb.name}, the generation not seen: {error}")

    async def _check_deleted_kb(self, session: AsyncSession, kb: KnowledgeBase) -> None:
        if not await documents.batch(session, kb.id, after="", limit=1):
            return
        if self.mend:
            await self.intake.delete_kb(session, kb)
        self.report.add(
            Finding(
                Trouble.STUCK,
                f"{kb.name} was deleted, but its documents are there.",
                kb.name,
                mended="queued for deletion" if self.mend else None,
            )
        )

    async def _check_documents(self, kb: KnowledgeBase, store: VectorStore, wrong_texts: set[str]) -> None:
        live = dict.fromkeys(IndexKind, 0)  # records that readers can see
        suspects = set(wrong_texts)
        after = ""
        while batch := await self._batch(kb, after):
            for document in batch:
                counts = await _count_live(store, kb, document)
                for kind, number in counts.items():
                    live[kind] += number
                if self._looks_wrong(document, counts):
                    suspects.add(document.id)
            self.report.checked["documents"] += len(batch)
            after = batch[-1].id
        for kind in IndexKind:
            index = _index(kb, kind)
            total = await _count(store, index, None)
            self.report.checked["records"] += total
            if total != live[kind]:  # somebody writes, or there are others: only then is the index read
                suspects |= await self._others(store, index)
        for document_id in sorted(suspects):
            await self._look_closely(kb.id, store, document_id)

    async def _batch(self, kb: KnowledgeBase, after: str) -> list[Document]:
        async with self.database.transaction() as session:
            return await documents.batch(session, kb.id, after=after, limit=BATCH)

    def _looks_wrong(self, document: Document, counts: dict[IndexKind, int]) -> bool:
        if document.status != DocumentStatus.READY or counts != _expected(document, counts):
            return True
        return not self.files.path(document.sha256).exists()

    async def _others(self, store: VectorStore, index: IndexName) -> set[str]:
        """The documents with records in the index that readers cannot see."""
        found: set[str] = set()
        after = ""
        while records := [record for record, _ in await _scan(store, index, after)]:
            async with self.database.transaction() as session:
                live = await documents.live(session, {record.document_id for record in records})
            for record in records:
                seen = live.get(record.document_id)
                if seen is None or seen.revision != record.revision:
                    found.add(record.document_id)
            after = records[-1].id
        return found

    async def _look_closely(self, kb_id: str, store: VectorStore, document_id: str) -> None:
        """Say what is wrong with the document, and mend it, unless somebody is at work on it."""
        async with self._alone(kb_id) as session:
            kb = await kbs.by_id(session, kb_id)
            if kb is None or kb.deleted_at is not None or kb.store != store.kind:
                return  # meanwhile
            if await jobs.is_any_open(session, kb_id, document_id):
                self.report.busy += 1
                return
            document = await documents.find(session, document_id, lock=True)
            look = _Look(self, session, store, kb, document_id, document)
            if document is None:
                await look.at_what_is_left()
            elif document.status == DocumentStatus.READY:
                await look.at_document(document)
            else:
                await look.at_unread_document(document)

    # --- the generation that readers do not see -------------------------------------------------------------

    async def _check_other_generation(self, kb: KnowledgeBase, store: VectorStore) -> None:
        beside = generations.other(kb)
        if beside is None:
            return
        known = dict.fromkeys(IndexKind, 0)
        suspects: set[str] = set()
        revisions: dict[str, str] = {}
        after = ""
        while rows := await self._rows(kb.id, beside.number, after):
            for row, _ in rows:
                counts = await _count_revision(store, kb.id, beside.number, row.document_id, row.revision)
                revisions[row.document_id] = row.revision
                for kind, number in counts.items():
                    known[kind] += number
                if counts != _wanted(row.chunks, row.summaries, counts):
                    suspects.add(row.document_id)
            after = rows[-1][0].document_id
        for kind in IndexKind:
            index = IndexName(kb.id, beside.number, kind)
            total = await _count(store, index, None)
            self.report.checked["records"] += total
            if total != known[kind]:
                async for record in _records(store, index):
                    if revisions.get(record.document_id) != record.revision:
                        suspects.add(record.document_id)
        for document_id in sorted(suspects):
            await self._look_at_other_generation(kb.id, store, beside.number, document_id)

    async def _rows(self, kb_id: str, number: int, after: str) -> list[tuple[DocumentGeneration, str]]:
        async with self.database.transaction() as session:
            return await generations.batch(session, kb_id, number, after=after, limit=BATCH)

    async def _look_at_other_generation(
        self, kb_id: str, store: VectorStore, number: int, document_id: str
    ) -> None:
        """Say what is wrong with the document there; if it is mended, a build reads the document again."""
        async with self._alone(kb_id) as session:
            kb = await kbs.by_id(session, kb_id)
            beside = generations.other(kb) if kb and kb.deleted_at is None else None
            if kb is None or beside is None or beside.number != number or kb.store != store.kind:
                return  # meanwhile
            if await jobs.open_of_kb(session, kb_id, *BUILDS) or await jobs.is_any_open(
                session, kb_id, document_id
            ):
                self.report.busy += 1
                return
            document = await documents.find(session, document_id, lock=True)
            row = await generations.of_document(session, document_id, number)
            of_it = Eq("document_id", document_id)
            found = sum([await _count(store, IndexName(kb_id, number, kind), of_it) for kind in IndexKind])
            revision = row.revision if row else None
            right = await _count_revision(store, kb_id, number, document_id, revision)
            wanted = _wanted(row.chunks, row.summaries, right) if row else right
            stale = found - sum(right.values())
            if right != wanted:
                less = any(right[kind] < wanted[kind] for kind in IndexKind)
                trouble = Trouble.MISSING_RECORDS if less else Trouble.SURPLUS_RECORDS
                what = f"{store.kind} has {_words(right, wanted)}"
            elif stale:
                trouble = Trouble.STALE_RECORDS if document else Trouble.ORPHAN_RECORDS
                what = f"{store.kind} has {stale} records of no version that is known"
            else:
                return
            mended = None
            if self.mend:
                if right != wanted:
                    revision = None
                    await generations.forget_document(session, document_id)
                    live = document.live_revision if document else None
                    await documents.drop_other_texts(session, document_id, live or "")
                await delete_if_there(store, target_of(kb, beside), document_id, keep=revision)
                mended = "deleted"
            name = document.name if document else None
            what = f"In generation {number}, which readers do not see: {what}."
            self.report.add(Finding(trouble, what, kb.name, store.kind, document_id, name, mended))

    # --- files ----------------------------------------------------------------------------------------------

    async def _check_files(self) -> None:
        contents = await asyncio.to_thread(lambda: list(self.files.contents()))
        self.report.checked["files"] += len(contents)
        for start in range(0, len(contents), BATCH):
            batch = contents[start : start + BATCH]
            async with self.database.transaction() as session:
                used = await documents.contents_in_use(session, batch)
            for sha256 in batch:
                if sha256 not in used:
                    await self._check_file(sha256)
        for path in self.files.unfinished(older_than_s=UPLOAD_S):
            if self.mend:
                path.unlink(missing_ok=True)
            self._add_file(f"The upload incoming/{path.name} was broken off.")

    async def _check_file(self, sha256: str) -> None:
        async with self.database.transaction() as session:
            await documents.lock_content(session, sha256)
            if await documents.content_in_use(session, sha256) or not self.files.path(sha256).exists():
                return
            if self.mend:
                self.files.remove(sha256)
        self._add_file(f"No document has the content of the file {sha256}.")

    def _add_file(self, what: str) -> None:
        self.report.add(Finding(Trouble.ORPHAN_FILE, what, mended="deleted" if self.mend else None))


@dataclass(slots=True)
class _Look:
    """A look at one document that nobody else writes to, in the transaction `session`."""

    fsck: Fsck
    session: AsyncSession
    store: VectorStore
    kb: KnowledgeBase
    document_id: str
    document: Document | None

    async def at_what_is_left(self) -> None:
        number = await self._records(Eq("document_id", self.document_id))
        if not number:
            return
        what = f"{self.store.kind} has {number} records of a document that is gone."
        self._add(Trouble.ORPHAN_RECORDS, what, await self._delete_records(keep=None))

    async def at_unread_document(self, document: Document) -> None:
        """Waiting, being read or being deleted, says the row; but there is no job."""
        if document.status == DocumentStatus.DELETING:
            mended = await self._queue(document, JobKind.DELETE_DOCUMENT)
            self._add(Trouble.STUCK, "It waits to be deleted, but has no job.", mended)
        elif self._has_file(document):
            mended = await self._queue(document, JobKind.INGEST)
            self._add(Trouble.STUCK, "It waits to be read, but has no job.", mended)
        else:
            self._add_missing_file()

    async def at_document(self, document: Document) -> None:
        """What readers see: all of it must be there, once, and nothing else."""
        revision = document.live_revision or ""
        others = await self._records(_of(document, Ne("revision", revision)))
        if others:
            what = f"{self.store.kind} has {others} records of another version."
            self._add(Trouble.STALE_RECORDS, what, await self._delete_records(keep=revision))
        if await documents.has_other_texts(self.session, document.id, revision):
            mended = None
            if self.fsck.mend:
                await documents.drop_other_texts(self.session, document.id, revision)
                mended = "deleted"
            self._add(Trouble.STALE_TEXT, "The text of another version is kept.", mended)
        if not self._has_file(document):
            self._add_missing_file()
        await self._check_records(document, revision)

    async def _check_records(self, document: Document, revision: str) -> None:
        counts = await _count_live(self.store, self.kb, document)
        wanted = _expected(document, counts)
        troubles: dict[Trouble, str] = {}
        if any(counts[kind] < wanted[kind] for kind in IndexKind):
            troubles[Trouble.MISSING_RECORDS] = f"{self.store.kind} has {_words(counts, wanted)}."
        if any(counts[kind] > wanted[kind] for kind in IndexKind):
            troubles[Trouble.SURPLUS_RECORDS] = f"{self.store.kind} has {_words(counts, wanted)}."
        if await documents.get_layout(self.session, document.id, revision) is None:
            troubles[Trouble.MISSING_TEXT] = "Its text is gone."
        if not troubles:
            return
        mended = None
        if self._has_file(document):
            if Trouble.SURPLUS_RECORDS in troubles:  # they are replaced, but not one by one
                await self._delete_records(keep=None)
            mended = await self._queue(document, JobKind.INGEST)
        for trouble, what in troubles.items():
            self._add(trouble, what, mended)

    def _has_file(self, document: Document) -> bool:
        return self.fsck.files.path(document.sha256).exists()

    async def _queue(self, document: Document, kind: JobKind) -> str | None:
        if not self.fsck.mend:
            return None
        if kind == JobKind.INGEST:
            document.status = DocumentStatus.QUEUED
        await queue_job(self.session, document, kind)
        return "queued to be read again" if kind == JobKind.INGEST else "queued for deletion"

    async def _records(self, where: Filter) -> int:
        return sum([await _count(self.store, _index(self.kb, kind), where) for kind in IndexKind])

    async def _delete_records(self, *, keep: str | None) -> str | None:
        if not self.fsck.mend:
            return None
        for kind in IndexKind:
            index = _index(self.kb, kind)
            await self.store.ensure_index(index, dim=self.kb.dim)
            await self.store.delete_document(index, self.document_id, keep_revision=keep)
        return "deleted"

    def _add_missing_file(self) -> None:
        self._add(Trouble.MISSING_FILE, "The file that was uploaded is gone: upload it again.", None)

    def _add(self, trouble: Trouble, what: str, mended: str | None) -> None:
        name = self.document.name if self.document else None
        self.fsck.report.add(
            Finding(trouble, what, self.kb.name, self.store.kind, self.document_id, name, mended)
        )


def as_json(report: Report) -> dict[str, Any]:
    """The report as it is kept; counts of nothing are left out."""
    return {
        "problems": report.problems,
        "checked": dict(report.checked),
        "found": {trouble.value: n for trouble, n in report.found.items() if n},
        "mended": {trouble.value: n for trouble, n in report.mended.items() if n},
        "busy": report.busy,
        "unchecked": report.unchecked,
        "findings": [
            {name: getattr(finding, name) for name in Finding.__dataclass_fields__}
            for finding in report.findings
        ],
    }


def _belongs(index: IndexName, kb: KnowledgeBase, store: str) -> bool:
    """Whether readers see the index, may go back to it, or will see it when it is built."""
    if kb.deleted_at is not None:
        return False
    if index.generation == kb.generation:
        return store in (kb.store, *kb.copies)
    return index.generation in generations.numbers(kb) and store == kb.store


def _index(kb: KnowledgeBase, kind: IndexKind) -> IndexName:
    return IndexName(kb.id, kb.generation, kind)


def _expected(document: Document, counts: dict[IndexKind, int]) -> dict[IndexKind, int]:
    """How many records there must be of what readers see."""
    if document.live_revision is None:
        return dict.fromkeys(IndexKind, 0)
    return _wanted(document.chunks, document.summaries, counts)


def _wanted(chunks: int | None, summaries: int | None, counts: dict[IndexKind, int]) -> dict[IndexKind, int]:
    if summaries is None:  # read before they were counted: at least the document's own
        summaries = max(1, counts[IndexKind.SUMMARIES])
    return {IndexKind.CHUNKS: chunks or 0, IndexKind.SUMMARIES: summaries}


async def _count_live(store: VectorStore, kb: KnowledgeBase, document: Document) -> dict[IndexKind, int]:
    """The records of the revision that readers see."""
    return await _count_revision(store, kb.id, kb.generation, document.id, document.live_revision)


async def _count_revision(
    store: VectorStore, kb_id: str, generation: int, document_id: str, revision: str | None
) -> dict[IndexKind, int]:
    if revision is None:
        return dict.fromkeys(IndexKind, 0)
    where = And((Eq("document_id", document_id), Eq("revision", revision)))
    return {kind: await _count(store, IndexName(kb_id, generation, kind), where) for kind in IndexKind}


async def _records(store: VectorStore, index: IndexName) -> AsyncIterator[Record]:
    after = ""
    while found := await _scan(store, index, after):
        for record, _ in found:
            yield record
        after = found[-1][0].id


def _of(document: Document, part: Filter) -> Filter:
    return And((Eq("document_id", document.id), part))


async def _count(store: VectorStore, index: IndexName, where: Filter | None) -> int:
    """How many records match; none where there is no index."""
    try:
        return await store.count(index, where=where)
    except NotFound:
        return 0


async def _scan(store: VectorStore, index: IndexName, after: str) -> list[tuple[Any, Any]]:
    try:
        return list(await store.scan(index, after=after, limit=BATCH))
    except NotFound:
        return []


def _words(counts: dict[IndexKind, int], wanted: dict[IndexKind, int]) -> str:
    return " and ".join(f"{counts[kind]} of {wanted[kind]} {kind.value}" for kind in IndexKind)
