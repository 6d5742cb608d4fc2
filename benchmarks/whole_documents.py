"""Which documents cover a topic that no passage holds alone? `python -m benchmarks.whole_documents FOLDER…`.

For each longer document of a data set (layout: `benchmarks/dataset.py`) a question is made, "Which documents cover A, B
and C?", of three phrases that stand far apart in it: one of its beginning, its middle and its end, those with the
rarest words. It is the gold document. Nothing but the words of the document tells it from the others, so this flatters
keyword search, of every recipe alike. Prints one JSON line for each folder and recipe, percent:

- `flat`, `union`, `strict`: the chunk search in these modes with the question's topic; a document ranks where its first
  chunk does, the order is the default reranker's;
- `overview`: what `search` and `ask` do with such a question, by the passages that stand for documents.

`first`, `recall@5`: how often the document is the first, among the first five.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.cache import CachedEmbedder, bundled, default_folder
from benchmarks.command import run_over_folders, sampled
from benchmarks.dataset import CorpusDocument, Dataset
from benchmarks.recipes import SEPARATOR, Service, open_service
from benchmarks.retrieval import machine
from core.text import is_cjk, terms, weight
from core.types import Passage
from retrievers.base import Mode

LEAST_WEIGHT = 750.0  # Chinese characters of a document: three chunks
PHRASE = (4.0, 16.0)  # weight of a phrase
_PHRASE = re.compile(r"[^,.;:!?()\n，。；：！？、（）“”\"《》]+")


def main() -> int:
    return run_over_folders(__doc__, _print_all, sample=100)


async def _print_all(datasets: Sequence[Dataset], sample: int) -> None:
    embedder = bundled(default_folder())
    try:
        for dataset in datasets:
            for line in await measured(dataset, embedder, sample):
                print(json.dumps(line), flush=True)
    finally:
        await embedder.close()


async def measured(dataset: Dataset, embedder: CachedEmbedder, sample: int) -> list[dict[str, Any]]:
    topics = topics_of(dataset.documents)
    chosen = sampled(sorted(topics), sample)
    async with open_service(embedder) as service:
        await service.index(dataset.documents)
        recipes: dict[str, Callable[[str], Awaitable[Sequence[Passage]]]] = {
            **{mode.value: _by_chunks(service, mode) for mode in Mode},
            "overview": lambda topic: service.overview(_question(topic)),
        }
        results = []
        for name, search in recipes.items():
            ranks = [_rank(await search(topics[document]), document) for document in chosen]
            results.append(
                {
                    "dataset": dataset.name,
                    "recipe": name,
                    "documents": len(dataset.documents),
                    "questions": len(ranks),
                    "first": _percent([rank == 1 for rank in ranks]),
                    "recall@5": _percent([rank <= 5 for rank in ranks]),
                    "machine": machine(),
                    "date": datetime.now(UTC).date().isoformat(),
                }
            )
    return results


def topics_of(documents: Sequence[CorpusDocument]) -> dict[str, str]:
    """The topic of each document that is long enough, by its id."""
    frequency = Counter(term for document in documents for term in set(terms(document.text)))
    topics = {}
    for document in documents:
        if weight(document.text) < LEAST_WEIGHT:
            continue
        third = len(document.text) // 3 + 1
        parts = [document.text[start : start + third] for start in range(0, len(document.text), third)]
        phrases = [phrase for part in parts if (phrase := _rarest(part, frequency))]
        if len(phrases) == 3:
            a, b, c = phrases
            topics[document.id] = f"{a}、{b}和{c}" if is_cjk(document.text) else f"{a}, {b} and {c}"
    return topics


def _rarest(text: str, frequency: Counter[str]) -> str:
    """The phrase whose words are in the fewest documents, the first of equals; none of the text's edges."""
    low, high = PHRASE
    found = [
        phrase for match in _PHRASE.findall(text)[1:-1] if low <= weight(phrase := match.strip()) <= high
    ]
    scored = [(sum(frequency[t] for t in words) / len(words), p) for p in found if (words := set(terms(p)))]
    return min(scored, default=(0.0, ""))[1]


def _question(topic: str) -> str:
    return f"哪些文档提到{topic}？" if is_cjk(topic) else f"Which documents cover {topic}?"


def _by_chunks(service: Service, mode: Mode) -> Callable[[str], Awaitable[Sequence[Passage]]]:
    async def search(topic: str) -> Sequence[Passage]:
        return await service.search(topic, top_k=40, mode=mode)

    return search


def _rank(passages: Sequence[Passage], document: str) -> int:
    """The rank of the document among the documents, from 1; a large number if it is not there."""
    ids = dict.fromkeys(passage.record.document_id.partition(SEPARATOR)[2] for passage in passages)
    return list(ids).index(document) + 1 if document in ids else 10**6


def _percent(hits: Sequence[bool]) -> float:
    return round(100 * sum(hits) / max(len(hits), 1), 1)


if __name__ == "__main__":
    sys.exit(main())
