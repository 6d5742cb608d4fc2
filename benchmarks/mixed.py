"""Documents in two languages in one knowledge base: is the right one found? `python -m benchmarks.mixed FOLDER FOLDER`.

The two data sets (layout: `benchmarks/dataset.py`) hold the same documents, by their ids, in two languages, and the
same questions, as xquad_zh and xquad_zhq_end do. The knowledge base gets every other document in one language and the
rest in the other, so that each question has its answer in one of them. Prints one JSON line for each recipe and kind of
question (document in the script of the question, or in the other), percent: recall@5 and MRR@10 of the document.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.cache import bundled, default_folder
from benchmarks.dataset import CorpusDocument, Question, load
from benchmarks.metrics import gold_ranks, recall, reciprocal_rank
from benchmarks.recipes import Ours, Recipe, SeedFlat, open_service
from benchmarks.retrieval import machine
from core.errors import RagError
from core.text import is_cjk


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs=2, metavar="FOLDER", help="data sets")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="questions (200)")
    arguments = parser.parse_args()
    try:
        asyncio.run(_print_all(*arguments.folders, arguments.limit))
    except RagError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _print_all(one: Path, other: Path, limit: int) -> None:
    first, second = load(one, limit=limit), load(other)
    mixed = mixed_documents(first.documents, second.documents)
    async for line in _lines(f"{first.name} + {second.name}", mixed, first.measurable):
        print(json.dumps(line), flush=True)


def mixed_documents(
    first: Sequence[CorpusDocument], second: Sequence[CorpusDocument]
) -> list[CorpusDocument]:
    """Every other document of the first, the rest of the second, in the order of the ids."""
    others = {document.id: document for document in second}
    both = sorted((d for d in first if d.id in others), key=lambda d: (len(d.id), d.id))
    return [document if i % 2 == 0 else others[document.id] for i, document in enumerate(both)]


async def _lines(
    name: str, documents: Sequence[CorpusDocument], questions: Sequence[Question]
) -> AsyncGenerator[dict[str, Any], None]:
    chinese = {document.id: is_cjk(document.text) for document in documents}
    embedder = bundled(default_folder())
    try:
        async with open_service(embedder) as service:
            await service.index(documents)
            flat = SeedFlat(embedder, documents)
            await flat.index()
            recipes: list[Recipe] = [flat, Ours(service, embedder)]
            for recipe in recipes:
                ranks: dict[bool, list[list[int]]] = {True: [], False: []}
                for question in questions:
                    [document] = question.gold
                    found = (await recipe.search(question.text)).ranking
                    same = chinese[document] == is_cjk(question.text)
                    ranks[same].append(gold_ranks([passage.document_id for passage in found], question.gold))
                for same, each in ranks.items():
                    yield {
                        "documents": name,
                        "recipe": recipe.name,
                        "answer": "same script" if same else "other script",
                        "questions": len(each),
                        "recall@5": round(100 * fmean(recall(r, 1, 5) for r in each), 1),
                        "mrr@10": round(100 * fmean(reciprocal_rank(r, 10) for r in each), 1),
                        "machine": machine(),
                        "date": datetime.now(UTC).date().isoformat(),
                    }
    finally:
        await embedder.close()


if __name__ == "__main__":
    sys.exit(main())
