"""`/v1/models` and `/v1/chat/completions`: the service as an OpenAI-compatible chat model, one for each kb.

The last user message is the question, the turns before it are the history; system messages are not used (the
prompt template is the service's). OpenAI's sampling parameters are used if the engine knows them, else `warnings`
names them; the extra field `params` takes all of ours. Citations are markdown links
in the text and a list of sources at its end, for front-ends that show nothing else, and `annotations` of type
`url_citation` for those that do.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sse_starlette import EventSourceResponse

from core.db import kbs
from core.db.models import KnowledgeBase
from core.errors import InvalidValue, NotFound
from core.text import is_cjk
from core.types import Citation
from models.llm.sampling import SamplingParams
from rag_service.answering.citations import CitedText
from rag_service.answering.generate import Generator
from rag_service.answering.pipeline import Answer, Ask, Step
from rag_service.api.answering import answering_of
from rag_service.api.ask import Links, find_kb, make_ask, own_settings, reachable_kbs
from rag_service.api.deps import AnyKey, Services
from rag_service.api.errors import openai_error, problem_of
from rag_service.api.presence import while_present
from rag_service.api.schemas import Body, FilterValues, TopK
from rag_service.wiring import ApiServices
from rerankers.ranking import RankingChoice
from retrievers.base import Turn
from retrievers.refine import RefineChoice
from retrievers.structure import StructureChoice

router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])
MODEL_PREFIX = "kb:"
MOST_KBS = 1000
AUTO = "auto"  # the model that chooses knowledge bases by the question, unless one has this name


class ContentPart(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: str
    text: str = ""


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class Retrieval(BaseModel):
    """Extra of this service (`extra_body` in the SDK): how to search."""

    model_config = ConfigDict(extra="forbid")
    top_k: TopK | None = None
    mode: Literal["union", "strict", "flat"] | None = None
    filters: FilterValues | None = None
    filter: dict[str, Any] | None = None
    structure: StructureChoice | None = None
    refine: RefineChoice | None = None
    ranking: RankingChoice | None = None


class ChatRequest(Body):
    model_config = ConfigDict(extra="ignore")  # clients send many parameters
    model: str = Field(examples=["kb:default"])
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    retrieval: Retrieval = Retrieval()
    params: SamplingParams | None = None

    def standard_params(self) -> SamplingParams:
        """OpenAI's sampling parameters under our names. Raises `InvalidValue` for a value out of range."""
        values = {
            "max_new_tokens": self.max_completion_tokens or self.max_tokens,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop or None,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
        }
        try:
            return SamplingParams.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidValue(f"{first['loc'][0]}: {first['msg']}.") from None


@router.get("/models")
async def list_models(services: Services, _: AnyKey) -> dict[str, Any]:
    """One model for each knowledge base: `kb:NAME`; of several also `kb:auto`, which chooses by the question."""
    async with services.database.transaction() as session:
        found = await kbs.page(session, limit=MOST_KBS, after=None)
    models = [_model(kb.name, int(kb.created_at.timestamp())) for kb in found]
    if len(found) > 1 and all(kb.name != AUTO for kb in found):
        models.append(_model(AUTO, int(found[0].created_at.timestamp())))
    return {"object": "list", "data": models}


@router.get("/models/{model}")
async def get_model(services: Services, _: AnyKey, model: str) -> dict[str, Any]:
    """One of these models."""
    found, route = await _kbs_of_model(services, model)
    return _model(AUTO if route else found[0].name, int(found[0].created_at.timestamp()))


@router.post("/chat/completions")
async def chat_completions(services: Services, _: AnyKey, body: ChatRequest, request: Request) -> Any:
    """Answer from the knowledge base that `model` names; `kb:auto` chooses by the question."""
    try:
        found, route = await _kbs_of_model(services, body.model)
    except NotFound:
        raise NotFound(
            f"The model '{body.model}' does not exist.", hint="GET /v1/models lists them."
        ) from None
    question, history = split_messages(body.messages)
    params, left_out = _usable(body, answering_of(services, own_settings(found)).writers.generator)
    ask = await make_ask(
        services,
        found,
        question,
        route=route,
        top_k=body.retrieval.top_k,
        mode=body.retrieval.mode,
        filters=body.retrieval.filters,
        tree=body.retrieval.filter,
        structure=body.retrieval.structure,
        refine=body.retrieval.refine,
        ranking=body.retrieval.ranking,
        history=history[-services.settings.answer.history_turns :] if history else (),
        params=params,
        warnings=left_out,
    )
    chat = _Chat(ask, Links(services, request), body)
    if not body.stream:
        return await chat.plain(
            await while_present(request, _collect(_answered(services.answering.stream(ask))))
        )
    items = _answered(services.answering.stream(ask))
    first = await while_present(
        request, anext(items)
    )  # what fails before the first word gets its own HTTP status
    return EventSourceResponse(chat.chunks(first, items), sep="\n", ping=15)


def _usable(body: ChatRequest, generator: Generator) -> tuple[SamplingParams, tuple[str, ...]]:
    """The parameters to use, and words about those of OpenAI's that the engine lacks.

    Front-ends send these without being asked; what stands in `params` was meant, and is refused if it cannot be used.
    """
    standard = body.standard_params()
    lacking = generator.preset.lacking(standard)
    used = SamplingParams.model_validate({n: v for n, v in standard.given().items() if n not in lacking})
    words = tuple(f"{generator.name} has no parameter {name}: it was not used." for name in lacking)
    return body.params.over(used) if body.params else used, words


