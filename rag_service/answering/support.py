"""Is there an answer at all? A calibrated look at the best passages before any model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.text import is_cjk
from core.types import Passage


class SupportCheck(Protocol):
    def supported(self, question: str, passages: Sequence[Passage]) -> bool:
        """Whether the passages can hold an answer to the question they were found for."""
        ...


class AnyPassage:
    """Whatever was found will do."""

    def supported(self, question: str, passages: Sequence[Passage]) -> bool:
        return bool(passages)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A passage supports if `dense + coverage_weight * coverage` reaches the threshold.

    `same_script` is the threshold for a passage in the question's script (Chinese, or alphabetic),
    `other_script` for one in the other: it shares no words with the question, and its cosine is lower by 0.1.
    The numbers belong to one embedder. `benchmarks/refusal.py` computes them: they are where at most 1.5 % of
    the answerable questions of the worst set are refused (docs/benchmarks.md has the evidence).
    """

    coverage_weight: float
    same_script: float
    other_script: float


class CoverageAndCosine:
    """Refuses when no passage is near enough to the question, or holds enough of its words.

    This finds questions about something else. Those about the same things to which the documents happen to
    give no answer look like answerable ones here; they are the model's to refuse (docs/benchmarks.md).
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds

    def supported(self, question: str, passages: Sequence[Passage]) -> bool:
        return any(self._supports(is_cjk(question), passage) for passage in passages)

    def _supports(self, cjk: bool, passage: Passage) -> bool:
        t = self._thresholds
        least = t.same_script if is_cjk(passage.record.text) == cjk else t.other_script
        return passage.dense + t.coverage_weight * passage.coverage >= least
