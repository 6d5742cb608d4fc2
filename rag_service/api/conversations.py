"""`/kbs/{kb}/conversations`: what was asked and answered. Each API key sees its own conversations only."""

from __future__ import annotations

from fastapi import APIRouter

from core.db import conversations
from core.db.models import Conversation
from rag_service.api import schemas
from rag_service.api.ask import find_kb
from rag_service.api.deps import AnyKey, Cursor, Limit, Services, encode_cursor

router = APIRouter(prefix="/kbs/{kb}/conversations", tags=["conversations"])


def _summary(conversation: Conversation) -> schemas.ConversationSummary:
    return schemas.ConversationSummary(
        id=conversation.id,
        questions=len(conversation.turns),
        first_question=conversation.turns[0]["question"] if conversation.turns else "",
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
    )


@router.get("")
async def list_conversations(
    services: Services, key: AnyKey, kb: str, cursor: Cursor, limit: Limit = 50
) -> schemas.Page[schemas.ConversationSummary]:
    """Your conversations about this knowledge base, by id."""
    kb_id = (await find_kb(services, kb)).id
    async with services.database.transaction() as session:
        found = await conversations.page(session, key.id, kb_id, limit=limit + 1, after=cursor)
    items = [_summary(conversation) for conversation in found[:limit]]
    return schemas.Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(found) > limit else None)


@router.get("/{conversation_id}")
async def get_conversation(
    services: Services, key: AnyKey, kb: str, conversation_id: str
) -> schemas.Conversation:
    """All turns of one conversation."""
    kb_id = (await find_kb(services, kb)).id
    async with services.database.transaction() as session:
        found = await conversations.get(session, key.id, kb_id, conversation_id)
    return schemas.Conversation.model_validate(found, from_attributes=True)


@router.delete("/{conversation_id}", status_code=204)
async def delete_conversation(services: Services, key: AnyKey, kb: str, conversation_id: str) -> None:
    """Forget the conversation; an unknown one is fine."""
    kb_id = (await find_kb(services, kb)).id
    async with services.database.transaction() as session:
        await conversations.remove(session, key.id, kb_id, conversation_id)
