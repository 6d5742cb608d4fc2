"""`/kbs/{kb}/sources`: pages and sitemaps of the web that a knowledge base follows."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Response

from core.db import kbs, sources
from core.db.models import Source
from rag_service.api import schemas
from rag_service.api.deps import AdminKey, AnyKey, Cursor, Limit, Services, encode_cursor
from rag_service.api.jobs import job_schema

router = APIRouter(prefix="/kbs/{kb}/sources", tags=["sources"])


def source_schema(source: Source) -> schemas.Source:
    return schemas.Source.model_validate(source, from_attributes=True)


@router.get("")
async def list_sources(
    services: Services, _: AnyKey, kb: str, cursor: Cursor, limit: Limit = 50
) -> schemas.Page[schemas.Source]:
    """Sources by address, with what their last synchronisation came to."""
    async with services.database.transaction() as session:
        found_kb = await kbs.by_name(session, kb)
        found = await sources.page(session, found_kb.id, limit=limit + 1, after=cursor)
    items = [source_schema(source) for source in found[:limit]]
    more = encode_cursor(items[-1].url) if len(found) > limit else None
    return schemas.Page(items=items, next_cursor=more)


@router.post("", status_code=201)
async def add_source(
    services: Services, _: AdminKey, kb: str, body: schemas.SourceCreate, after: BackgroundTasks
) -> schemas.Source:
    """Follow an address, whose host the settings must allow (`sources.hosts`). It is synchronised at once."""
    url = str(services.fetcher.allowed.check(body.url))
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
        services.embedders.of(found.embedder)  # else nothing can be read into it
        source = Source(
            id=uuid.uuid4().hex[:12], kb_id=found.id, kind=body.kind, url=url, interval_s=body.interval_s
        )
        await sources.add(session, source)
        await sources.queue_sync(session, source)
        await session.refresh(source)
    after.add_task(services.signals.sweep)
    return source_schema(source)


@router.patch("/{source_id}")
async def update_source(
    services: Services, _: AdminKey, kb: str, source_id: str, body: schemas.SourceUpdate
) -> schemas.Source:
    """Change how often it is synchronised."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
        source = await sources.get(session, found.id, source_id)
        source.interval_s = body.interval_s
        sources.plan_next(source)
        await session.flush()
        await session.refresh(source)
    return source_schema(source)


@router.post("/{source_id}/sync", status_code=202)
async def sync_source(
    services: Services, _: AdminKey, kb: str, source_id: str, after: BackgroundTasks
) -> schemas.Job:
    """Synchronise it now: fetch what changed, remove what is gone."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
        job = await sources.queue_sync(session, await sources.get(session, found.id, source_id))
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.delete("/{source_id}", status_code=204)
async def remove_source(
    services: Services,
    _: AdminKey,
    kb: str,
    source_id: str,
    after: BackgroundTasks,
    keep: Annotated[
        bool, Query(description="Keep its documents, as if they had been uploaded by hand.")
    ] = False,
) -> Response:
    """Follow it no more, and delete its documents."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
        source = await sources.get(session, found.id, source_id)
        own = [] if keep else await sources.documents_of(session, source.id)
        if keep:
            await sources.release_documents(session, source.id)
        await session.delete(source)
    for document in own:
        await services.intake.delete(found.id, document.id)
    after.add_task(services.signals.sweep)
    return Response(status_code=204)
