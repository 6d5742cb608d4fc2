"""Do many askers share a real engine fairly, and does it stop when one of them leaves?

Against a real Ollama that answers two at a time, and llama.cpp in its child process.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from llm_contract import COUNT, greedy

from models.llm.base import LLM
from models.llm.demo_model import demo_model
from models.llm.limits import LimitedLLM, RetryingLLM
from models.llm.llama_cpp import LlamaCppLLM
from models.llm.ollama import OllamaLLM

CACHE = Path.home() / ".cache" / "rag-service-tests"
ASKERS = 10
ENDLESS = greedy(20_000)
STILL = 0.02  # CPU-seconds in half a second: a process that generates takes about as many as it has threads

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="Go builds Ollama, and is not here"),
    pytest.mark.timeout(1500),  # the first run builds it
]


@asynccontextmanager
async def llama_cpp(_: str) -> AsyncIterator[LLM]:
    CACHE.mkdir(parents=True, exist_ok=True)
    llm = LlamaCppLLM(
        model_path=demo_model(CACHE).path,
        context_tokens=24_000,
        prompt_style="completion",
        concurrency=2,
        threads=1,
    )
    try:
        yield llm
    finally:
        await llm.close()


@asynccontextmanager
async def real_ollama(url: str) -> AsyncIterator[LLM]:
    llm = OllamaLLM(url=url, model="demo", context_tokens=24_000)
    try:
        yield llm
    finally:
        await llm.close()


ENGINES = {"llama.cpp": llama_cpp, "ollama": real_ollama}


@pytest.mark.parametrize("engine", ENGINES)
async def test_ten_at_once_with_a_limit_of_two_all_answered_and_in_their_order(
    engine: str, ollama_url: str
) -> None:
    async with ENGINES[engine](ollama_url) as inner:
        llm = LimitedLLM(RetryingLLM(inner), turns=asyncio.Semaphore(2), timeout_s=300)
        first_tokens: list[int] = []

        async def ask(number: int) -> int:
            tokens = 0
            async with aclosing(llm.stream(COUNT, greedy(8))) as deltas:
                async for delta in deltas:
                    if delta.text and number not in first_tokens:
                        first_tokens.append(number)
                    tokens += delta.usage.completion_tokens
            return tokens

        counts = await asyncio.gather(*(ask(number) for number in range(ASKERS)))
    assert counts == [8] * ASKERS
    # Two write side by side, so neighbours may overtake each other and nobody else.
    assert all(abs(place - number) <= 1 for place, number in enumerate(first_tokens))


@pytest.mark.parametrize("engine", ENGINES)
async def test_when_the_reader_leaves_the_engine_stops_and_the_next_has_its_turn(
    engine: str, ollama_url: str
) -> None:
    async with ENGINES[engine](ollama_url) as inner:
        llm = LimitedLLM(inner, turns=asyncio.Semaphore(1), timeout_s=300)
        async with aclosing(llm.stream(COUNT, ENDLESS)) as deltas:
            for _ in range(3):
                await anext(deltas)
            assert await _cpu_seconds(0.5) > STILL  # it is writing
        async with asyncio.timeout(10):  # the answer would take minutes
            while await _cpu_seconds(0.5) > STILL:
                pass
        async with asyncio.timeout(60), aclosing(llm.stream(COUNT, greedy(2))) as deltas:
            assert [delta async for delta in deltas][-1].finish_reason is not None


async def _cpu_seconds(seconds: float) -> float:
    """What this process's children, and theirs, take of the CPU in so many seconds."""
    before = _cpu()
    start = time.monotonic()
    await asyncio.sleep(seconds)
    return (_cpu() - before) / (time.monotonic() - start) * seconds


def _cpu() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return total
