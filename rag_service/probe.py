"""Which models are configured, do they answer, and how fast? Each is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from itertools import pairwise

from pydantic import BaseModel, Field

from core.errors import RagError
from core.settings import Settings
from models.embedders.base import Embedder
from models.llm.base import LLM, Message, Role
from models.llm.sampling import SamplingParams
from models.rerankers.base import RerankModel

TRIAL = "Count from one to twenty: one, two, three,"
TRIAL_PARAMS = SamplingParams(max_new_tokens=32, temperature=0.0)


class LlmReport(BaseModel):
    """A configured language model."""

    name: str = Field(examples=["default"], description="As knowledge bases and `stages` choose it.")
    model: str = Field(examples=["ollama qwen3:8b"], description="Engine and model.")
    stages: list[str] = Field(description="What it does for knowledge bases that do not choose.")
    context_tokens: int | None = None
    concurrency: int | None = Field(None, description="Answers at a time.")
    prompt_style: str | None = None
    parameters: list[str] = Field([], description="Sampling parameters that its engine knows.")
    reachable: bool
    problem: str | None = Field(None, description="Why it is not, and what to do.")
    first_token_ms: float | None = Field(None, description="Only where it was tested.")
    tokens_per_s: float | None = Field(None, description="After the first token; only where it was tested.")


class SearchModelReport(BaseModel):
    """The embedder, or the rerank model."""

    name: str = Field(examples=["embedder"])
    does: str = Field(examples=["embed"])
    model: str
    reachable: bool
    problem: str | None = Field(None, description="Why it is not, and what to do.")
    first_ms: float | None = Field(None, description="The first question, for which a local model is loaded.")
    answer_ms: float | None = Field(None, description="The next one.")


async def search_models(embedder: Embedder, reranker: RerankModel | None) -> list[SearchModelReport]:
    """The embedder and, where there is one, the rerank model, asked twice each and closed."""
    found = [
        await _search_model("embedder", "embed", embedder, lambda n: embedder.embed_queries([f"{TRIAL} {n}"]))
    ]
    if reranker is not None:
        found.append(
            await _search_model("reranker", "rerank", reranker, lambda n: reranker.scores(f"{n}", [TRIAL]))
        )
    return found


async def _search_model(
    name: str, does: str, model: Embedder | RerankModel, ask: Callable[[int], Awaitable[object]]
) -> SearchModelReport:
    times = [time.perf_counter()]
    try:
        for number in range(2):
            await ask(number)
            times.append(time.perf_counter())
    except RagError as error:
        return SearchModelReport(name=name, does=does, model=model.name, reachable=False, problem=str(error))
    finally:
        await model.close()
    first, then = (round((end - start) * 1000, 1) for start, end in pairwise(times))
    return SearchModelReport(
        name=name, does=does, model=model.name, reachable=True, first_ms=first, answer_ms=then
    )


async def report(
    settings: Settings, llms: Mapping[str, LLM | None], *, test: bool = False
) -> list[LlmReport]:
    """Each model, asked whether it is there; with `test` also for a short answer."""
    return list(await asyncio.gather(*(_report(settings, name, llm, test) for name, llm in llms.items())))


async def _report(settings: Settings, name: str, llm: LLM | None, test: bool) -> LlmReport:
    stages = [stage for stage, chosen in settings.stages.model_dump().items() if chosen == name]
    if llm is None:
        return LlmReport(name=name, model="extractive (no language model)", stages=stages, reachable=True)
    found = LlmReport(
        name=name,
        model=llm.name,
        stages=stages,
        context_tokens=llm.context_tokens,
        concurrency=settings.all_llms[name].concurrency,
        prompt_style=llm.prompt_style,
        parameters=list(llm.preset.names),
        reachable=True,
    )
    try:
        await llm.ping()
        return found.model_copy(update=await _speed(llm) if test else {})
    except RagError as error:
        return found.model_copy(update={"reachable": False, "problem": str(error)})


async def _speed(llm: LLM) -> dict[str, float]:
    start = time.perf_counter()
    first = last = 0.0
    tokens = 0
    async with aclosing(llm.stream([Message(Role.USER, TRIAL)], TRIAL_PARAMS)) as deltas:
        async for delta in deltas:
            last = time.perf_counter()
            if delta.text and not first:
                first = last
            if delta.finish_reason is not None:
                tokens = delta.usage.completion_tokens
    speed = {"first_token_ms": round((first - start) * 1000, 1)} if first else {}
    if first and tokens > 1 and last > first:
        speed["tokens_per_s"] = round((tokens - 1) / (last - first), 1)
    return speed
