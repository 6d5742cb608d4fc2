"""`/kbs`: knowledge bases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, BackgroundTasks

from core.db import generations, jobs, kbs
from core.db.models import KnowledgeBase
from ingest.chunkers.base import Chunking
from models.llm.sampling import SamplingParams
from rag_service.api import schemas
from rag_service.api.answering import check_wishes
from rag_service.api.deps import AdminKey, AnyKey, Cursor, Limit, Services, encode_cursor
from rag_service.api.jobs import job_schema
from rag_service.new_kb import new_kb
from rag_service.wiring import ApiServices, make_chunker
from rerankers.ranking import RankingChoice
from retrievers.fields import declared
from retrievers.refine import RefineChoice
from retrievers.structure import StructureChoice

router = APIRouter(prefix="/kbs", tags=["knowledge bases"])
SEARCHING = frozenset(("structure", "refine", "ranking", "fields"))  # how documents are searched


def _other_generation(kb: KnowledgeBase) -> schemas.Generation | None:
    beside = generations.other(kb)
    if beside is None:
        return None
    return schemas.Generation(
        number=beside.number,
        embedder=beside.embedder,
        dimensions=beside.dim,
        chunking=Chunking.of_kb(beside.cutting),
        complete=beside.complete,
    )


def kb_schema(kb: KnowledgeBase, documents: int) -> schemas.Kb:
    return schemas.Kb(
        id=kb.id,
        name=kb.name,
        description=kb.description,
        store=kb.store,
        paused=kb.paused,
        copies=kb.copies,
        embedder=kb.embedder,
        dimensions=kb.dim,
        generation=kb.generation,
        other_generation=_other_generation(kb),
        chunking=Chunking.of_kb(kb.settings),
        structure=StructureChoice.model_validate(kb.settings.get("structure", {})),
        refine=RefineChoice.model_validate(kb.settings.get("refine", {})),
        ranking=RankingChoice.model_validate(kb.settings.get("ranking", {})),
        fields=list(declared(kb.settings.get("fields", ()))),
        llms=kb.settings.get("llms", {}),
        params=SamplingParams.model_validate(kb.settings.get("params", {})),
        answer_mode=kb.settings.get("answer_mode"),
        documents=documents,
        created_at=kb.created_at,
    )


def _with_wishes(services: ApiServices, kb: KnowledgeBase, body: schemas.KbAnswering) -> dict[str, Any]:
    """The settings of the knowledge base with what the request says about answering."""
    wishes = body.wishes()
    merged = {name: value for name, value in (kb.settings | wishes).items() if value not in (None, {})}
    if wishes:
        check_wishes(services, merged)
    return merged


@router.get("")
async def list_kbs(
    services: Services, _: AnyKey, cursor: Cursor, limit: Limit = 50
) -> schemas.Page[schemas.Kb]:
    """Knowledge bases by name."""
    async with services.database.transaction() as session:
        found = await kbs.page(session, limit=limit + 1, after=cursor)
        counts = await kbs.searchable_documents(session, [kb.id for kb in found])
    items = [kb_schema(kb, counts[kb.id]) for kb in found[:limit]]
    more = encode_cursor(items[-1].name) if len(found) > limit else None
    return schemas.Page(items=items, next_cursor=more)


@router.post("", status_code=201)
async def create_kb(services: Services, _: AdminKey, body: schemas.KbCreate) -> schemas.Kb:
    """Make a knowledge base. Its store must be one that the service is connected to."""
    kb = await new_kb(
        services.settings, services.embedders.current, name=body.name, description=body.description
    )
    if body.store is not None:
        kb.store = body.store
    store = await services.stores.chosen(kb.store)
    store.refuse_dimension(kb.dim)
    await store.ping()  # it may have gone away since it was opened; documents would wait for it
    _set_options(services, kb, body)
    kb.settings = _with_wishes(services, kb, body)
    async with services.database.transaction() as session:
        kb = await kbs.create(session, kb)
    return kb_schema(kb, 0)


def _set_options(services: ApiServices, kb: KnowledgeBase, body: schemas.KbOptions) -> None:
    """Keep what the request says about cutting and searching; what it does not say stays, null means the default."""
    if body.chunking is not None:
        embedder = services.embedders.of_or_current(kb.embedder)
        make_chunker(embedder, body.chunking)  # raises what is wrong before anything is read
    options = body.model_dump(mode="json", include={"chunking", *SEARCHING}, exclude_none=True)
    cleared = {name for name in SEARCHING & body.model_fields_set if getattr(body, name) is None}
    kb.settings = {name: value for name, value in (kb.settings | options).items() if name not in cleared}


@router.get("/{kb}")
async def get_kb(services: Services, _: AnyKey, kb: str) -> schemas.Kb:
    """One knowledge base, by name or id."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
        counts = await kbs.searchable_documents(session, [found.id])
    return kb_schema(found, counts[found.id])


