"""`/kbs/{kb}/search` and `/kbs/{kb}/ask`: passages, and cited answers, plain or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse

from core.db import conversations, kbs
from core.db.models import ApiKey, KnowledgeBase
from core.types import Citation, Passage
from models.embedders.base import refuse_other_embedder
from models.llm.sampling import SamplingParams
from rag_service.answering.citations import CitedText
from rag_service.answering.pipeline import Answer, Ask
from rag_service.answering.task import AnswerMode
from rag_service.answering.trace import Trace
from rag_service.api import schemas
from rag_service.api.answering import answering_of
from rag_service.api.deps import AnyKey, Services
from rag_service.api.errors import problem_of
from rag_service.wiring import ApiServices
from retrievers.base import Mode, Scope, Turn
from retrievers.fields import declared
from retrievers.filter_json import parse_filter
from retrievers.structure import Structure, StructureChoice
from stores.filters import And, Filter, In

router = APIRouter(prefix="/kbs/{kb}", tags=["search and ask"])
Filters = dict[str, str | int | float | bool | list[str]]


@router.post("/search")
async def search(
    services: Services, _: AnyKey, kb: str, body: schemas.SearchRequest, request: Request
) -> schemas.SearchResponse:
    """The passages that fit the query best, best first, without asking a language model."""
    found_kb = await find_kb(services, kb)
    ask = await make_ask(
        services,
        found_kb,
        body.query,
        top_k=body.top_k,
        mode=body.mode,
        filters=body.filters,
        tree=body.filter,
        structure=body.structure,
    )
    trace = Trace()
    passages = await services.answering.search(ask, trace)
    link = Links(services, request, found_kb.name)
    return schemas.SearchResponse(
        passages=[passage_schema(passage, link) for passage in passages],
        trace=trace_schema(trace) if body.trace else None,
    )


@router.post(
    "/ask",
    responses={
        200: {"content": {"text/event-stream": {"example": 'event: delta\ndata: {"text": "16 weeks."}\n\n'}}}
    },
)
async def ask(
    services: Services, key: AnyKey, kb: str, body: schemas.AskRequest, request: Request
) -> schemas.AskResponse:
    """A cited answer. With `stream`, server-sent events: `citation` and `delta` as the answer comes,
    `done` with the whole response, or `error` with a problem."""
    found_kb = await find_kb(services, kb)
    history = await read_history(services, key, found_kb, body.conversation_id)
    question = await make_ask(
        services,
        found_kb,
        body.question,
        top_k=body.top_k,
        mode=body.mode,
        filters=body.filters,
        tree=body.filter,
        structure=body.structure,
        template=body.template,
        history=history,
        params=body.params,
        answer_mode=body.answer_mode,
    )
    exchange = _Exchange(services, key, found_kb, body, Links(services, request, found_kb.name))
    if not body.stream:
        return await exchange.finish(await services.answering.answer(question))
    events = services.answering.stream(question)
    first = await anext(events)  # what fails before the first word gets its own HTTP status
    return EventSourceResponse(exchange.events(first, events), ping=15)  # type: ignore[return-value]


class _Exchange:
    """One question and its answer: how it is shown and remembered."""

    def __init__(
        self, services: ApiServices, key: ApiKey, kb: KnowledgeBase, body: schemas.AskRequest, link: Links
    ) -> None:
        self._services = services
        self._key = key
        self._kb = kb
        self._body = body
        self._link = link

    async def finish(self, answer: Answer) -> schemas.AskResponse:
        response = answer_schema(answer, self._body, self._link)
        if self._body.conversation_id is not None:
            turn = schemas.Turn(
                question=self._body.question, answer=answer.text, citations=response.citations
            )
            async with self._services.database.transaction() as session:
                await conversations.append(
                    session, self._key.id, self._kb.id, self._body.conversation_id, turn.model_dump()
                )
        return response

    async def events(
        self, first: CitedText | Answer, rest: AsyncGenerator[CitedText | Answer, None]
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            async with aclosing(rest):
                for event in await self._show(first):
                    yield event
                async for item in rest:
                    for event in await self._show(item):
                        yield event
        except Exception as error:  # the status line is out: the stream itself must say it
            yield {"event": "error", "data": problem_of(error).model_dump_json(exclude_none=True)}

    async def _show(self, item: CitedText | Answer) -> list[dict[str, Any]]:
        if isinstance(item, Answer):
            done = await self.finish(item)
            return [{"event": "done", "data": done.model_dump_json()}]
        events = [
            {"event": "citation", "data": citation_schema(citation, self._link).model_dump_json()}
            for citation in item.new
        ]
        return [*events, {"event": "delta", "data": schemas.Delta(text=item.marked).model_dump_json()}]


async def find_kb(services: ApiServices, kb: str) -> KnowledgeBase:
    async with services.database.transaction() as session:
        return await kbs.by_name(session, kb)


async def read_history(
    services: ApiServices, key: ApiKey, kb: KnowledgeBase, conversation_id: str | None
) -> tuple[Turn, ...]:
    if conversation_id is None:
        return ()
    async with services.database.transaction() as session:
        conversation = await conversations.find(session, key.id, kb.id, conversation_id)
    turns = conversation.turns if conversation else []
    most = services.settings.answer.history_turns
    return tuple(Turn(turn["question"], turn["answer"]) for turn in turns[len(turns) - most :] if most)


async def make_ask(
    services: ApiServices,
    kb: KnowledgeBase,
    question: str,
    *,
    top_k: int | None = None,
    mode: str | None = None,
    filters: Filters | None = None,
    tree: dict[str, Any] | None = None,
    structure: StructureChoice | None = None,
    template: str | None = None,
    history: tuple[Turn, ...] = (),
    params: SamplingParams | None = None,
    answer_mode: AnswerMode | None = None,
    warnings: tuple[str, ...] = (),
) -> Ask:
    """The question with its scope, and what knowledge base and settings say where the request does not."""
    refuse_other_embedder(kb.embedder, services.embedder)
    answering = answering_of(services, kb.settings)
    defaults = services.settings.retrieval
    return Ask(
        question=question,
        scope=Scope(kb.id, kb.generation, await services.stores.get(kb.store)),
        top_k=top_k or defaults.top_k,
        pool=max(defaults.pool, top_k or 0),
        mode=Mode(mode or defaults.mode),
        structure=Structure.chosen(kb.settings.get("structure"), structure),
        where=_where(filters, tree),
        fields=declared(kb.settings.get("fields", ())),
        writers=answering.writers,
        history=history,
        template=template,
        params=params.over(answering.params) if params else answering.params,
        answer_mode=answer_mode or answering.mode,
        warnings=warnings,
    )


def _where(filters: Filters | None, tree: dict[str, Any] | None) -> Filter | None:
    """`filters` and `filter` as one."""
    parts: list[Filter] = [
        In(name, tuple(value) if isinstance(value, list) else (value,))
        for name, value in (filters or {}).items()
    ]
    if tree is not None:
        parts.append(parse_filter(tree))
    return And(tuple(parts)) if parts else None


class Links:
    """Where a person can open a passage."""

    def __init__(self, services: ApiServices, request: Request, kb_name: str) -> None:
        self._base = (services.settings.server.public_url or str(request.base_url)).rstrip("/")
        self._kb = kb_name

    def __call__(self, document_id: str, start: int, end: int) -> str:
        place = {"kb": self._kb, "document": document_id, "start": start, "end": end}
        return f"{self._base}/?{urlencode(place)}"


def passage_schema(passage: Passage, link: Links) -> schemas.Passage:
    record = passage.record
    return schemas.Passage(
        document_id=record.document_id,
        document_name=passage.document_name,
        chunk_id=record.id,
        text=passage.kept_text,
        spans=[(span.start, span.end) for span in passage.spans] or None,
        page=record.page_start,
        section=record.section,
        start=record.start,
        end=record.end,
        score=round(passage.score, 6),
        url=link(record.document_id, record.start, record.end),
    )


def citation_schema(citation: Citation, link: Links) -> schemas.Citation:
    url = link(citation.document_id, citation.start, citation.end)
    return schemas.Citation(**asdict(citation), url=url)


def trace_schema(trace: Trace) -> list[schemas.StageTrace]:
    return [schemas.StageTrace(**asdict(stage)) for stage in trace.stages]


def answer_schema(answer: Answer, body: schemas.AskRequest, link: Links) -> schemas.AskResponse:
    return schemas.AskResponse(
        answer=answer.text,
        found=answer.found,
        citations=[citation_schema(citation, link) for citation in answer.citations],
        unsupported=list(answer.unsupported),
        model=answer.model,
        conversation_id=body.conversation_id,
        degraded=answer.trace.degraded,
        warnings=answer.trace.warnings,
        finish_reason=answer.finish_reason.value,
        usage=asdict(answer.usage),
        trace=trace_schema(answer.trace) if body.trace else None,
    )
