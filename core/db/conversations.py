"""SQL about conversations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.models import Conversation
from core.errors import NotFound


async def find(session: AsyncSession, key_id: str, kb_id: str, conversation_id: str) -> Conversation | None:
    return await session.get(Conversation, (key_id, kb_id, conversation_id))


async def get(session: AsyncSession, key_id: str, kb_id: str, conversation_id: str) -> Conversation:
    """Raises `NotFound`, also for a conversation of another key."""
    conversation = await find(session, key_id, kb_id, conversation_id)
    if conversation is None:
        raise NotFound(f"There is no conversation '{conversation_id}'.")
    return conversation


async def append(
    session: AsyncSession, key_id: str, kb_id: str, conversation_id: str, turn: dict[str, Any]
) -> None:
    """Add a turn; the first one creates the conversation. Safe when two answers end at the same time."""
    new = insert(Conversation).values(key_id=key_id, kb_id=kb_id, id=conversation_id, turns=[turn])
    await session.execute(
        new.on_conflict_do_update(
            index_elements=[Conversation.key_id, Conversation.kb_id, Conversation.id],
            set_={"turns": Conversation.turns.op("||")(new.excluded.turns), "updated_at": func.now()},
        )
    )


async def page(
    session: AsyncSession, key_id: str, kb_id: str, *, limit: int, after: str | None
) -> list[Conversation]:
    """Conversations by id, those after the id `after`."""
    query = select(Conversation).where(Conversation.key_id == key_id, Conversation.kb_id == kb_id)
    if after is not None:
        query = query.where(Conversation.id > after)
    return list((await session.execute(query.order_by(Conversation.id).limit(limit))).scalars())


async def remove(session: AsyncSession, key_id: str, kb_id: str, conversation_id: str) -> None:
    await session.execute(
        delete(Conversation).where(
            Conversation.key_id == key_id, Conversation.kb_id == kb_id, Conversation.id == conversation_id
        )
    )
