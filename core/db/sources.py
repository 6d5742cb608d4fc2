"""SQL about sources of the web and their pages."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.models import (
    Document,
    DocumentStatus,
    Job,
    JobKind,
    JobStatus,
    KnowledgeBase,
    Source,
    SourcePage,
)
from core.errors import Conflict, NotFound


def owner_of(source_id: str) -> str:
    """What the documents of a source have as their `source`."""
    return f"source:{source_id}"


async def add(session: AsyncSession, source: Source) -> Source:
    """Insert; raises `Conflict` if the knowledge base has this address already."""
    try:
        async with session.begin_nested():
            session.add(source)
    except IntegrityError:
        raise Conflict(f"{source.url} is a source of this knowledge base already.") from None
    await session.refresh(source)
    return source


async def get(session: AsyncSession, kb_id: str, source_id: str) -> Source:
    """Raises `NotFound`."""
    source = await session.get(Source, source_id, with_for_update=True)
    if source is None or source.kb_id != kb_id:
        raise NotFound(f"There is no source {source_id} in this knowledge base.")
    return source


async def page(session: AsyncSession, kb_id: str, *, limit: int, after: str | None) -> list[Source]:
    """Sources by address, those after the address `after`."""
    query = select(Source).where(Source.kb_id == kb_id)
    if after is not None:
        query = query.where(Source.url > after)
    return list((await session.execute(query.order_by(Source.url).limit(limit))).scalars())


async def pages(session: AsyncSession, source_id: str) -> dict[str, SourcePage]:
    """The pages that were fetched, by address."""
    query = select(SourcePage).where(SourcePage.source_id == source_id)
    return {page.url: page for page in (await session.execute(query)).scalars()}


async def forget_page(session: AsyncSession, source_id: str, url: str) -> None:
    await session.execute(delete(SourcePage).where(SourcePage.source_id == source_id, SourcePage.url == url))


async def documents_of(session: AsyncSession, source_id: str) -> list[Document]:
    """The documents of the source."""
    query = select(Document).where(
        Document.source == owner_of(source_id), Document.status != DocumentStatus.DELETING
    )
    return list((await session.execute(query)).scalars())


async def release_documents(session: AsyncSession, source_id: str) -> None:
    """Let the documents of the source belong to nobody."""
    await session.execute(update(Document).where(Document.source == owner_of(source_id)).values(source=None))


def _open_job(source_id: Any) -> Any:
    return exists().where(
        Job.kind == JobKind.SYNC_SOURCE,
        Job.detail["source"].astext == source_id,
        Job.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]),
    )


async def queue_sync(session: AsyncSession, source: Source) -> Job:
    """A job that synchronises the source. Raises `Conflict` if there is one under way."""
    if (await session.execute(select(_open_job(source.id)))).scalar_one():
        raise Conflict("This source is being synchronised already.")
    return await _queue(session, source)


async def queue_due(session: AsyncSession) -> int:
    """Queue the synchronisation of the sources for which it is time; returns how many. Any number may call it."""
    now = func.clock_timestamp()
    # One interval ahead is the most; what lies further ahead was planned before the clock went back.
    interval = func.make_interval(0, 0, 0, 0, 0, 0, Source.interval_s)
    is_due = or_(Source.next_at <= now, Source.next_at > now + interval)
    query = (
        select(Source)
        .join(KnowledgeBase, KnowledgeBase.id == Source.kb_id)
        .where(and_(is_due, KnowledgeBase.deleted_at.is_(None), ~_open_job(Source.id)))
        .with_for_update(skip_locked=True, of=Source)
    )
    due = list((await session.execute(query)).scalars())
    for source in due:
        await _queue(session, source)
    return len(due)


async def _queue(session: AsyncSession, source: Source) -> Job:
    job = Job(
        id=uuid.uuid4().hex,
        kb_id=source.kb_id,
        kind=JobKind.SYNC_SOURCE,
        document_name=source.url,
        detail={"source": source.id},
    )
    session.add(job)
    plan_next(source)
    await session.flush()
    await session.refresh(job)
    return job


def plan_next(source: Source) -> None:
    """The next synchronisation is due one interval from now."""
    interval = source.interval_s
    source.next_at = None if interval is None else func.clock_timestamp() + timedelta(seconds=interval)
