"""What does going through this service's client cost? Time to the first token and tokens per second, ours and direct.

    .venv/bin/python -m benchmarks.llm_overhead [--rounds 20]

Runs llama.cpp with the demo's weights and asks it in turn directly (plain HTTP, reading the event stream) and through
what an answer goes through: `LimitedLLM`, `RetryingLLM` and `OpenAICompatibleLLM`. Every prompt is new, so that nothing
is answered from the engine's cache; who is asked first changes from round to round. Each round also hangs up on an
answer without end, with room for one at a time, and asks again: so long is a place taken after its reader has left.
Prints medians, the ratio of first tokens and that of speeds, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would slow both

import httpx

from models.llm.base import LLM, Message, Role
from models.llm.demo_model import demo_model
from models.llm.limits import LimitedLLM, RetryingLLM
from models.llm.llama_cpp import LlamaCppLLM
from models.llm.sampling import SamplingParams

CACHE = Path.home() / ".cache" / "rag-service-tests"
CONTEXT = 2048
TOKENS = 32
PARAMS = SamplingParams(max_new_tokens=TOKENS, temperature=0.0)
ENDLESS = SamplingParams(max_new_tokens=CONTEXT, temperature=0.0)
FILLER = "The library opens at nine and closes at six. " * 20
Timing = tuple[float, float]  # seconds to the first token, tokens per second after it


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    CACHE.mkdir(parents=True, exist_ok=True)
    engine = LlamaCppLLM(
        model_path=demo_model(CACHE).path, context_tokens=CONTEXT, prompt_style="completion", threads=1
    )
    try:
        ours = LimitedLLM(RetryingLLM(engine), turns=asyncio.Semaphore(1), timeout_s=120)
        await ours.ping()
        server = engine._llm
        assert server is not None
        url, key = server._url, server._client.api_key
        async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
            ways: dict[str, Callable[[str], Awaitable[Timing]]] = {
                "direct": partial(_direct, client, url, key),
                "ours": partial(_ours, ours),
            }
            timings: dict[str, list[Timing]] = {name: [] for name in ways}
            left: list[float] = []
            for number in range(rounds + 1):
                for name in sorted(ways, reverse=number % 2 == 0):
                    timings[name].append(await ways[name](f"{number} {name}. {FILLER}"))
                left.append(await _after_hanging_up(ours))
    finally:
        await engine.close()
    # The first round warms up.
    summary = _summary({name: each[1:] for name, each in timings.items()}, rounds)
    summary["next_first_token_after_hanging_up_ms"] = {
        "median": round(median(left[1:]) * 1000),
        "longest": round(max(left[1:]) * 1000),
    }
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 0


async def _direct(client: httpx.AsyncClient, url: str, key: str, prompt: str) -> Timing:
    body = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True}
    start = time.perf_counter()
    times = []
    headers = {"Authorization": f"Bearer {key}"}
    async with client.stream("POST", f"{url}/completions", json=body, headers=headers) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["text"]:
                times.append(time.perf_counter())
    return _timing(start, times)


async def _ours(llm: LLM, prompt: str) -> Timing:
    start = time.perf_counter()
    times = []
    async with aclosing(llm.stream([Message(Role.USER, prompt)], PARAMS)) as deltas:
        async for delta in deltas:
            if delta.text:
                times.append(time.perf_counter())
    return _timing(start, times)


async def _after_hanging_up(llm: LLM) -> float:
    """Seconds from a reader's leaving to the first token for the next one, whose prompt is short."""
    async with aclosing(llm.stream([Message(Role.USER, "1, 2, 3,")], ENDLESS)) as deltas:
        for _ in range(3):
            await anext(deltas)
        start = time.perf_counter()
    async with aclosing(llm.stream([Message(Role.USER, "A, B, C,")], PARAMS)) as deltas:
        async for delta in deltas:
            if delta.text:
                break
    return time.perf_counter() - start


def _timing(start: float, times: list[float]) -> Timing:
    return times[0] - start, (len(times) - 1) / (times[-1] - times[0])


def _summary(timings: dict[str, list[Timing]], rounds: int) -> dict[str, object]:
    first = {name: median(t[0] for t in each) for name, each in timings.items()}
    speed = {name: median(t[1] for t in each) for name, each in timings.items()}
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "engine": "llama.cpp, Gemma 3 270M Q4_K_M, 1 thread, prompt of about 230 tokens",
        "rounds": rounds,
        "first_token_ms": {name: round(value * 1000, 1) for name, value in first.items()},
        "tokens_per_s": {name: round(value, 1) for name, value in speed.items()},
        "first_token_ratio": round(first["ours"] / first["direct"], 3),
        "first_token_added_ms": round((first["ours"] - first["direct"]) * 1000, 1),
        "speed_ratio": round(speed["ours"] / speed["direct"], 3),
    }


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
