"""How well does the search find what answers a question? `python -m benchmarks.retrieval FOLDER [--limit N]`.

Prints one JSON line for each recipe to stdout, progress to stderr. The layout of FOLDER is described in
`benchmarks/dataset.py`; docs/benchmarks.md explains the numbers.

- `recall@5`, `recall@10`, `mrr@10`, `ndcg@10`: of the gold documents; a document's rank is the rank of its
  first chunk.
- `support@1200`: how often the first 1,200 tokens (of the embedder) of the ranked chunks hold all the evidence or,
  where a question names none, one of its answers.
- `support_sent`, `tokens_sent`: the same for what goes into the prompt (of a peer its five best chunks), and how many
  tokens that is. `support_half`, `tokens_half`: after compression to half the weight. `at_an_end`: how often evidence
  or an answer is in the first or last passage as the model reads them, if it is in one at all.
- `index_s`: seconds to index, embedding on every core; what remembered vectors once took is included.
  `query_ms_p50`, `query_ms_p95`: milliseconds for one question, its embedding included, one at a time; `stage_ms`: the
  mean of each stage.

With `--peers`, next to LangChain, LlamaIndex, Haystack and txtai with the same embedder; run it with the Python that
`benchmarks/peers.sh` prints. Settings are read as the service reads them: `RAG_INGEST__CHUNK_CHARACTERS=250` measures
that size.

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
from statistics import fmean
from typing import Any

from benchmarks.cache import CachedEmbedder, bundled, cores, default_folder
from benchmarks.dataset import Dataset, Question, load
from benchmarks.metrics import at_an_end, measure, measure_prompts
from benchmarks.recipes import Outcome, Peer, Recipe, SeedFlat, open_service, variants
from core.errors import InvalidValue, RagError
from core.settings import load_settings


@dataclass(frozen=True, slots=True)
class Indexed:
    chunks: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="data set: corpus.jsonl, queries.jsonl, qrels.tsv")
    parser.add_argument("--limit", type=int, metavar="N", help="ask only N of the questions, evenly spread")
    parser.add_argument("--peers", action="store_true", help="also LangChain, LlamaIndex, Haystack and txtai")
    arguments = parser.parse_args()
    try:
        asyncio.run(_print_all(load(arguments.folder, limit=arguments.limit), peers=arguments.peers))
    except RagError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _print_all(dataset: Dataset, *, peers: bool) -> None:
    async with aclosing(run(dataset, default_folder(), peers=peers)) as lines:
        async for line in lines:
            print(json.dumps(line, ensure_ascii=False), flush=True)


async def run(dataset: Dataset, cache: Path, *, peers: bool = False) -> AsyncGenerator[dict[str, Any], None]:
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
        others: list[Peer] = [SeedFlat(embedder, dataset.documents)]
        if peers:
            from benchmarks.peers import all_peers  # noqa: PLC0415 - its packages are not the service's

            others += all_peers(embedder, dataset.documents)
        for other in others:
            indexed = await _timed(embedder, other.index)
            yield await _result(other, dataset, embedder, indexed)
        async with open_service(embedder, load_settings()) as service:
            indexed = await _timed(embedder, lambda: service.index(dataset.documents))
            for recipe in variants(service, embedder):
                yield await _result(recipe, dataset, embedder, indexed)
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
    outcomes: list[Outcome] = []
    milliseconds = []
    for question in questions:
        start = time.perf_counter()
        outcomes.append(await recipe.search(question.text))
        milliseconds.append((time.perf_counter() - start) * 1000)
    return {
        "recipe": recipe.name,
        "peer": recipe.peer,
        "dataset": dataset.name,
        **measure(questions, [outcome.ranking for outcome in outcomes], embedder.count_tokens),
        **_prompts(questions, outcomes, embedder),
        "queries": len(questions),
        "documents": len(dataset.documents),
        "chunks": indexed.chunks,
        "index_s": round(indexed.seconds, 1),
        "query_ms_p50": round(percentile(milliseconds, 50), 1),
        "query_ms_p95": round(percentile(milliseconds, 95), 1),
        "stage_ms": {
            name: round(fmean(outcome.stages[name] for outcome in outcomes), 2) for name in outcomes[0].stages
        },
        "embedder": embedder.name,
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _prompts(
    questions: Sequence[Question], outcomes: Sequence[Outcome], embedder: CachedEmbedder
) -> dict[str, Any]:
    count = embedder.count_tokens
    support, tokens = measure_prompts(questions, [outcome.sent for outcome in outcomes], count)
    result: dict[str, Any] = {"support_sent": support, "tokens_sent": tokens}
    if all(outcome.half is not None for outcome in outcomes):
        support, tokens = measure_prompts(questions, [outcome.half or () for outcome in outcomes], count)
        result |= {"support_half": support, "tokens_half": tokens}
    ends = [
        at_an_end([found.text for found in outcome.read], question)
        for question, outcome in zip(questions, outcomes, strict=True)
        if outcome.read
    ]
    if known := [end for end in ends if end is not None]:
        result["at_an_end"] = round(100 * fmean(known), 1)
    return result


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def machine() -> str:
    """The processor in words, and how many cores this process may use. Names like "AMD EPYC" stand for many kinds."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        first = {
            key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))
        }
        model = first.get("model name", model)
        details = [f"{key} {first[key]}" for key in ("cpu family", "model", "cpu MHz") if key in first]
        model += f" ({', '.join(details)})" if details else ""
    return f"{model}, {cores()} cores"


if __name__ == "__main__":
    sys.exit(main())
