"""SQL about knowledge bases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.models import Document, DocumentStatus, KnowledgeBase
from core.errors import Conflict, NotFound


async def create(session: AsyncSession, kb: KnowledgeBase) -> KnowledgeBase:
    """Insert; raises `Conflict` if the name is taken."""
    try:
        async with session.begin_nested():
            session.add(kb)
    except IntegrityError:
        raise Conflict(
            f"There is a knowledge base named '{kb.name}' already.", hint="Choose another name."
        ) from None
    await session.refresh(kb)
    return kb


async def by_name(session: AsyncSession, name: str, *, lock: bool = False) -> KnowledgeBase:
    """The knowledge base of this name or id; raises `NotFound`."""
    live = KnowledgeBase.deleted_at.is_(None)
    query = select(KnowledgeBase).where(live, (KnowledgeBase.name == name) | (KnowledgeBase.id == name))
    query = query.order_by((KnowledgeBase.name == name).desc()).limit(1)
    kb = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if kb is None:
        raise NotFound(f"There is no knowledge base named '{name}'.")
    return kb


async def by_id(session: AsyncSession, kb_id: str) -> KnowledgeBase | None:
    """Also finds one that is being deleted."""
    return await session.get(KnowledgeBase, kb_id)


async def page(session: AsyncSession, *, limit: int, after: str | None) -> list[KnowledgeBase]:
    """Live knowledge bases by name, those after the name `after`."""
    query = select(KnowledgeBase).where(KnowledgeBase.deleted_at.is_(None)).order_by(KnowledgeBase.name)
    if after is not None:
        query = query.where(KnowledgeBase.name > after)
    return list((await session.execute(query.limit(limit))).scalars())


async def all_ids(session: AsyncSession) -> list[str]:
    """Of those that are deleted, too."""
    return list((await session.execute(select(KnowledgeBase.id).order_by(KnowledgeBase.id))).scalars())


async def stores(session: AsyncSession) -> set[str]:
    """The stores that knowledge bases lie in, copies not counted."""
    query = select(KnowledgeBase.store).where(KnowledgeBase.deleted_at.is_(None)).distinct()
    return set((await session.execute(query)).scalars())


async def rename(session: AsyncSession, kb: KnowledgeBase, changes: dict[str, Any]) -> None:
    """Set name or description; raises `Conflict` if the name is taken."""
    try:
        async with session.begin_nested():
            for field, value in changes.items():
                setattr(kb, field, value)
    except IntegrityError:
        raise Conflict(f"There is a knowledge base named '{changes['name']}' already.") from None


async def appear(session: AsyncSession, kb: KnowledgeBase) -> None:
    """Show a knowledge base that was hidden; raises `Conflict` if its name is taken."""
    await rename(session, kb, {"name": kb.name, "deleted_at": None})


@dataclass(frozen=True, slots=True)
class Size:
    """What a knowledge base holds: documents by status, and chunks that readers can find."""

    name: str
    documents: Mapping[str, int]
    chunks: int


async def sizes(session: AsyncSession) -> list[Size]:
    """The sizes of all live knowledge bases, the largest first."""
    query = (
        select(
            KnowledgeBase.name,
            Document.status,
            func.count(Document.id),
            func.sum(Document.chunks).filter(Document.live_revision.is_not(None)),
        )
        .outerjoin(Document, Document.kb_id == KnowledgeBase.id)
        .where(KnowledgeBase.deleted_at.is_(None))
        .group_by(KnowledgeBase.name, Document.status)
    )
    documents: dict[str, dict[str, int]] = {}
    chunks = Counter[str]()
    for name, status, number, found in (await session.execute(query)).all():
        by_status = documents.setdefault(name, {})
        if status is not None:  # else it has no documents
            by_status[status] = number
        chunks[name] += found or 0
    result = [Size(name, by_status, chunks[name]) for name, by_status in documents.items()]
    return sorted(result, key=lambda size: (-size.chunks, size.name))


async def unread_documents(session: AsyncSession, kb_ids: Sequence[str]) -> int:
    """How many documents of the knowledge bases were uploaded and cannot be found yet."""
    waits = Document.status.in_([DocumentStatus.QUEUED, DocumentStatus.PROCESSING])
    query = select(func.count()).where(Document.kb_id.in_(kb_ids), waits, Document.live_revision.is_(None))
    return (await session.execute(query)).scalar_one()


async def searchable_documents(session: AsyncSession, kb_ids: list[str]) -> dict[str, int]:
    """For each knowledge base, how many documents readers can find."""
    query = (
        select(Document.kb_id, func.count())
        .where(Document.kb_id.in_(kb_ids), Document.live_revision.is_not(None))
        .group_by(Document.kb_id)
    )
    counts = {kb_id: count for kb_id, count in (await session.execute(query)).all()}
    return {kb_id: counts.get(kb_id, 0) for kb_id in kb_ids}
