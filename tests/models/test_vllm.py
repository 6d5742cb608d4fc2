"""Does the client with the preset `vllm` keep the contract of language models with a real vLLM?

It is vLLM's build for processors (`tests/servers/vllm_server.py`; the first run installs 2.5 GB). A context length is
fixed when it starts, so there are two: one of the contract's 256 tokens, one for all that wants more.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from vllm_server import API_KEY, MODEL, running_vllm

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("contract", "integration")]
from llm_contract import CONTEXT, COUNT, LLMContract, NewLLM, answer, greedy
from running_service import running_service

from core.errors import InvalidValue, ModelError
from models.llm.base import FinishReason, PromptStyle, complete
from models.llm.openai_compatible import OpenAICompatibleLLM
from models.llm.presets import VLLM
from models.llm.sampling import SamplingParams

LONG = 32_000
TIMEOUT_S = 60.0
HANDBOOK = "# Leave\n\nParental leave is 16 weeks. The company pays for all of it.\n"
OFFICES = {
    f"office-{n}.md": f"# Office {n}\n\nParental leave in office {n} is {n + 10} weeks, and the state pays for it. "
    + "The office opens at eight. " * 34
    for n in range(4)
}

pytestmark = pytest.mark.timeout(1800)  # the first run installs it


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    """Of the server with the short context and of the one with the long."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:  # side by side: each takes minutes
        servers = pool.map(lambda tokens: stack.enter_context(running_vllm(tokens)), (CONTEXT, LONG))
        yield [server.url for server in servers]


@pytest.fixture
def short_url(urls: list[str]) -> str:
    return urls[0]


@pytest.fixture
def long_url(urls: list[str]) -> str:
    return urls[1]


@asynccontextmanager
async def vllm(url: str, context_tokens: int, style: PromptStyle) -> AsyncIterator[OpenAICompatibleLLM]:
    llm = OpenAICompatibleLLM(
        url=url,
        model=MODEL,
        context_tokens=context_tokens,
        prompt_style=style,
        api_key=API_KEY,
        timeout_s=TIMEOUT_S,
        preset=VLLM,
    )
    try:
        yield llm
    finally:
        await llm.close()


class VllmContract(LLMContract):
    prompt_style: PromptStyle

    @pytest.fixture
    def new_llm(self, short_url: str, long_url: str) -> NewLLM:
        return lambda context_tokens: vllm(
            short_url if context_tokens == CONTEXT else long_url, context_tokens, self.prompt_style
        )


class TestVllmChat(VllmContract):
    prompt_style = "chat"


class TestVllmCompletion(VllmContract):
    prompt_style = "completion"


async def test_a_stream_is_what_vllm_answers_in_one_piece(short_url: str) -> None:
    body = {"model": MODEL, "prompt": COUNT[0].content, "max_tokens": 12, "temperature": 0}
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
        reply = await client.post(
            f"{short_url}/completions", json=body, headers={"Authorization": f"Bearer {API_KEY}"}
        )
    plain = reply.raise_for_status().json()
    async with vllm(short_url, CONTEXT, "completion") as llm:
        text, last = await answer(llm, COUNT, greedy(12))
    assert text == plain["choices"][0]["text"]
    assert last.finish_reason == plain["choices"][0]["finish_reason"]
    assert last.usage.prompt_tokens == plain["usage"]["prompt_tokens"]
    assert last.usage.completion_tokens == plain["usage"]["completion_tokens"]


async def test_parameters_that_only_change_the_words_reach_vllm(short_url: str) -> None:
    """vLLM ignores fields that it does not know, so what each of them does is asserted."""
    async with vllm(short_url, CONTEXT, "completion") as llm:
        free = await complete(llm, COUNT, greedy(12))
        word = free.split()[0].strip(",")
        hot: dict[str, Any] = {"max_new_tokens": 12, "temperature": 2.0, "seed": 5}
        for narrow in ({"top_k": 1}, {"min_p": 0.999}, {"top_p": 0.0001}):
            assert await complete(llm, COUNT, SamplingParams(**hot, **narrow)) == free, narrow
        assert await complete(llm, COUNT, SamplingParams(**hot)) != free
        still = {"max_new_tokens": 12, "temperature": 0.0}
        without = await complete(llm, COUNT, SamplingParams(**still, bad_words=(f" {word}", word)))
        assert word not in without
        assert await complete(llm, COUNT, SamplingParams(**still, repetition_penalty=2.0)) != free
        stop = {"max_new_tokens": 24, "temperature": 0.0, "stop": (free[2:4],)}
        _, early = await answer(llm, COUNT, SamplingParams(**stop))
        _, later = await answer(llm, COUNT, SamplingParams(**stop, min_new_tokens=10))
    assert early.usage.completion_tokens < 10 <= later.usage.completion_tokens


async def test_beams_are_searched_in_a_chat_and_refused_where_vllm_does_not_stream_them(
    short_url: str,
) -> None:
    beams = SamplingParams(max_new_tokens=6, num_beams=2, temperature=0)
    async with vllm(short_url, CONTEXT, "chat") as llm:
        text, last = await answer(llm, COUNT, beams)
    assert text
    assert last.finish_reason is FinishReason.LENGTH
    assert last.usage.completion_tokens == 12  # of both beams
    async with vllm(short_url, CONTEXT, "completion") as llm:
        with pytest.raises(InvalidValue, match="num_beams"):
            await answer(llm, COUNT, beams)


async def test_a_wrong_key_or_model_is_an_error_that_says_what_to_set(short_url: str) -> None:
    for model, key, hint in ((MODEL, "another", "llm.api_key"), ("qwen", API_KEY, "llm.model")):
        llm = OpenAICompatibleLLM(
            url=short_url, model=model, context_tokens=CONTEXT, api_key=key, preset=VLLM
        )
        with pytest.raises(ModelError) as caught:
            await answer(llm, COUNT, greedy(2))
        assert hint in (caught.value.hint or "")
        await llm.close()


def test_passages_that_do_not_fit_are_dropped_and_vllm_reads_what_was_counted(
    long_url: str,
    new_database: Callable[[], AbstractContextManager[str]],
    tmp_path: Path,
) -> None:
    variables = {
        "RAG_LLM__KIND": "vllm",
        "RAG_LLM__URL": long_url,
        "RAG_LLM__MODEL": MODEL,
        "RAG_LLM__API_KEY": API_KEY,
        "RAG_LLM__CONTEXT_TOKENS": "768",
        "RAG_LLM__MAX_NEW_TOKENS": "12",
    }
    with new_database() as database, running_service(database, tmp_path, **variables) as service:
        service.new_kb("handbook")
        service.upload("handbook", {"handbook.md": HANDBOOK, **OFFICES})
        service.work()
        question = "How many weeks is parental leave, and who pays for it?"
        trace = service.ask("handbook", question, trace=True, top_k=12)["trace"]
    notes = {stage["stage"]: stage["notes"] for stage in trace}
    assert notes["prompt"]["counted_by"] == "tokenizer"
    assert notes["compress"]["dropped_characters"] > 100
    assert notes["generate"]["prompt_tokens"] == notes["prompt"]["tokens"] <= 756
