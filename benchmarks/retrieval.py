"""How well does the search find what answers a question? `python -m benchmarks.retrieval FOLDER [--limit N]`.

Prints one JSON line for each recipe to stdout, progress to stderr. The layout of FOLDER is described in
`benchmarks/dataset.py`; docs/benchmarks.md explains the numbers.

- `recall@5`, `recall@10`, `mrr@10`, `ndcg@10`: of the gold documents; a document's rank is the rank of its
  first chunk.
- `support@5`, `support@1200`: how often the five top chunks, or the first 1,200 tokens (of the embedder) of
  the ranking, hold all the evidence or, where a question names none, one of its answers.
- `index_s`: seconds to index, embedding on every core; what remembered vectors once took is included.
  `query_ms_p50`, `query_ms_p95`: milliseconds for one search, its embedding included, one at a time.

Passage vectors are kept in `~/.cache/rag-service-bench`, so that a second run is quick.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import json
import math
import platform
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.cache import CachedEmbedder, bundled, cores, default_folder
from benchmarks.dataset import Dataset, load
from benchmarks.metrics import Found, measure
from benchmarks.recipes import Ours, Recipe, SeedFlat, open_service
from core.errors import InvalidValue, RagError
from retrievers.base import Mode


@dataclass(frozen=True, slots=True)
class Indexed:
    chunks: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="data set: corpus.jsonl, queries.jsonl, qrels.tsv")
    parser.add_argument("--limit", type=int, metavar="N", help="ask only the first N questions")
    arguments = parser.parse_args()
    try:
        asyncio.run(_print_all(load(arguments.folder, limit=arguments.limit)))
    except RagError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _print_all(dataset: Dataset) -> None:
    async with aclosing(run(dataset, default_folder())) as lines:
        async for line in lines:
            print(json.dumps(line, ensure_ascii=False), flush=True)


async def run(dataset: Dataset, cache: Path) -> AsyncGenerator[dict[str, Any], None]:
    """One result for each recipe, as it is ready.

    Raises `InvalidValue` for a data set without a question that can be measured.
    """
    if not dataset.measurable:
        raise InvalidValue(
            f"{dataset.name} has no answerable question with a relevant document.",
            hint="Check that the ids in qrels.tsv are those of corpus.jsonl and queries.jsonl.",
        )
    embedder = bundled(cache)
    try:
        flat = SeedFlat(embedder, dataset.documents)
        indexed = await _timed(embedder, flat.index)
        yield await _result(flat, dataset, embedder, indexed)
        async with open_service(embedder) as service:
            indexed = await _timed(embedder, lambda: service.index(dataset.documents))
            for mode in Mode:
                yield await _result(Ours(service, mode), dataset, embedder, indexed)
    finally:
        await embedder.close()


async def _timed(embedder: CachedEmbedder, index: Callable[[], Awaitable[int]]) -> Indexed:
    start, saved = time.perf_counter(), embedder.saved_s
    chunks = await index()
    return Indexed(chunks, time.perf_counter() - start + embedder.saved_s - saved)


async def _result(
    recipe: Recipe, dataset: Dataset, embedder: CachedEmbedder, indexed: Indexed
) -> dict[str, Any]:
    questions = dataset.measurable
    print(f"{recipe.name}: {len(questions)} questions", file=sys.stderr, flush=True)
    await recipe.search(questions[0].text)  # loads the model and opens connections
    rankings: list[Sequence[Found]] = []
    milliseconds = []
    for question in questions:
        start = time.perf_counter()
        rankings.append(await recipe.search(question.text))
        milliseconds.append((time.perf_counter() - start) * 1000)
    return {
        "recipe": recipe.name,
        "peer": recipe.peer,
        "dataset": dataset.name,
        **measure(questions, rankings, embedder.count_tokens),
        "queries": len(questions),
        "documents": len(dataset.documents),
        "chunks": indexed.chunks,
        "index_s": round(indexed.seconds, 1),
        "query_ms_p50": round(percentile(milliseconds, 50), 1),
        "query_ms_p95": round(percentile(milliseconds, 95), 1),
        "embedder": embedder.name,
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def machine() -> str:
    """The processor in words, and how many cores this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model}, {cores()} cores"


if __name__ == "__main__":
    sys.exit(main())
