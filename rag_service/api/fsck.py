"""`/fsck`: do rows, files and stores agree? A worker looks; the newest reports are kept."""

from __future__ import annotations

from fastapi import APIRouter

from core.db import checks
from rag_service.api import schemas
from rag_service.api.deps import AdminKey, Services

router = APIRouter(prefix="/fsck", tags=["checks"])


@router.post("", status_code=202)
async def start_check(services: Services, _: AdminKey, body: schemas.CheckStart) -> schemas.Check:
    """Compare rows, files and stores, and mend what can be mended if that is asked for.

    Ingestion, moves and questions go on meanwhile. A worker does it: ask for the check until it is over.
    """
    async with services.database.transaction() as session:
        check = await checks.ask(session, mend=body.mend, foreign=body.foreign)
    return schemas.Check.model_validate(check, from_attributes=True)


@router.get("")
async def list_checks(services: Services, _: AdminKey) -> list[schemas.Check]:
    """The newest checks, those of the workers' own accord included, newest first."""
    async with services.database.transaction() as session:
        found = await checks.newest(session, limit=checks.KEPT)
    return [schemas.Check.model_validate(check, from_attributes=True) for check in found]


@router.get("/{check_id}")
async def get_check(services: Services, _: AdminKey, check_id: str) -> schemas.Check:
    """One check, with its report when it is over."""
    async with services.database.transaction() as session:
        check = await checks.get(session, check_id)
    return schemas.Check.model_validate(check, from_attributes=True)
