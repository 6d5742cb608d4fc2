"""`/keys`: API keys, for admins."""

from __future__ import annotations

from fastapi import APIRouter

from core.db import keys
from rag_service.api import schemas
from rag_service.api.deps import AdminKey, Services

router = APIRouter(prefix="/keys", tags=["API keys"])


@router.get("")
async def list_keys(services: Services, _: AdminKey) -> list[schemas.Key]:
    """All keys, oldest first; the keys themselves are not kept."""
    async with services.database.transaction() as session:
        found = await keys.page(session)
    return [schemas.Key.model_validate(key, from_attributes=True) for key in found]


@router.post("", status_code=201)
async def create_key(services: Services, _: AdminKey, body: schemas.KeyCreate) -> schemas.NewKey:
    """Make a key. It is shown in this response and never again."""
    async with services.database.transaction() as session:
        row, key = await keys.create(session, name=body.name, role=body.role)
    return schemas.NewKey(id=row.id, name=row.name, role=body.role, created_at=row.created_at, key=key)


@router.delete("/{key_id}", status_code=204)
async def delete_key(services: Services, _: AdminKey, key_id: str) -> None:
    """Revoke a key, effective at once, with its conversations. The last admin key stays."""
    async with services.database.transaction() as session:
        await keys.remove(session, key_id)
