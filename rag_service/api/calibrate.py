"""`/kbs/{kb}/calibrate`: how strong must a question be to have an answer in the knowledge base?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace

from fastapi import APIRouter, Request

from core.db import kbs
from core.db.models import KnowledgeBase
from core.errors import InvalidValue
from rag_service.answering.support import Judged
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
    and the rule for all knowledge bases refuse, and which answerable ones are the weakest. Questions that are repeated
    count once. With `save` the knowledge base keeps the threshold."""
    found = await find_kb(services, kb)
    questions = _distinct(body.questions)
    check_enough(sum(questions.values()))
    judged = await while_present(request, _judged(services, found, list(questions)))
    answerable = {text: each for text, each in judged.items() if questions[text]}
    unanswerable = [each for text, each in judged.items() if not questions[text]]
    result = calibrate(list(answerable.values()), unanswerable, lose=body.lose)
    if body.save:
        await _save(services, found, result.threshold)
    ranked = sorted(
        (schemas.Strength(question=q, strength=round(each.strength, 4)) for q, each in answerable.items()),
        key=lambda each: each.strength,
    )
    return schemas.CalibrateResult(
        **asdict(result), note=result.note, weakest=ranked[:WEAKEST], saved=body.save
    )


def _distinct(questions: Sequence[schemas.CalibrationQuestion]) -> dict[str, bool]:
    """Whether each question is answerable, by its words. Raises `InvalidValue` if one is said to be both."""
    found: dict[str, bool] = {}
    for each in questions:
        words = " ".join(each.question.split())
        if found.setdefault(words, each.answerable) != each.answerable:
            raise InvalidValue(
                f"A question stands twice, once as answerable and once not: {words[:200]}",
                hint="Remove the wrong one.",
            )
    return found


async def _judged(services: ApiServices, kb: KnowledgeBase, questions: Sequence[str]) -> dict[str, Judged]:
    """The questions, in their order, searched as the knowledge base is without further wishes."""
    ask = await make_ask(services, kb, "")
    found: dict[str, Judged] = {}
    for start in range(0, len(questions), AT_ONCE):
        some = questions[start : start + AT_ONCE]
        asks = [replace(ask, question=question) for question in some]
        judged = await asyncio.gather(*(services.answering.judged(each, Trace()) for each in asks))
        found.update(zip(some, judged, strict=True))
    return found


async def _save(services: ApiServices, kb: KnowledgeBase, threshold: float) -> None:
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb.id, lock=True)
        ranking = {**found.settings.get("ranking", {}), "least_strength": threshold}
        found.settings = {**found.settings, "ranking": ranking}
