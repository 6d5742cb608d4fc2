"""`/models`: the language models that are configured, and whether they answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from rag_service.api import schemas
from rag_service.api.deps import AdminKey, Services
from rag_service.probe import LlmReport, report

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
async def list_models(
    services: Services,
    _: AdminKey,
    test: Annotated[bool, Query(description="Also ask each for a short answer and tell its speed.")] = False,
) -> schemas.Page[LlmReport]:
    """Language models, each asked whether it is there."""
    return schemas.Page(items=await report(services.settings, services.llms, test=test))
