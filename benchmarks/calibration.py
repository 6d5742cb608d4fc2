"""What does a threshold of a knowledge base's own refuse? `python -m benchmarks.calibration FOLDER…`.

Every folder (layout: `benchmarks/dataset.py`) with unanswerable questions becomes a knowledge base. Half of its
answerable questions calibrate (`rag_service/calibrate.py`, 5 %), the other half and the unanswerable ones are judged by
the rule for all knowledge bases and the threshold; twenty times, each with another half. Prints one JSON line for each
folder, means in percent:

- `answerable_refused`, `unanswerable_refused`: of the questions that did not calibrate; beside it (`rule`) what the
  rule for all knowledge bases refuses of them without a threshold;
- `auc`: how often an answerable question is stronger than an unanswerable one.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import random
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from benchmarks.cache import CachedEmbedder, bundled, default_folder
from benchmarks.command import run_over_folders, sampled
from benchmarks.dataset import Dataset, Question
from benchmarks.recipes import Service, open_service
from benchmarks.retrieval import machine
from core.settings import Settings
from models.embedders.base import BUNDLED
from rag_service.answering.support import CoverageAndCosine, Judged
from rag_service.calibrate import LOSE, calibrate, refused
from rag_service.wiring import SUPPORT

SPLITS = 20


def main() -> int:
    return run_over_folders(__doc__, _print_all, sample=200)


async def _print_all(datasets: Sequence[Dataset], sample: int) -> None:
    embedder = bundled(default_folder())
    try:
        for dataset in datasets:
            if not dataset.unanswerable:
                print(f"{dataset.name}: no unanswerable question", file=sys.stderr)
                continue
            print(json.dumps(await measured(dataset, embedder, sample)), flush=True)
    finally:
        await embedder.close()


async def measured(dataset: Dataset, embedder: CachedEmbedder, sample: int) -> dict[str, Any]:
    """What the thresholds of `SPLITS` halves of the answerable questions refuse."""
    async with open_service(embedder) as service:
        await service.index(dataset.documents)
        answerable = await _judged(service, sampled(dataset.measurable, sample))
        unanswerable = await _judged(service, sampled(dataset.unanswerable, sample))
    results = [_split(answerable, unanswerable, random.Random(seed)) for seed in range(SPLITS)]
    return {
        "dataset": dataset.name,
        "answerable": len(answerable),
        "unanswerable": len(unanswerable),
        "lose": LOSE,
        **{
            name: round(fmean(result[name] for result in results), 3 if name == "threshold" else 1)
            for name in results[0]
        },
        "rule": {
            "answerable_refused": _percent([refused(each) for each in answerable]),
            "unanswerable_refused": _percent([refused(each) for each in unanswerable]),
        },
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _split(
    answerable: Sequence[Judged], unanswerable: Sequence[Judged], chance: random.Random
) -> dict[str, float]:
    shuffled = chance.sample(answerable, len(answerable))
    half = len(shuffled) // 2
    found = calibrate(shuffled[:half], unanswerable)
    assert found.auc is not None
    return {
        "threshold": found.threshold,
        "answerable_refused": _percent([refused(each, found.threshold) for each in shuffled[half:]]),
        "unanswerable_refused": _percent([refused(each, found.threshold) for each in unanswerable]),
        "auc": found.auc,
    }


async def _judged(service: Service, questions: Sequence[Question]) -> list[Judged]:
    check, settings = CoverageAndCosine(SUPPORT[BUNDLED]), Settings().retrieval
    result = []
    for question in questions:
        candidates = await service.search(question.text, top_k=settings.pool)
        supported = check.supported(question.text, candidates[: settings.top_k])
        result.append(Judged(check.strength(question.text, candidates), supported))
    return result


def _percent(those: Sequence[bool]) -> float:
    return 100 * fmean(those)


if __name__ == "__main__":
    sys.exit(main())
