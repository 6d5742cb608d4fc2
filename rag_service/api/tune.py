"""`/kbs/{kb}/tune`: which way of cutting suits the knowledge base's documents, as server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

from core.db import kbs
from core.errors import Conflict, InvalidValue
from ingest.chunkers.base import Chunking
from models.embedders.base import Embedder
from rag_service.api import schemas
from rag_service.api.deps import AdminKey, Services
from rag_service.api.errors import problem_of
from rag_service.tune import (
    CANDIDATES,
    Measured,
    TuneDocument,
    TuneQuestion,
    Tuner,
    cloze_questions,
    llm_questions,
    sampled,
)
from rag_service.wiring import ApiServices, make_chunker

router = APIRouter(prefix="/kbs/{kb}", tags=["knowledge bases"])
QuestionsBy = Literal["you", "model", "cloze"]
SHARE_FOR_QUESTIONS = 0.3  # of the time, for the language model to write them


@router.post(
    "/tune",
    responses={
        200: {"content": {"text/event-stream": {"example": 'event: measured\ndata: {"support": 0.9}\n\n'}}}
    },
)
async def tune_kb(services: Services, _: AdminKey, kb: str, body: schemas.TuneRequest) -> schemas.TuneResult:
    """Try sizes and strategies on a sample of the documents, in memory; nothing is changed. Server-sent events:
    `start`, `measured` for each candidate, `done` with all of them, best first, or `error` with a problem."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
    own = Chunking.of_kb(found.settings)
    embedder = services.embedders.of_or_current(found.embedder)
    candidates = body.candidates or list(dict.fromkeys([own, *CANDIDATES]))
    for candidate in candidates:
        make_chunker(embedder, candidate)  # raises what is wrong with it before any work
    if services.tuning.locked():
        raise Conflict("A knowledge base is being tuned already.", hint="Try again when it is done.")
    first = {question.document for question in body.questions or () if question.document}
    among = await sampled(services.database, found.id, body.sample_characters, first=first)
    if not among:
        raise InvalidValue("The knowledge base has no documents to try on.", hint="Upload some first.")
    events = _events(services, embedder, among, candidates, body, own)
    return EventSourceResponse(events, ping=15)  # type: ignore[return-value]


async def _events(
    services: ApiServices,
    embedder: Embedder,
    among: list[TuneDocument],
    candidates: list[Chunking],
    body: schemas.TuneRequest,
    current: Chunking,
) -> AsyncGenerator[dict[str, Any], None]:
    until = time.monotonic() + body.seconds
    try:
        async with services.tuning:
            questions, by = await _questions(services, among, body)
            yield _event("start", schemas.TuneStart(
                documents=len(among), questions=len(questions), questions_by=by
            ))  # fmt: skip
            measured: list[Measured] = []
            tuner = Tuner(among, questions, embedder)
            async with aclosing(tuner.measure(candidates, seconds=until - time.monotonic())) as results:
                async for result in results:
                    measured.append(result)
                    yield _event("measured", _tuned(result))
        measured.sort(key=lambda result: (result.finished, result.rank(current)), reverse=True)
        yield _event("done", schemas.TuneResult(
            candidates=[_tuned(each) for each in measured],
            best=measured[0].chunking if measured[0].finds else None,
            current=current,
        ))  # fmt: skip
    except Exception as error:  # the status line is out: the stream itself must say it
        yield {"event": "error", "data": problem_of(error).model_dump_json(exclude_none=True)}


async def _questions(
    services: ApiServices, among: list[TuneDocument], body: schemas.TuneRequest
) -> tuple[list[TuneQuestion], QuestionsBy]:
    if body.questions:
        return [TuneQuestion(q.question, q.evidence, q.document) for q in body.questions], "you"
    by: QuestionsBy = "cloze"
    llm = services.llms[services.settings.stages.rewrite]
    if llm is not None and llm.prompt_style == "chat":
        by, seconds = "model", SHARE_FOR_QUESTIONS * body.seconds
        questions = await llm_questions(among, body.made_questions, llm, seconds=seconds)
    else:
        questions = cloze_questions(among, body.made_questions)
    if not questions:
        raise InvalidValue(
            "No questions can be made of these documents: they have no sentences of ordinary length.",
            hint="Send questions of your own.",
        )
    return questions, by


def _tuned(measured: Measured) -> schemas.Tuned:
    return schemas.Tuned(**{**asdict(measured), "chunking": measured.chunking})


def _event(name: str, data: BaseModel) -> dict[str, Any]:
    return {"event": name, "data": data.model_dump_json()}
