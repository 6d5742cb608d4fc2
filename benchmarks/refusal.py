"""Which questions should be refused before a model is asked? `python -m benchmarks.refusal FOLDER…`.

Every folder (layout: `benchmarks/dataset.py`) becomes a knowledge base, and a dozen small ones of one and three
documents. They are asked what they can answer (their own questions, and the titles of their documents as keyword
queries) and what they cannot (their own unanswerable questions, and questions of other documents and folders).
Prints one JSON line for each group of questions and, last, the thresholds that follow:

- `n`: questions; `refused`: percent that the service's rule refuses (`SUPPORT` in `rag_service/wiring.py`);
- `auc`: how often, in percent, a question of the group has less support than an answerable one of the same
  knowledge base (50: the signal is blind);
- `strength`: the signal's quantiles at 1.5, 50 and 98.5 percent.

Name folders about different things: a question of one that another can answer spoils the measurement.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import random
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.cache import bundled, default_folder
from benchmarks.command import run_over_folders, sampled
from benchmarks.dataset import CorpusDocument, Dataset, Question
from benchmarks.recipes import KB, Service, open_service
from core.settings import Settings
from core.text import is_cjk
from core.types import Passage
from models.embedders.base import BUNDLED
from rag_service.answering.support import CoverageAndCosine, Thresholds, similarity
from rag_service.calibrate import auc
from rag_service.wiring import SUPPORT

T = TypeVar("T")

LOST = 1.5  # percent of the answerable questions of the worst group that the thresholds may refuse
WEIGHTS = (0.0, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3)
SMALL = (1, 3)  # documents in a small knowledge base
SMALL_BASES = 12  # of each size
SMALL_ENOUGH = 30_000  # characters; a longer document makes no small knowledge base


@dataclass(frozen=True, slots=True)
class Signal:
    """What the best passages of one question show: dense score and coverage of each."""

    question: str
    passages: tuple[Passage, ...]

    @property
    def same_script(self) -> bool:
        """Whether the best passage is in the script of the question."""
        return bool(self.passages) and is_cjk(self.passages[0].record.text) == is_cjk(self.question)

    def strength(self, coverage_weight: float) -> float:
        return max((similarity(p) + coverage_weight * p.coverage for p in self.passages), default=0.0)


@dataclass(frozen=True, slots=True)
class Group:
    """Questions of one kind asked to knowledge bases of one kind."""

    bases: str
    questions: str
    answerable: bool
    signals: tuple[Signal, ...]

    def strengths(self, coverage_weight: float) -> list[float]:
        return [signal.strength(coverage_weight) for signal in self.signals]

    @property
    def same_script(self) -> bool:
        """Whether most of its questions are in the script of what they found."""
        return 2 * sum(signal.same_script for signal in self.signals) >= len(self.signals)

    @property
    def chinese(self) -> bool:
        """Whether its questions are."""
        return is_cjk(" ".join(signal.question for signal in self.signals))


def main() -> int:
    return run_over_folders(__doc__, _print_all, sample=150)


async def _print_all(datasets: Sequence[Dataset], sample: int) -> None:
    groups: list[Group] = []
    async with aclosing(run(datasets, sample, default_folder())) as found:
        async for group in found:
            groups.append(group)
            answerable = [g for g in groups if g.bases == group.bases and g.questions == "own"]
            print(json.dumps(_line(group, answerable[0]), ensure_ascii=False), flush=True)
    print(json.dumps(_rule(groups)), flush=True)


async def run(datasets: Sequence[Dataset], sample: int, cache: Path) -> AsyncGenerator[Group, None]:
    """The groups of every data set, the answerable ones first; at most `sample` questions each."""
    embedder = bundled(cache)
    try:
        for dataset in datasets:
            others = [other for other in datasets if other.name != dataset.name]
            async with (
                open_service(embedder) as service,
                aclosing(_large(service, dataset, others, sample)) as large,
            ):
                async for group in large:
                    yield group
                for size in SMALL:
                    for group in await _small(service, dataset, size, sample):
                        yield group
    finally:
        await embedder.close()


async def _large(
    service: Service, dataset: Dataset, others: Sequence[Dataset], sample: int
) -> AsyncGenerator[Group, None]:
    await service.index(dataset.documents)
    yield await _group(service, dataset.name, "own", _texts(dataset.measurable, sample))
    titles = sampled([document.title for document in dataset.documents if document.title], sample)
    if titles:
        yield await _group(service, dataset.name, "titles", titles)
    unanswerable = _texts(dataset.unanswerable, sample)
    if unanswerable:
        yield await _group(service, dataset.name, "own unanswerable", unanswerable, answerable=False)
    for other in others:
        texts = _texts(other.measurable, sample)
        yield await _group(service, dataset.name, f"of {other.name}", texts, answerable=False)


async def _small(service: Service, dataset: Dataset, size: int, sample: int) -> list[Group]:
    """Knowledge bases of `size` documents: what they are asked, and what the other documents can answer."""
    own, titles, foreign = [], [], []
    for number, documents in enumerate(_bases(dataset, size)):
        kb = f"small{size}x{number}"
        await service.index(documents, kb=kb)
        ids = {document.id for document in documents}
        answerable = [question for question in dataset.measurable if question.gold <= ids]
        elsewhere = [question for question in dataset.measurable if not question.gold & ids]
        share = max(1, sample // SMALL_BASES)
        own += await _signals(service, _texts(answerable, share), kb)
        titles += await _signals(service, [document.title for document in documents if document.title], kb)
        foreign += await _signals(service, _texts(elsewhere, share), kb)
    name = f"{dataset.name}, {size} documents" if size > 1 else f"{dataset.name}, 1 document"
    groups = [
        Group(name, "own", True, tuple(own)),
        Group(name, "titles", True, tuple(titles)),
        Group(name, "of other documents", False, tuple(foreign)),
    ]
    return [group for group in groups if group.signals] if own else []


def _bases(dataset: Dataset, size: int) -> list[list[CorpusDocument]]:
    """Documents for small knowledge bases; the first of each answers a question alone."""
    short = [document for document in dataset.documents if len(document.text) <= SMALL_ENOUGH]
    alone = {document_id for q in dataset.measurable if len(q.gold) == 1 for document_id in q.gold}
    first = sampled([document for document in short if document.id in alone], SMALL_BASES)
    chance = random.Random(size)
    return [
        [document, *chance.sample([other for other in short if other is not document], size - 1)]
        for document in first
        if len(short) >= size
    ]


async def _group(
    service: Service, bases: str, questions: str, texts: Sequence[str], *, answerable: bool = True
) -> Group:
    print(f"{bases}: {len(texts)} questions {questions}", file=sys.stderr, flush=True)
    return Group(bases, questions, answerable, tuple(await _signals(service, texts, KB)))


async def _signals(service: Service, texts: Sequence[str], kb: str) -> list[Signal]:
    top_k = Settings().retrieval.top_k
    return [Signal(text, tuple(await service.search(text, top_k=top_k, kb=kb))) for text in texts]


def _texts(questions: Sequence[Question], most: int) -> list[str]:
    return [question.text for question in sampled(questions, most)]


def _line(group: Group, answerable: Group) -> dict[str, Any]:
    rule = SUPPORT[BUNDLED]
    strengths = group.strengths(rule.coverage_weight)
    line: dict[str, Any] = {
        "bases": group.bases,
        "questions": group.questions,
        "answerable": group.answerable,
        "n": len(group.signals),
        "refused": _percent_refused(group, rule),
        "strength": [round(float(q), 3) for q in np.quantile(strengths, [0.015, 0.5, 0.985])],
    }
    if not group.answerable:
        line["auc"] = round(100 * auc(answerable.strengths(rule.coverage_weight), strengths), 1)
    return line


def _rule(groups: Sequence[Group]) -> dict[str, Any]:
    """The thresholds that lose `LOST` percent of the worst answerable group and refuse most of the others."""
    best = max((_thresholds(groups, weight) for weight in WEIGHTS), key=lambda rule: _caught(groups, rule))
    return {
        "rule": "similarity + coverage_weight * coverage >= threshold",
        "coverage_weight": best.coverage_weight,
        "same_script": round(best.same_script, 3),
        "from_chinese": round(best.from_chinese, 3),
        "to_chinese": round(best.to_chinese, 3),
        "refused": round(_caught(groups, best), 1),
        "refused_now": round(_caught(groups, SUPPORT[BUNDLED]), 1),
    }


def _thresholds(groups: Sequence[Group], weight: float) -> Thresholds:
    """A threshold that no group tells about stays as it is."""
    now = SUPPORT[BUNDLED]

    def least(same_script: bool, unknown: float, *, chinese: bool | None = None) -> float:
        return min(
            (
                float(np.percentile(group.strengths(weight), LOST))
                for group in groups
                if group.answerable and group.same_script == same_script and chinese in (None, group.chinese)
            ),
            default=unknown,
        )

    return Thresholds(
        coverage_weight=weight,
        same_script=least(True, now.same_script),
        other_script=now.other_script,  # its sentences are compared, but where that is turned off
        from_chinese=least(False, now.from_chinese, chinese=True),
        to_chinese=least(False, now.to_chinese, chinese=False),
    )


def _caught(groups: Sequence[Group], rule: Thresholds) -> float:
    """The mean over the unanswerable groups of the percent that the rule refuses."""
    return float(np.mean([_percent_refused(g, rule) for g in groups if not g.answerable] or [0.0]))


def _percent_refused(group: Group, rule: Thresholds) -> float:
    check = CoverageAndCosine(rule)
    refused = [not check.supported(signal.question, signal.passages) for signal in group.signals]
    return round(100 * float(np.mean(refused)), 1)


if __name__ == "__main__":
    sys.exit(main())
