"""`/kbs/{kb}/calibrate`: how strong must a question be to have an answer in the knowledge base?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace

from fastapi import APIRouter, Request

from core.db import kbs
from core.db.models import KnowledgeBase
from rag_service.answering.trace import Trace
from rag_service.api import schemas
from rag_service.api.ask import find_kb, make_ask
from rag_service.api.deps import AdminKey, Services
from rag_service.api.presence import while_present
from rag_service.calibrate import calibrate, check_enough
from rag_service.wiring import ApiServices

router = APIRouter(prefix="/kbs/{kb}", tags=["knowledge bases"])
AT_ONCE = 4  # searches; those of readers go on meanwhile
WEAKEST = 10  # answerable questions that are shown


@router.post("/calibrate")
async def calibrate_kb(
    services: Services, _: AdminKey, kb: str, body: schemas.CalibrateRequest, request: Request
) -> schemas.CalibrateResult:
    """Search these questions, and say below which strength questions are to be refused, how many of each kind that
    refuses, and which answerable ones are the weakest. With `save` the knowledge base keeps the threshold."""
    found = await find_kb(services, kb)
    check_enough(sum(question.answerable for question in body.questions))
    texts = [question.question for question in body.questions]
    strengths = await while_present(request, _strengths(services, found, texts))
    pairs = list(zip(body.questions, strengths, strict=True))
    result = calibrate(
        [strength for question, strength in pairs if question.answerable],
        [strength for question, strength in pairs if not question.answerable],
        lose=body.lose,
    )
    if body.save:
        await _save(services, found, result.threshold)
    ranked = sorted(
        (schemas.Strength(question=q.question, strength=round(s, 4)) for q, s in pairs if q.answerable),
        key=lambda each: each.strength,
    )
    return schemas.CalibrateResult(
        **asdict(result), note=result.note, weakest=ranked[:WEAKEST], saved=body.save
    )


async def _strengths(services: ApiServices, kb: KnowledgeBase, questions: Sequence[str]) -> list[float]:
    """Those of the questions, in their order, searched as the knowledge base is without further wishes."""
    ask = await make_ask(services, kb, "")
    found: list[float] = []
    for start in range(0, len(questions), AT_ONCE):
        asks = [replace(ask, question=question) for question in questions[start : start + AT_ONCE]]
        found += await asyncio.gather(*(services.answering.strength(each, Trace()) for each in asks))
    return found


async def _save(services: ApiServices, kb: KnowledgeBase, threshold: float) -> None:
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb.id, lock=True)
        ranking = {**found.settings.get("ranking", {}), "least_strength": threshold}
        found.settings = {**found.settings, "ranking": ranking}