async def _kbs_of_model(services: ApiServices, model: str) -> tuple[list[KnowledgeBase], bool]:
    """The knowledge base that the model is, or all of them, and whether to choose among them."""
    name = model.removeprefix(MODEL_PREFIX)
    try:
        return [await find_kb(services, name)], False
    except NotFound:
        if name != AUTO:
            raise
    return await reachable_kbs(services, None), True


def split_messages(messages: Sequence[ChatMessage]) -> tuple[str, tuple[Turn, ...]]:
    """The question (the last message, which must be the user's) and the turns before it."""
    spoken = [message for message in messages if message.role in ("user", "assistant")]
    if not spoken or spoken[-1].role != "user" or not spoken[-1].text.strip():
        raise InvalidValue("The last message must be a user's question.")
    turns: list[Turn] = []
    question: str | None = None
    for message in spoken[:-1]:
        if message.role == "user":
            question = message.text
        elif question is not None:
            turns.append(Turn(question, message.text))
            question = None
    return spoken[-1].text.strip(), tuple(turns)


async def _answered(
    items: AsyncGenerator[Step | CitedText | Answer, None],
) -> AsyncGenerator[CitedText | Answer, None]:
    """The answer's items; OpenAI's protocol has no place for the steps before it."""
    async with aclosing(items):
        async for item in items:
            if not isinstance(item, Step):
                yield item


async def _collect(items: AsyncGenerator[CitedText | Answer, None]) -> list[CitedText | Answer]:
    async with aclosing(items):
        return [item async for item in items]


class _Chat:
    """How one answer looks to an OpenAI client."""

    def __init__(self, ask: Ask, link: Links, body: ChatRequest) -> None:
        self._link = link
        self._body = body
        self._chinese = is_cjk(ask.question)
        self._length = 0  # characters sent, for the places of annotations
        self._envelope = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": body.model,
        }

    async def plain(self, items: Sequence[CitedText | Answer]) -> dict[str, Any]:
        answer = items[-1]
        assert isinstance(answer, Answer)
        rendered = [self._render(item) for item in items]
        return {
            **self._envelope,
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "".join(text for text, _ in rendered),
                        "refusal": None,
                        "annotations": [a for _, annotations in rendered for a in annotations],
                    },
                    "finish_reason": answer.finish_reason.value,
                    "logprobs": None,
                }
            ],
            "usage": _usage(answer),
            "warnings": answer.trace.warnings,
        }

    async def chunks(
        self, first: CitedText | Answer, rest: AsyncGenerator[CitedText | Answer, None]
    ) -> AsyncGenerator[str, None]:
        try:
            async with aclosing(rest):
                yield self._chunk({"role": "assistant", "content": ""})
                for chunk in self._show(first):
                    yield chunk
                async for item in rest:
                    for chunk in self._show(item):
                        yield chunk
        except Exception as error:  # the status line is out: the stream itself must say it
            yield json.dumps(openai_error(problem_of(error)), ensure_ascii=False)
        yield "[DONE]"

    def _show(self, item: CitedText | Answer) -> list[str]:
        text, annotations = self._render(item)
        delta: dict[str, Any] = {"content": text} if text else {}
        if annotations:
            delta["annotations"] = annotations
        shown = [self._chunk(delta)] if delta else []
        if isinstance(item, Answer):
            shown.append(
                self._chunk({}, finish_reason=item.finish_reason.value, warnings=item.trace.warnings)
            )
            if self._body.stream_options and self._body.stream_options.include_usage:
                shown.append(self._json({"choices": [], "usage": _usage(item)}))
        return shown

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return self._json({"choices": [choice], **extra})

    def _json(self, fields: dict[str, Any]) -> str:
        chunk = {**self._envelope, "object": "chat.completion.chunk", **fields}
        return json.dumps(chunk, ensure_ascii=False)

    def _render(self, item: CitedText | Answer) -> tuple[str, list[dict[str, Any]]]:
        """Text with links instead of marks (for the whole answer: the sources), and its annotations."""
        if isinstance(item, Answer):
            sources = self._sources(item.citations)
            self._length += len(sources)
            return sources, []
        text, annotations = item.text, []
        for citation in item.marks:
            url = self._link(citation.kb, citation.document_id, citation.start, citation.end)
            mark = f" [{citation.number}]({url})"
            start = self._length + len(text) + 1
            text += mark
            annotations.append(
                {
                    "type": "url_citation",
                    "url_citation": {
                        "start_index": start,
                        "end_index": start + len(mark) - 2,  # of the last character
                        "title": _title(citation),
                        "url": url,
                    },
                }
            )
        self._length += len(text)
        return text, annotations

    def _sources(self, citations: Sequence[Citation]) -> str:
        if not citations:
            return ""
        lines = [
            f"{c.number}. [{_escaped(_title(c))}]({self._link(c.kb, c.document_id, c.start, c.end)})"
            for c in citations
        ]
        return "\n\n" + ("来源：" if self._chinese else "Sources:") + "\n" + "\n".join(lines)


def _title(citation: Citation) -> str:
    place = [f"p. {citation.page}"] if citation.page else []
    return ", ".join([citation.document_name, *place, *([citation.section] if citation.section else [])])


def _escaped(title: str) -> str:
    """A link text that cannot end its brackets early, nor become markup."""
    return "".join(f"\\{c}" if c in "\\[]<>`*_!|" else c for c in title.replace("\n", " "))


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": MODEL_PREFIX + name, "object": "model", "created": created, "owned_by": "rag-service"}