@router.patch("/{kb}")
async def update_kb(services: Services, _: AdminKey, kb: str, body: schemas.KbUpdate) -> schemas.Kb:
    """Change name, description, how it is answered from (`llms` and `params` are replaced as a whole), how documents
    are searched (null: by the defaults), or how those are cut that are read from now on (`…/reread` cuts the rest)."""
    changes = body.model_dump(exclude_none=True, include={"name", "description"})
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        found.settings = _with_wishes(services, found, body)
        await kbs.rename(session, found, changes)
        _set_options(services, found, body)
        counts = await kbs.searchable_documents(session, [found.id])
    return kb_schema(found, counts[found.id])


@router.delete("/{kb}", status_code=202)
async def delete_kb(services: Services, _: AdminKey, kb: str, after: BackgroundTasks) -> schemas.Job:
    """Hide the knowledge base at once; the job removes its documents, files and indexes."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        found.deleted_at = datetime.now(UTC)
        job = await services.intake.delete_kb(session, found)
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.post("/{kb}/reread", status_code=202)
async def reread_kb(services: Services, _: AdminKey, kb: str, after: BackgroundTasks) -> schemas.Reread:
    """Read all documents again, as after a change of `chunking`. Until one is done readers see it as it was."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        count = await services.intake.reread(session, found)
    after.add_task(services.signals.sweep)
    return schemas.Reread(documents=count)


@router.post("/{kb}/rebuild", status_code=202)
async def rebuild_kb(
    services: Services, _: AdminKey, kb: str, body: schemas.KbRebuild, after: BackgroundTasks
) -> schemas.Job:
    """Build another generation, with the service's embedder and this way of cutting, and switch to it when it is whole.

    Questions, uploads and deletions go on meanwhile in the one that is there. It is kept: `…/rollback` goes back to it,
    `DELETE …/generations/{number}` deletes it. If a document cannot be read anew, the job fails and nothing switches.
    """
    embedder = services.embedders.current
    dim = await embedder.dimension()
    async with services.database.transaction() as session:
        lies_in = (await kbs.by_name(session, kb)).store
    (await services.stores.get(lies_in)).refuse_dimension(dim)
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        chunking = body.chunking or Chunking.of_kb(found.settings)
        make_chunker(embedder, chunking)  # raises what is wrong with it before any work
        cutting = {"chunking": chunking.model_dump(mode="json")}
        job = await services.intake.rebuild_kb(
            session, found, embedder=embedder.name, dim=dim, cutting=cutting
        )
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.post("/{kb}/rollback", status_code=202)
async def rollback_kb(services: Services, _: AdminKey, kb: str, after: BackgroundTasks) -> schemas.Job:
    """Go back to the generation that the last switch kept. Documents that changed since are read for it first; then it
    switches, and keeps the one that readers saw till now."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        job = await services.intake.roll_back_kb(session, found)
        beside = generations.other(found)
        if beside is not None:
            services.embedders.of(beside.embedder)  # else it could not be searched
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.delete("/{kb}/generations/{number}", status_code=202)
async def drop_generation(
    services: Services, _: AdminKey, kb: str, number: int, after: BackgroundTasks
) -> schemas.Job:
    """Delete the generation that readers do not see."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        job = await services.intake.drop_generation(session, found, number)
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.post("/{kb}/move", status_code=202)
async def move_kb(
    services: Services, _: AdminKey, kb: str, body: schemas.KbMove, after: BackgroundTasks
) -> schemas.Job:
    """Move to another store without embedding anything again.

    Questions go on meanwhile, ingestion waits. When every record was compared with its copy the knowledge base
    switches; the old store keeps what it has until `DELETE …/copies/{store}`.
    """
    target = await services.stores.chosen(body.store)
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        target.refuse_dimension(found.dim)
        job = await services.intake.move_kb(session, found, body.store)
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.delete("/{kb}/copies/{store}", status_code=202)
async def drop_copy(
    services: Services, _: AdminKey, kb: str, store: str, after: BackgroundTasks
) -> schemas.Job:
    """Delete what a move left in the store it came from."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        job = await services.intake.drop_copy(session, found, store)
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.post("/{kb}/pause")
async def pause_kb(services: Services, _: AdminKey, kb: str) -> schemas.Kb:
    """Read no more documents until `…/resume`. What is being read is finished; uploads are taken and wait."""
    return await _set_paused(services, kb, paused=True)


@router.post("/{kb}/resume")
async def resume_kb(services: Services, _: AdminKey, kb: str, after: BackgroundTasks) -> schemas.Kb:
    """Read the documents that waited."""
    resumed = await _set_paused(services, kb, paused=False)
    after.add_task(services.signals.sweep)
    return resumed


async def _set_paused(services: ApiServices, kb: str, *, paused: bool) -> schemas.Kb:
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb, lock=True)
        found.paused = paused
        if not paused:
            await jobs.signal_again(session, found.id)
        counts = await kbs.searchable_documents(session, [found.id])
    return kb_schema(found, counts[found.id])
