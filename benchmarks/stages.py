"""What do the stages of an answer take in a large knowledge base, but for models and the vector store?

    .venv/bin/python -m benchmarks.stages FOLDER [--chunks 100000] [--questions 200]

`rag-service up` gets a knowledge base of so many chunks (`benchmarks/live.py`). Then the answering pipeline, opened in
this process as the API opens it, answers the data set's questions one after the other, with quotes instead of a model.
Prints p50 and p95 of each stage from the traces and of their sum, in milliseconds; of the time in which the embedder
or the store was waited for, which is part of `retrieve`; and of the sum without it: by the clock, and in CPU time of
the thread that answers, which other work on the machine changes less. JSON.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.dataset import load
from benchmarks.live import KNOWN, fill, live_service, percentiles
from benchmarks.retrieval import machine
from core.db import kbs
from core.settings import load_settings
from rag_service.api.ask import make_ask
from rag_service.wiring import ApiServices, open_api

KB = "stages"
WARM_UP = 20  # questions that are not counted


class Waited:
    """A store or an embedder, and for how long it was waited for: what overlaps counts once."""

    seconds = 0.0  # of all of them together
    cpu = 0.0  # of this thread meanwhile
    inside = 0
    since = (0.0, 0.0)

    def __init__(self, inner: Any, methods: Sequence[str]) -> None:
        self._inner = inner
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._methods:
            return found

        async def waited(*arguments: Any, **named: Any) -> Any:
            if not Waited.inside:
                Waited.since = (time.perf_counter(), time.thread_time())
            Waited.inside += 1
            try:
                return await found(*arguments, **named)
            finally:
                Waited.inside -= 1
                if not Waited.inside:
                    Waited.seconds += time.perf_counter() - Waited.since[0]
                    Waited.cpu += time.thread_time() - Waited.since[1]

        return waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a data set")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--base", type=int, default=2000, help="chunks that are really embedded (2000)")
    parser.add_argument("--questions", type=int, default=200)
    chosen = parser.parse_args()
    dataset = load(chosen.folder)
    questions = [question.text for question in dataset.questions[: WARM_UP + chosen.questions]]
    with live_service(known=KNOWN) as service:
        chunks = fill(service, KB, dataset.documents, base=chosen.base, chunks=chosen.chunks)
        stages = asyncio.run(_measure(service.part("api").environ(), questions))
    result = {name: percentiles(seconds) for name, seconds in stages.items()}
    about = {
        "chunks": chunks,
        "questions": len(questions) - WARM_UP,
        "load": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps({"stages": result, **about}, indent=1))


async def _measure(environment: dict[str, str], questions: Sequence[str]) -> dict[str, list[float]]:
    settings = load_settings({k: v for k, v in environment.items() if k.startswith("RAG_")})
    taken: dict[str, list[float]] = defaultdict(list)
    async with open_api(settings) as services:
        await _watch(services)
        async with services.database.transaction() as session:
            kb = await kbs.by_name(session, KB)
        for number, question in enumerate(questions):
            Waited.seconds = Waited.cpu = 0.0
            ask = await make_ask(services, [kb], question)
            begun = time.thread_time()
            answer = await services.answering.answer(ask)
            cpu = time.thread_time() - begun
            if number < WARM_UP:
                continue
            spent = {stage.stage: stage.milliseconds / 1000 for stage in answer.trace.stages}
            for stage, seconds in spent.items():
                taken[stage].append(seconds)
            taken["all"].append(sum(spent.values()))
            taken["embedding and store"].append(Waited.seconds)
            taken["all without embedding and store"].append(sum(spent.values()) - Waited.seconds)
            taken["the same in CPU time"].append(cpu - Waited.cpu)
    return taken


async def _watch(services: ApiServices) -> None:
    """Put watches around the embedder and the store that searches ask for."""
    embedders: Any = services.embedders
    embedders._by_name[embedders.current.name] = Waited(embedders.current, ("embed_queries",))
    store = await services.stores.get("pgvector")
    watched: Any = Waited(store, ("search_dense", "search_text", "term_stats"))
    services.stores._open["pgvector"] = watched


if __name__ == "__main__":
    main()
