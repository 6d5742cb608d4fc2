"""How fast are the stores, how much do they find, and what does our code cost? `python -m benchmarks.stores [KIND…]`.

Every store gets the same made-up chunks (`benchmarks/store_data.py`, or vectors of your own with `--data`) and the
same questions, one at a time. Our store and its bare driver (`benchmarks/raw_stores.py`) are asked in turn, in
alternating order. Prints a JSON line for each store as it is ready and, last, two tables for docs/benchmarks.md:

- `insert`: chunks per second, written in batches of 500, all found by searches at the end.
- `MB`: memory of the server's processes (PSS) after the searches; unknown of a server that `--url` names.
- `recall`: percent of the ten truly nearest chunks among the ten found, of all chunks and with a filter that
  leaves 50, 10 and 1 percent of the documents.
- milliseconds: p50 / p95 of our store, and in brackets the ratio of our p50 to the bare driver's.

Servers are those of the tests, started one after another (`milvus` is Milvus Lite, `milvus-2.3` an old Milvus
server, `mongo` a lookalike), or yours: `--url redis=redis://host:6379`.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from benchmarks.raw_stores import RAW_CLIENTS, RawClient, Request
from benchmarks.retrieval import machine
from benchmarks.store_data import Corpus, Question
from core.errors import InvalidValue, RagError
from core.types import Hit, IndexKind, IndexName
from stores.base import VectorStore
from stores.elasticsearch import ElasticsearchStore
from stores.filters import Filter, In
from stores.milvus import MilvusStore
from stores.mongo import MongoStore
from stores.pgvector import PgVectorStore
from stores.redis import RedisStore

sys.path.append(str(Path(__file__).parents[1] / "tests" / "servers"))
from milvus_server import running_milvus
from running import LOCAL

INDEX = IndexName("bench", 1, IndexKind.CHUNKS)
K = 10
BATCH = 500
WARM_UP = 5  # questions asked before time is taken
# A slow search is not asked all questions: when it has taken this long, a few are enough.
LONG_S, FEW = 40.0, 10
PERCENTS = (100, 50, 10, 1)
TIMEOUT_S = 120.0
KINDS = ("pgvector", "redis", "elasticsearch", "milvus", "milvus-2.3", "mongo")

Search = Callable[[], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds; `raw` is the bare driver's p50."""

    p50: float
    p95: float
    raw: float

    def __str__(self) -> str:
        return f"{_short(self.p50)} / {_short(self.p95)} ({self.p50 / self.raw:.2f})"


