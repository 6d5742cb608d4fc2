"""`/kbs/{kb}/search` and `/kbs/{kb}/ask`: passages, and cited answers, plain or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse

from core.db import conversations, kbs
from core.db.models import ApiKey, KnowledgeBase
from core.errors import Conflict, Unavailable
from core.types import Citation, Passage
from models.llm.sampling import SamplingParams
from rag_service.answering.citations import CitedText
from rag_service.answering.pipeline import Answer, Ask, Step
from rag_service.answering.task import AnswerMode
from rag_service.answering.trace import Trace
from rag_service.api import schemas
from rag_service.api.answering import answering_of
from rag_service.api.deps import AnyKey, Services
from rag_service.api.errors import problem_of
from rag_service.api.presence import while_present
from rag_service.wiring import ApiServices
from rerankers.ranking import Ranking, RankingChoice
from retrievers.base import Mode, Scope, Turn
from retrievers.fields import declared
from retrievers.filter_json import parse_filter
from retrievers.refine import RefineChoice, Refinement
from retrievers.structure import Structure, StructureChoice
from stores.filters import And, Filter, In

router = APIRouter(tags=["search and ask"])
MOST_ROUTED = 50  # knowledge bases that one question is compared with


STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"example": 'event: delta\ndata: {"text": "16 weeks."}\n\n'}}}
}


@router.post("/kbs/{kb}/search")
async def search(
    services: Services, _: AnyKey, kb: str, body: schemas.SearchRequest, request: Request
) -> schemas.SearchResponse:
    """The passages that fit the query best, best first, without asking a language model."""
    return await _search(services, [await find_kb(services, kb)], body, request, route=False)


@router.post("/search")
async def search_several(
    services: Services, _: AnyKey, body: schemas.RoutedSearchRequest, request: Request
) -> schemas.SearchResponse:
    """The same in several knowledge bases at once: those named, or (`auto`) the nearest to the query."""
    found = await reachable_kbs(services, None if body.kbs == "auto" else body.kbs)
    return await _search(services, found, body, request, route=body.kbs == "auto")


@router.post("/kbs/{kb}/ask", responses=STREAMS)
async def ask(
    services: Services, key: AnyKey, kb: str, body: schemas.AskRequest, request: Request
) -> schemas.AskResponse:
    """A cited answer. With `stream`, server-sent events: `step` after each search of several, `citation` and `delta`
    as the answer comes, `done` with the whole response, or `error` with a problem."""
    found_kb = await find_kb(services, kb)
    history = await read_history(services, key, found_kb, body.conversation_id)
    exchange = _Exchange(services, key, [found_kb], body, Links(services, request))
    return await _answer(services, [found_kb], body, exchange, request, history=history)


@router.post("/ask", responses=STREAMS)
async def ask_several(
    services: Services, key: AnyKey, body: schemas.RoutedAskRequest, request: Request
) -> schemas.AskResponse:
    """A cited answer from several knowledge bases at once: those named, or (`auto`) the nearest to the question.
    Without conversations, which belong to one knowledge base."""
    found = await reachable_kbs(services, None if body.kbs == "auto" else body.kbs)
    exchange = _Exchange(services, key, found, body, Links(services, request))
    return await _answer(services, found, body, exchange, request, route=body.kbs == "auto")


async def _search(
    services: ApiServices,
    found: Sequence[KnowledgeBase],
    body: schemas.SearchRequest | schemas.RoutedSearchRequest,
    request: Request,
    *,
    route: bool,
) -> schemas.SearchResponse:
    ask = await make_ask(
        services,
        found,
        body.query,
        top_k=body.top_k,
        mode=body.mode,
        filters=body.filters,
        tree=body.filter,
        structure=body.structure,
        refine=body.refine,
        ranking=body.ranking,
        route=route,
    )
    trace = Trace()
    passages = await services.answering.search(ask, trace)
    link = Links(services, request)
    return schemas.SearchResponse(
        passages=[passage_schema(passage, link) for passage in passages],
        degraded=trace.degraded,
        trace=trace_schema(trace) if body.trace else None,
    )


async def _answer(
    services: ApiServices,
    found: Sequence[KnowledgeBase],
    body: schemas.AskRequest,
    exchange: _Exchange,
    request: Request,
    *,
    history: tuple[Turn, ...] = (),
    route: bool = False,
) -> schemas.AskResponse:
    question = await make_ask(
        services,
        found,
        body.question,
        top_k=body.top_k,
        mode=body.mode,
        filters=body.filters,
        tree=body.filter,
        structure=body.structure,
        refine=body.refine,
        ranking=body.ranking,
        template=body.template,
        history=history,
        params=body.params,
        answer_mode=body.answer_mode,
        route=route,
    )
    if not body.stream:
        return await exchange.finish(await while_present(request, services.answering.answer(question)))
    events = services.answering.stream(question)
    first = await while_present(
        request, anext(events)
    )  # what fails before the first word gets its own HTTP status
    return EventSourceResponse(exchange.events(first, events), ping=15)  # type: ignore[return-value]


class _Exchange:
    """One question and its answer: how it is shown and remembered."""

    def __init__(
        self,
        services: ApiServices,
        key: ApiKey,
        found: Sequence[KnowledgeBase],
        body: schemas.AskRequest,
        link: Links,
    ) -> None:
        self._services = services
        self._key = key
        self._kbs = [kb.id for kb in found]
        self._body = body
        self._link = link

    async def finish(self, answer: Answer) -> schemas.AskResponse:
        response = answer_schema(answer, self._body, self._link)
        if not answer.found:
            async with self._services.database.transaction() as session:
                response.unread = await kbs.unread_documents(session, self._kbs)
        if self._body.conversation_id is not None:
            turn = schemas.Turn(
                question=self._body.question, answer=answer.text, citations=response.citations
            )
            async with self._services.database.transaction() as session:
                await conversations.append(
                    session, self._key.id, self._kbs[0], self._body.conversation_id, turn.model_dump()
                )
        return response

    async def events(
        self, first: Step | CitedText | Answer, rest: AsyncGenerator[Step | CitedText | Answer, None]
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

    async def _show(self, item: Step | CitedText | Answer) -> list[dict[str, Any]]:
        if isinstance(item, Step):
            return [{"event": "step", "data": schemas.Step(**asdict(item)).model_dump_json()}]
        if isinstance(item, Answer):
            done = await self.finish(item)
            return [{"event": "done", "data": done.model_dump_json()}]
        events = [
            {"event": "citation", "data": citation_schema(citation, self._link).model_dump_json()}
            for citation in item.new
        ]
        return [*events, {"event": "delta", "data": schemas.Delta(text=item.marked).model_dump_json()}]


async def find_kb(services: ApiServices, kb: str) -> KnowledgeBase:
    async with services.database.reading() as session:
        return await kbs.by_name(session, kb)


async def read_history(
    services: ApiServices, key: ApiKey, kb: KnowledgeBase, conversation_id: str | None
) -> tuple[Turn, ...]:
    if conversation_id is None:
        return ()
    async with services.database.reading() as session:
        conversation = await conversations.find(session, key.id, kb.id, conversation_id)
    turns = conversation.turns if conversation else []
    most = services.settings.answer.history_turns
    return tuple(Turn(turn["question"], turn["answer"]) for turn in turns[len(turns) - most :] if most)


async def make_scope(services: ApiServices, kb: KnowledgeBase) -> Scope:
    """Where a question to this knowledge base is searched for. Raises `Conflict` if its embedder is not there."""
    embedder = services.embedders.of(kb.embedder)
    return Scope(
        kb.id,
        kb.generation,
        await services.stores.get(kb.store),
        embedder,
        kb_name=kb.name,
        description=kb.description,
        fields=declared(kb.settings.get("fields", ())),
    )


async def make_ask(
    services: ApiServices,
    kb: KnowledgeBase | Sequence[KnowledgeBase],
    question: str,
    *,
    top_k: int | None = None,
    mode: str | None = None,
    filters: schemas.FilterValues | None = None,
    tree: dict[str, Any] | None = None,
    structure: StructureChoice | None = None,
    refine: RefineChoice | None = None,
    ranking: RankingChoice | None = None,
    template: str | None = None,
    history: tuple[Turn, ...] = (),
    params: SamplingParams | None = None,
    answer_mode: AnswerMode | None = None,
    warnings: tuple[str, ...] = (),
    route: bool = False,
) -> Ask:
    """The question with its scope, and what knowledge base and settings say where the request does not.

    With several knowledge bases, it is the settings alone; with `route`, the nearest of them are chosen.
    """
    defaults = services.settings.retrieval
    several = [kb] if isinstance(kb, KnowledgeBase) else list(kb)
    own = own_settings(several)
    answering = answering_of(services, own)
    scopes, unreachable = await _scopes(services, several, all_needed=not route)
    return Ask(
        question=question,
        scopes=scopes,
        top_k=top_k or defaults.top_k,
        pool=max(defaults.pool, top_k or 0),
        mode=Mode(mode or defaults.mode),
        structure=Structure.chosen(own.get("structure"), structure),
        refinement=Refinement.chosen(own.get("refine"), refine),
        ranking=Ranking.chosen(own.get("ranking"), ranking),
        where=_where(filters, tree),
        route=route,
        unreachable=unreachable,
        writers=answering.writers,
        history=history,
        template=template,
        params=params.over(answering.params) if params else answering.params,
        answer_mode=answer_mode or answering.mode,
        warnings=warnings,
    )


def own_settings(several: Sequence[KnowledgeBase]) -> dict[str, Any]:
    """What the knowledge base says about asking it; several say nothing together."""
    return several[0].settings if len(several) == 1 else {}


async def _scopes(
    services: ApiServices, several: Sequence[KnowledgeBase], *, all_needed: bool
) -> tuple[tuple[Scope, ...], tuple[str, ...]]:
    """The scopes, and in words which could not be reached; raises the error if all are needed, or none is left."""
    scopes: list[Scope] = []
    unreachable: list[str] = []
    for kb in several:
        try:
            scopes.append(await make_scope(services, kb))
        except Unavailable as error:
            unreachable.append(f"knowledge base {kb.name}: {error.message}")
            if all_needed or len(unreachable) == len(several):
                raise
    return tuple(scopes), tuple(unreachable)


async def reachable_kbs(services: ApiServices, named: Sequence[str] | None) -> list[KnowledgeBase]:
    """The knowledge bases of these names; None: all that can be searched now, at most `MOST_ROUTED` by name.

    Raises `NotFound` for a name that is not there, `Conflict` if nothing can be searched.
    """
    async with services.database.reading() as session:
        if named is not None:
            return [await kbs.by_name(session, name) for name in dict.fromkeys(named)]
        found = await kbs.page(session, limit=MOST_ROUTED, after=None)
    connected = services.stores.kinds
    usable = [kb for kb in found if kb.store in connected and kb.embedder in services.embedders.names]
    if not usable:
        raise Conflict(
            "There is no knowledge base that could be searched.", hint="POST /api/v1/kbs makes one."
        )
    return usable


def _where(filters: schemas.FilterValues | None, tree: dict[str, Any] | None) -> Filter | None:
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

    def __init__(self, services: ApiServices, request: Request) -> None:
        self._base = (services.settings.server.public_url or str(request.base_url)).rstrip("/")

    def __call__(self, kb: str, document_id: str, start: int, end: int) -> str:
        place = {"kb": kb, "document": document_id, "start": start, "end": end}
        return f"{self._base}/?{urlencode(place)}"


def passage_schema(passage: Passage, link: Links) -> schemas.Passage:
    record = passage.record
    return schemas.Passage(
        kb=passage.kb,
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
        url=link(passage.kb, record.document_id, record.start, record.end),
    )


def citation_schema(citation: Citation, link: Links) -> schemas.Citation:
    url = link(citation.kb, citation.document_id, citation.start, citation.end)
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
