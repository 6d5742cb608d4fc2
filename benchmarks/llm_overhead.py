"""What does going through this service's client cost? Time to the first token and tokens per second, ours and direct.

    .venv/bin/python -m benchmarks.llm_overhead [--rounds 20] [--ollama http://127.0.0.1:11434 --model NAME]

Runs llama.cpp with the demo's weights, or uses a model of an Ollama that runs, and asks it directly (plain HTTP,
reading what is streamed) and, in turn, through what an answer goes through: `LimitedLLM`, `RetryingLLM` and the
client. Every prompt is new, so that nothing is answered from the engine's cache; who is asked first changes from round
to round. Each round also hangs up on an answer without end, with room for one at a time, and asks again: so long is a
place taken after its reader has left. Prints medians, the ratio of first tokens and that of speeds, as JSON.
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
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would slow both

import httpx

from models.llm.base import LLM, Message, Role
from models.llm.demo_model import demo_model
from models.llm.limits import LimitedLLM, RetryingLLM
from models.llm.llama_cpp import LlamaCppLLM
from models.llm.ollama import OllamaLLM
from models.llm.sampling import SamplingParams

CACHE = Path.home() / ".cache" / "rag-service-tests"
CONTEXT = 2048
TOKENS = 32
PARAMS = SamplingParams(max_new_tokens=TOKENS, temperature=0.0)
ENDLESS = SamplingParams(max_new_tokens=CONTEXT, temperature=0.0)
FILLER = "The library opens at nine and closes at six. " * 20
Timing = tuple[float, float]  # seconds to the first token, tokens per second after it


@dataclass(frozen=True, slots=True)
class Engine:
    """Our client, and how it is asked directly: a prompt as a request, a line of the answer as a piece of text."""

    llm: LLM
    name: str
    url: str
    headers: dict[str, str]
    body: Callable[[str], dict[str, Any]]
    text: Callable[[str], str]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ollama", metavar="URL", help="an Ollama that runs, instead of llama.cpp")
    parser.add_argument("--model", default="demo", help="of Ollama (demo)")
    chosen = parser.parse_args()
    engine = _ollama(chosen.ollama, chosen.model) if chosen.ollama else await _llama_cpp()
    try:
        summary = await _measured(engine, chosen.rounds)
    finally:
        await engine.llm.close()
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 0


async def _llama_cpp() -> Engine:
    CACHE.mkdir(parents=True, exist_ok=True)
    llm = LlamaCppLLM(
        model_path=demo_model(CACHE).path, context_tokens=CONTEXT, prompt_style="completion", threads=1
    )
    await llm.ping()
    server = llm._llm
    assert server is not None

    def text(line: str) -> str:
        return str(json.loads(line[6:])["choices"][0]["text"]) if line.startswith("data: {") else ""

    return Engine(
        llm,
        "llama.cpp, Gemma 3 270M Q4_K_M, 1 thread",
        f"{server._url}/completions",
        {"Authorization": f"Bearer {server._client.api_key}"},
        lambda prompt: {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "stream": True},
        text,
    )


def _ollama(url: str, model: str) -> Engine:
    options = {"num_predict": TOKENS, "temperature": 0, "num_ctx": CONTEXT}  # another context is another load
    return Engine(
        OllamaLLM(url=url, model=model, context_tokens=CONTEXT, prompt_style="completion"),
        f"Ollama, {model}",
        f"{url}/api/generate",
        {},
        lambda prompt: {"model": model, "prompt": prompt, "raw": True, "options": options},
        lambda line: str(json.loads(line)["response"]) if line else "",
    )


async def _measured(engine: Engine, rounds: int) -> dict[str, object]:
    ours = LimitedLLM(RetryingLLM(engine.llm), turns=asyncio.Semaphore(1), timeout_s=120)
    async with httpx.AsyncClient(trust_env=False, timeout=120) as client:
        ways: dict[str, Callable[[str], Awaitable[Timing]]] = {
            "direct": partial(_direct, client, engine),
            "ours": partial(_ours, ours),
        }
        timings: dict[str, list[Timing]] = {name: [] for name in ways}
        left: list[float] = []
        for number in range(rounds + 1):
            for name in sorted(ways, reverse=number % 2 == 0):
                timings[name].append(await ways[name](f"{number} {name}. {FILLER}"))
            left.append(await _after_hanging_up(ours))
    # The first round warms up.
    summary: dict[str, object] = {"engine": f"{engine.name}, prompt of about 230 tokens"}
    summary |= _summary({name: each[1:] for name, each in timings.items()}, rounds)
    summary["next_first_token_after_hanging_up_ms"] = {
        "median": round(median(left[1:]) * 1000),
        "longest": round(max(left[1:]) * 1000),
    }
    return summary


async def _direct(client: httpx.AsyncClient, engine: Engine, prompt: str) -> Timing:
    start = time.perf_counter()
    times = []
    async with client.stream(
        "POST", engine.url, json=engine.body(prompt), headers=engine.headers
    ) as response:
        async for line in response.aiter_lines():
            if engine.text(line):
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
        "rounds": rounds,
        "first_token_ms": {name: round(value * 1000, 1) for name, value in first.items()},
        "tokens_per_s": {name: round(value, 1) for name, value in speed.items()},
        "first_token_ratio": round(first["ours"] / first["direct"], 3),
        "first_token_added_ms": round((first["ours"] - first["direct"]) * 1000, 1),
        "speed_ratio": round(speed["ours"] / speed["direct"], 3),
    }


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
