"""`/kbs/{kb}/backup`, `…/export` and `/kbs/restore`: a knowledge base as a file, and back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, BackgroundTasks, Query, Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from core.db.models import KnowledgeBase
from core.errors import BadRequest, Conflict, NotFound
from ingest.backup_file import BackupFile, DamagedBackup, SavedKb
from ingest.chunkers.base import Chunking
from ingest.files import Incoming
from models.llm.sampling import SamplingParams
from rag_service.api import schemas
from rag_service.api.ask import find_kb
from rag_service.api.deps import AdminKey, Services
from rag_service.api.jobs import job_schema
from rag_service.wiring import ApiServices
from rerankers.ranking import RankingChoice
from retrievers.fields import declared
from retrievers.structure import StructureChoice

router = APIRouter(tags=["backups"])
RESTORE_PATH = "/kbs/restore"
TAR = "application/x-tar"
JSON_LINES = "application/jsonl"
BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.get("/kbs/{kb}/backup", response_class=StreamingResponse, responses={200: {"content": {TAR: BINARY}}})
async def backup_kb(services: Services, _: AdminKey, kb: str) -> StreamingResponse:
    """All of a knowledge base as a tar file: settings, documents with their originals and parsed texts, and both
    indexes with their vectors.

    What readers can find is in it; documents that are being read for the first time, API keys and conversations are
    not. Questions go on meanwhile, uploads are taken and wait. A download that ends early is no backup.
    """
    found = await find_kb(services, kb)
    return await _streamed(services.reader.backup(found.id), TAR, f"{found.name}.tar")


@router.get(
    "/kbs/{kb}/export", response_class=StreamingResponse, responses={200: {"content": {JSON_LINES: BINARY}}}
)
async def export_kb(
    services: Services,
    _: AdminKey,
    kb: str,
    vectors: Annotated[bool, Query(description="Also the vectors.")] = False,
) -> StreamingResponse:
    """The chunks as JSON lines, in no particular order, with the names of their documents, pages and sections."""
    found = await find_kb(services, kb)
    pieces = services.reader.export(found.id, vectors=vectors)
    return await _streamed(pieces, JSON_LINES, f"{found.name}.jsonl")


@router.post(
    RESTORE_PATH,
    status_code=202,
    openapi_extra={"requestBody": {"required": True, "content": {TAR: BINARY}}},
)
async def restore_kb(
    services: Services,
    _: AdminKey,
    request: Request,
    after: BackgroundTasks,
    name: Annotated[
        schemas.KbName | None, Query(description="Name of the knowledge base; without: as it was.")
    ] = None,
    store: Annotated[
        str | None, Query(max_length=32, description="Vector store; without: the service's setting.")
    ] = None,
    reread: Annotated[
        bool,
        Query(description="Leave vectors and texts out and read all originals again: for another embedder."),
    ] = False,
) -> schemas.Restore:
    """Make a knowledge base of a backup, which is the request's body. It gets new ids, so that the original may be
    there, too; it appears all at once, when the job is done, and a job that fails leaves nothing behind.

    Refused: a file that is damaged, cut off or something else, and, without `reread`, one whose vectors are of
    another embedder than the service's.
    """
    limit = services.settings.server.max_backup_mb
    try:
        incoming = await services.files.receive(
            request.stream(), max_bytes=limit * 2**20, setting="RAG_SERVER__MAX_BACKUP_MB"
        )
    except ClientDisconnect:
        raise BadRequest("The upload broke off.") from None
    try:
        return await _take(services, incoming, name, store, after, reread=reread)
    finally:
        incoming.drop()


async def _take(
    services: ApiServices,
    incoming: Incoming,
    name: str | None,
    store: str | None,
    after: BackgroundTasks,
    *,
    reread: bool,
) -> schemas.Restore:
    backup = BackupFile(incoming.path)
    saved = backup.kb()
    kb = await _new_kb(services, saved, name, store, reread=reread)
    await _refuse_taken(services, kb.name)
    counts = await asyncio.to_thread(backup.check)
    detail = {"reread": reread, "done": 0, "members": counts["members"]}
    async with services.database.transaction() as session:
        job = await services.intake.restore_kb(session, kb, incoming, detail)
    after.add_task(services.signals.sweep)
    return schemas.Restore(name=kb.name, documents=counts["documents"], job=job_schema(job))


async def _new_kb(
    services: ApiServices, saved: SavedKb, name: str | None, store: str | None, *, reread: bool
) -> KnowledgeBase:
    """The row, hidden. Raises what is wrong with it before anything is stored."""
    embedders = services.embedders
    embedder = embedders.current if reread else embedders.of_or_current(saved.embedder)
    dim = await embedder.dimension()
    if not reread and (saved.embedder, saved.dim) != (embedder.name, dim):
        raise Conflict(
            f"The backup was made with the embedder {saved.embedder} ({saved.dim} numbers), the service now has "
            f"{embedder.name} ({dim}); their vectors do not compare.",
            hint="Set RAG_EMBEDDER__KIND and RAG_EMBEDDER__MODEL to it (or RAG_OLD_EMBEDDER__…), or restore with "
            "`reread`, which reads all originals again.",
        )
    kind = store or services.settings.store.kind
    (await services.stores.chosen(kind)).refuse_dimension(dim)
    try:
        schemas.KbUpdate(name=name or saved.name, description=saved.description)
        Chunking.of_kb(saved.settings)
        StructureChoice.model_validate(saved.settings.get("structure", {}))
        RankingChoice.model_validate(saved.settings.get("ranking", {}))
        SamplingParams.model_validate(saved.settings.get("params", {}))
        declared(saved.settings.get("fields", ()))
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedBackup(
            f"The knowledge base in the backup is not one of this service: {error}"
        ) from error
    return KnowledgeBase(
        id=uuid.uuid4().hex[:12],
        name=name or saved.name,
        description=saved.description,
        store=kind,
        embedder=embedder.name,
        dim=dim,
        generation=1,
        settings=saved.settings,
        deleted_at=datetime.now(UTC),  # hidden until the job is done
    )


async def _refuse_taken(services: ApiServices, name: str) -> None:
    try:
        taken = await find_kb(services, name)
    except NotFound:
        return
    raise Conflict(f"There is a knowledge base named '{taken.name}' already.", hint="Give another `name`.")


async def _streamed(
    pieces: AsyncGenerator[bytes, None], media_type: str, file_name: str
) -> StreamingResponse:
    first = await anext(pieces, b"")  # what fails before the first byte gets its own HTTP status
    headers: dict[str, Any] = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name)}"}
    return StreamingResponse(_all(first, pieces), media_type=media_type, headers=headers)


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
