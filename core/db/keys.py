"""SQL about API keys. A key is `rag_` and 43 random characters; the database keeps its SHA-256 only.

A fast hash is right here: the key has 256 random bits, so there is nothing to guess (unlike a password).
"""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.models import ApiKey
from core.errors import Conflict, NotFound

PREFIX = "rag_"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def create(session: AsyncSession, *, name: str, role: str) -> tuple[ApiKey, str]:
    """A new key: its row, and the key itself, which cannot be had again."""
    key = PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(id=secrets.token_hex(8), name=name, role=role, digest=digest(key))
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return row, key


async def find(session: AsyncSession, key: str) -> ApiKey | None:
    query = select(ApiKey).where(ApiKey.digest == digest(key))
    return (await session.execute(query)).scalar_one_or_none()


async def page(session: AsyncSession) -> list[ApiKey]:
    return list((await session.execute(select(ApiKey).order_by(ApiKey.created_at))).scalars())


async def remove(session: AsyncSession, key_id: str) -> None:
    """Raises `NotFound`, or `Conflict` for the last admin key: nobody could make another."""
    row = await session.get(ApiKey, key_id)
    if row is None:
        raise NotFound(f"There is no API key {key_id}.")
    # Locked, so that two requests cannot each delete what the other takes for the last but one.
    admins = select(ApiKey.id).where(ApiKey.role == "admin").order_by(ApiKey.id).with_for_update()
    if row.role == "admin" and len((await session.execute(admins)).all()) == 1:
        raise Conflict("This is the last admin key.", hint="Create another admin key first.")
    await session.execute(delete(ApiKey).where(ApiKey.id == key_id))
