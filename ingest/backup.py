"""How is a whole knowledge base read, for a backup or as JSON lines, with bounded memory and as of one moment?

It keeps still meanwhile (`ingest.hold`); only what readers can find is read. A document that is deleted while this
goes on is left out, or is there in full.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from core.db import documents, kbs
from core.db.models import Document, JobKind, KnowledgeBase
from core.db.session import Database
from core.errors import Conflict, NotFound
from core.text import some_of
from core.types import IndexKind, IndexName, Record, Vector
from ingest.backup_file import (
    BATCH,
    FORMAT,
    VERSION,
    BackupWriter,
    SavedDocument,
    SavedKb,
    SavedText,
    record_line,
)
from ingest.files import FileStore
from ingest.hold import holding
from ingest.intake import OF_FOLDER
from ingest.move import batches, exists
from stores.base import VectorStore
from stores.live import LiveStores

NAMED = 5  # documents in an error
VECTOR_DIGITS = 8  # after the point: more than the 32 bits of a number say


class Reader:
    """Reads knowledge bases as a whole."""

    def __init__(self, *, database: Database, files: FileStore, stores: LiveStores) -> None:
        self._database = database
        self._files = files
        self._stores = stores

    async def backup(self, kb_id: str) -> AsyncGenerator[bytes, None]:
        """The backup of a knowledge base, piece by piece (at most some MiB; see `ingest.backup_file`).

        Raises `NotFound` if it was deleted, `StillBusy`, `StoreUnavailable`, and `Conflict` if an original is gone:
        before the first piece, for those that are gone then.
        """
        async with holding(self._database, kb_id, JobKind.BACKUP_KB) as hold:
            kb, store = await self._open(kb_id)
            await self._check_originals(kb_id)
            total = 1 + sum([await store.count(index) for index in await _indexes(kb, store)])
            writer, done = BackupWriter(), 0
            yield writer.model("kb", _saved_kb(kb))
            live: dict[str, str] = {}  # revision by document
            async for batch in self._documents(kb_id):
                live |= {document.id: document.live_revision or "" for document in batch}
                yield writer.lines("documents", [self._saved(each).model_dump_json() for each in batch])
                for document in batch:
                    async for piece in self._contents(writer, document):
                        yield piece
                        await hold.tell("documents", 0, total)
            for index in await _indexes(kb, store):
                async for records in batches(store, index):
                    done += len(records)
                    await hold.tell(index.kind.value, done, total)
                    lines = [record_line(r, v) for r, v in records if live.get(r.document_id) == r.revision]
                    if lines:
                        yield writer.lines(index.kind.value, lines)
            await hold.tell("finishing", total, total)
            yield writer.end()

    async def export(self, kb_id: str, *, vectors: bool) -> AsyncGenerator[bytes, None]:
        """The chunks as JSON lines, in no particular order. Raises as `backup` does."""
        async with holding(self._database, kb_id, JobKind.EXPORT_KB) as hold:
            kb, store = await self._open(kb_id)
            index = IndexName(kb.id, kb.generation, IndexKind.CHUNKS)
            total, done = 1, 0
            if await exists(store, index):
                total += await store.count(index)
                async for records in batches(store, index):
                    done += len(records)
                    await hold.tell("chunks", done, total)
                    yield await self._exported(records, vectors=vectors)
            await hold.tell("finishing", total, total)

    async def _exported(self, records: list[tuple[Record, Vector]], *, vectors: bool) -> bytes:
        async with self._database.transaction() as session:
            live = await documents.live(session, {record.document_id for record, _ in records})
        lines = [
            _line(record, live[record.document_id].name, vector if vectors else None)
            for record, vector in records
            if record.document_id in live and live[record.document_id].revision == record.revision
        ]
        return "".join(lines).encode()

    async def _open(self, kb_id: str) -> tuple[KnowledgeBase, VectorStore]:
        async with self._database.transaction() as session:
            kb = await kbs.by_id(session, kb_id)
        if kb is None or kb.deleted_at is not None:
            raise NotFound("The knowledge base was deleted.")
        return kb, await self._stores.get(kb.store)

    async def _documents(self, kb_id: str) -> AsyncIterator[list[Document]]:
        after = ""
        while True:
            async with self._database.transaction() as session:
                batch = await documents.live_page(session, kb_id, limit=BATCH, after=after)
            if not batch:
                return
            yield batch
            after = batch[-1].id

    async def _check_originals(self, kb_id: str) -> None:
        gone: list[str] = []
        async for batch in self._documents(kb_id):
            gone += [each.name for each in batch if not self._files.path(each.live_sha256 or "").exists()]
        if gone:
            raise _gone(gone)

    def _saved(self, document: Document) -> SavedDocument:
        """The live version, though a newer one may be waiting."""
        assert document.live_sha256 is not None
        path = self._files.path(document.live_sha256)
        if not path.exists():
            raise _gone([document.name])
        return SavedDocument(
            id=document.id,
            name=document.name,
            sha256=document.live_sha256,
            size=path.stat().st_size,
            revision=document.live_revision or "",
            title=document.title,
            language=document.language,
            pages=document.pages,
            characters=document.characters,
            chunks=document.chunks,
            summaries=document.summaries,
            source=document.source if (document.source or "").startswith(OF_FOLDER) else None,
            summary=document.summary,
            attributes=document.attributes,
            created_at=document.created_at,
            updated_at=document.updated_at,
        )

    async def _contents(self, writer: BackupWriter, document: Document) -> AsyncIterator[bytes]:
        """Parsed text and original."""
        assert document.live_sha256 is not None
        async with self._database.transaction() as session:
            parsed = await documents.get_text(session, document.id, document.live_revision or "")
        if parsed is not None:
            text = SavedText(
                document_id=document.id,
                text=parsed.text,
                title=parsed.title,
                pages=[(page.number, page.span.start, page.span.end) for page in parsed.pages],
                sections=[(list(s.path), s.span.start, s.span.end) for s in parsed.sections],
            )
            yield writer.model("texts", text)
        async for block in writer.file(document.live_sha256, self._files.path(document.live_sha256)):
            yield block


def _gone(names: Sequence[str]) -> Conflict:
    return Conflict(
        f"Without all originals there is no backup; gone: {some_of(names, NAMED)}.",
        hint="Is RAG_DATA_DIR complete? Upload those documents again, or delete them.",
    )


def _saved_kb(kb: KnowledgeBase) -> SavedKb:
    return SavedKb(
        format=FORMAT,
        version=VERSION,
        made_at=datetime.now(UTC),
        name=kb.name,
        description=kb.description,
        store=kb.store,
        embedder=kb.embedder,
        dim=kb.dim,
        settings=kb.settings,
    )


async def _indexes(kb: KnowledgeBase, store: VectorStore) -> list[IndexName]:
    every = [IndexName(kb.id, kb.generation, kind) for kind in IndexKind]
    return [index for index in every if await exists(store, index)]


def _line(record: Record, name: str, vector: Vector | None) -> str:
    values: Mapping[str, object] = {
        "id": record.id,
        "document_id": record.document_id,
        "document": name,
        "position": record.position,
        "text": record.text,
        "header": record.header,
        "section": record.section,
        "page_start": record.page_start,
        "page_end": record.page_end,
        "start": record.start,
        "end": record.end,
    }
    if vector is not None:
        values = {**values, "vector": np.asarray(vector, dtype=np.float64).round(VECTOR_DIGITS).tolist()}
    return json.dumps(values, ensure_ascii=False) + "\n"
