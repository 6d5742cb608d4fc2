"""Is there an answer at all? A calibrated look at the best passages before any model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from statistics import fmean
from typing import Protocol

from core.scripts import shift
from core.text import is_cjk
from core.types import Passage

STRONGEST = 8  # candidates that make up the strength of a question
NOTHING_FOUND = -1.0  # strength without a candidate: below that of any passage, as no threshold reaches 1
UNMEASURED_WEIGHT = 0.125  # of coverage, for embedders without thresholds: that of the one that was measured


@dataclass(frozen=True, slots=True)
class Judged:
    """What a `SupportCheck` says of a question and what was found for it."""

    strength: float
    supported: bool


class SupportCheck(Protocol):
    def supported(self, question: str, passages: Sequence[Passage]) -> bool:
        """Whether the passages can hold an answer to the question they were found for."""
        ...

    def strength(self, question: str, candidates: Sequence[Passage]) -> float:
        """How near the strongest candidates (as retrieved, not expanded) are to the question, on average.

        Comparable between questions to one knowledge base. `NOTHING_FOUND` without candidates.
        """
        ...


class AnyPassage:
    """Whatever was found will do."""

    def supported(self, question: str, passages: Sequence[Passage]) -> bool:
        return bool(passages)

    def strength(self, question: str, candidates: Sequence[Passage]) -> float:
        return _mean_of_strongest(p.dense + UNMEASURED_WEIGHT * p.coverage for p in candidates)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A passage supports if `similarity + coverage_weight * coverage` reaches the threshold.

    `same_script` is the threshold for a passage in the question's script (Chinese, or alphabetic),
    `other_script` for one in the other: it shares no words with the question, and its cosine is lower by 0.1.
    Where its sentences were compared with the question, it is `from_chinese` for a Chinese question to an alphabetic
    text, `to_chinese` for the reverse: embedders are nearer in one direction than in the other.
    The numbers belong to one embedder. `benchmarks/refusal.py` computes them: they are where at most 1.5 % of
    the answerable questions of the worst set are refused (docs/benchmarks.md has the evidence).
    """

    coverage_weight: float
    same_script: float
    other_script: float
    from_chinese: float
    to_chinese: float

    def least(self, passage: Passage, *, cjk: bool) -> float:
        """The threshold for the passage of a question that is Chinese (`cjk`) or not."""
        if is_cjk(passage.record.text) == cjk:
            return self.same_script
        if not passage.near:
            return self.other_script
        return self.from_chinese if cjk else self.to_chinese


def similarity(passage: Passage) -> float:
    """The passage's dense score; where its sentences were compared with the question, the mean of it and their best."""
    if not passage.near:
        return passage.dense
    best = (1 + max(near.closeness for near in passage.near)) / 2
    return (passage.dense + best) / 2


class CoverageAndCosine:
    """Refuses when no passage is near enough to the question, or holds enough of its words.

    This finds questions about something else. Those about the same things to which the documents happen to
    give no answer look like answerable ones here; they are the model's to refuse (docs/benchmarks.md).
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds

    def supported(self, question: str, passages: Sequence[Passage]) -> bool:
        if not any(map(str.isalnum, question)):  # "?!" asks nothing
            return False
        cjk = is_cjk(question)
        return any(self._above(cjk, passage) >= 0 for passage in passages)

    def strength(self, question: str, candidates: Sequence[Passage]) -> float:
        """0 is where the threshold lies. Beside enough passages in the question's script, those in the other are
        measured as rerankers do it (`core.scripts`): what only is in another script is not strong.
        """
        t, cjk = self._thresholds, is_cjk(question)
        both = sum(not passage.foreign for passage in candidates) >= STRONGEST
        lacking = shift(candidates)
        return _mean_of_strongest(
            p.dense + lacking + t.coverage_weight * p.coverage - t.same_script
            if both and p.foreign
            else self._above(cjk, p)
            for p in candidates
        )

    def _above(self, cjk: bool, passage: Passage) -> float:
        t = self._thresholds
        return similarity(passage) + t.coverage_weight * passage.coverage - t.least(passage, cjk=cjk)


def _mean_of_strongest(values: Iterable[float]) -> float:
    strongest = nlargest(STRONGEST, values)
    return fmean(strongest) if strongest else NOTHING_FOUND