@dataclass(slots=True)
class Result:
    kind: str
    chunks: int
    insert: float = 0.0
    megabytes: float | None = None
    recall: dict[int, float] = field(default_factory=dict)
    dense: dict[int, Times] = field(default_factory=dict)
    text: Times | None = None

    def line(self) -> dict[str, object]:
        return {
            "store": self.kind,
            "chunks": self.chunks,
            "insert": round(self.insert),
            "mb": self.megabytes,
            "recall": self.recall,
            "dense": {percent: str(times) for percent, times in self.dense.items()},
            "text": str(self.text or ""),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (all)")
    parser.add_argument("--chunks", type=int, default=20_000, metavar="N", help="chunks in the index (20000)")
    parser.add_argument("--dim", type=int, default=384, metavar="N", help="numbers in a vector (384)")
    parser.add_argument("--questions", type=int, default=100, metavar="N", help="of each kind (100)")
    parser.add_argument("--data", type=Path, metavar="FILE", help=".npy with vectors of unit length")
    parser.add_argument("--url", action="append", default=[], metavar="KIND=URL", help="a server to use")
    arguments = parser.parse_args()
    try:
        urls = dict(each.split("=", 1) for each in arguments.url)
        kinds = arguments.kinds or KINDS
        if unknown := {*kinds, *urls} - {*KINDS}:
            raise InvalidValue(
                f"There is no store {', '.join(unknown)}.", hint=f"There are {', '.join(KINDS)}."
            )
        corpus = (
            Corpus.of_file(arguments.chunks, arguments.data)
            if arguments.data
            else Corpus(arguments.chunks, arguments.dim)
        )
        _measure_all(corpus, kinds, urls, arguments.questions)
    except RagError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure_all(corpus: Corpus, kinds: Sequence[str], urls: dict[str, str], questions: int) -> None:
    results = []
    for kind in kinds:
        with _running(kind, urls) as url:
            results.append(asyncio.run(_measure(kind, url, corpus, questions, own=kind not in urls)))
        print(json.dumps(results[-1].line()), flush=True)
    print(f"\n{machine()}, {datetime.now(UTC):%Y-%m-%d}\n\n{_tables(results)}")


@contextmanager
def _running(kind: str, urls: dict[str, str]) -> Iterator[str]:
    """The address of the server: yours, or one of the tests' that ends with the block."""
    if kind in urls:
        yield urls[kind]
        return
    server = running_milvus("real") if kind == "milvus-2.3" else LOCAL[kind]()
    with server as started:
        if started.lookalike:
            _progress(f"{kind}: {started.lookalike} stands in for the real server")
        yield started.url


def _store(kind: str, url: str) -> VectorStore:
    stores = {
        "pgvector": PgVectorStore,
        "redis": RedisStore,
        "elasticsearch": ElasticsearchStore,
        "milvus": MilvusStore,
        "milvus-2.3": MilvusStore,
        "mongo": MongoStore,
    }
    return stores[kind](url, timeout_s=TIMEOUT_S)  # type: ignore[no-any-return]


async def _measure(kind: str, url: str, corpus: Corpus, number: int, *, own: bool) -> Result:
    result = Result(kind, corpus.size)
    store = _store(kind, url)
    raw = RAW_CLIENTS[kind.partition("-")[0]](url, store, INDEX)
    await store.open()
    try:
        await store.drop_index(INDEX)
        await store.ensure_index(INDEX, dim=corpus.vectors.shape[1])
        result.insert = await _fill(store, corpus)
        await raw.open()
        questions = corpus.questions(number)
        for percent in PERCENTS:
            await _measure_dense(store, raw, corpus, questions, percent, result)
        if store.capabilities.full_text:
            result.text = await _measure_text(store, raw, questions)
        result.megabytes = _memory() if own else None
        await raw.close()
        await store.drop_index(INDEX)
    finally:
        await store.close()
    return result


async def _fill(store: VectorStore, corpus: Corpus) -> float:
    """Chunks per second."""
    seconds = 0.0
    for batch in corpus.batches(BATCH):
        start = time.perf_counter()
        await store.upsert(INDEX, batch)
        seconds += time.perf_counter() - start
        _progress(f"{store.kind}: {batch[-1].record.position * corpus.documents:,} of {corpus.size:,}")
    return corpus.size / seconds


async def _measure_dense(
    store: VectorStore,
    raw: RawClient,
    corpus: Corpus,
    questions: Sequence[Question],
    percent: int,
    result: Result,
) -> None:
    allowed = max(1, corpus.documents * percent // 100)
    where: Filter | None = None
    if percent < 100:
        where = In("document_id", tuple(f"d{number}" for number in range(allowed)))
    places = corpus.places(allowed)
    found: list[list[str]] = []

    async def ours(question: Question) -> list[str]:
        return _ids(await store.search_dense(INDEX, question.vector, k=K, where=where))

    async def bare(question: Question) -> Request:
        return await raw.dense(question.vector, K, where, len(places))

    result.dense[percent] = await _compare(ours, bare, questions, found)
    best = [corpus.nearest(question.vector, K, places) for question in questions[: len(found)]]
    hits = sum(len(right & {*ids}) for right, ids in zip(best, found, strict=True))
    result.recall[percent] = round(100 * hits / sum(map(len, best)), 1)
    _progress(f"{result.kind}: dense, {percent} % of documents: {result.dense[percent]}")


async def _measure_text(store: VectorStore, raw: RawClient, questions: Sequence[Question]) -> Times:
    async def ours(question: Question) -> list[str]:
        return _ids(await store.search_text(INDEX, question.terms, k=K))

    return await _compare(ours, lambda question: raw.text(question.terms, K), questions, [])


async def _compare(
    ours: Callable[[Question], Awaitable[list[str]]],
    bare: Callable[[Question], Awaitable[Request]],
    questions: Sequence[Question],
    found: list[list[str]],
) -> Times:
    """Ask every question of both; each is the first in every second turn. What we find goes into `found`."""
    times: tuple[list[float], list[float]] = ([], [])
    gc.collect()
    begin = time.monotonic()
    for turn, question in enumerate([*questions[:WARM_UP], *questions]):
        if turn == WARM_UP:
            found.clear()
            times = ([], [])
        if turn >= WARM_UP + FEW and time.monotonic() - begin > LONG_S:
            break
        request = await bare(question)
        for who in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            ids = await (request() if who else ours(question))
            times[who].append(1000 * (time.perf_counter() - start))
            if who == 0:
                found.append(ids)
    p50, p95 = np.percentile(times[0], [50, 95])
    return Times(float(p50), float(p95), float(np.median(times[1])))


def _ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.record.id for hit in hits]


def _memory() -> float:
    """Megabytes of all processes that this one has started; shared pages count in part."""
    used = 0
    for process in psutil.Process().children(recursive=True):
        try:
            used += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return round(used / 1e6)


def _tables(results: Sequence[Result]) -> str:
    searches = [*(f"dense, {percent} %" if percent < 100 else "dense" for percent in PERCENTS), "text"]
    speed = [["store", "chunks", *searches]]
    rest = [["store", "chunks", "insert", "MB", *(f"recall, {percent} %" for percent in PERCENTS)]]
    for result in results:
        name, chunks = result.kind, f"{result.chunks:,}"
        times = [*result.dense.values(), result.text or ""]
        speed.append([name, chunks, *map(str, times)])
        memory = "" if result.megabytes is None else f"{result.megabytes:,.0f}"
        rest.append([name, chunks, f"{result.insert:,.0f}", memory, *map(str, result.recall.values())])
    return f"{_table(speed)}\n\n{_table(rest)}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
