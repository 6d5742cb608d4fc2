"""Is there an answer at all? A calibrated look at the best passages before any model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.types import Passage


class SupportCheck(Protocol):
    def supported(self, passages: Sequence[Passage]) -> bool:
        """Whether the passages can hold an answer to the question they were found for."""
        ...


class AnyPassage:
    """Whatever was found will do."""

    def supported(self, passages: Sequence[Passage]) -> bool:
        return bool(passages)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A passage supports if `dense + coverage_weight * coverage` reaches `least`.

    The numbers belong to one embedder. `benchmarks/refusal.py` computes them: `least` is where 1 % of the
    answerable questions of the development sets would be refused.
    """

    coverage_weight: float
    least: float


class CoverageAndCosine:
    """Refuses when even the best passage is neither near enough nor holds the question's words."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds

    def supported(self, passages: Sequence[Passage]) -> bool:
        t = self._thresholds
        return any(p.dense + t.coverage_weight * p.coverage >= t.least for p in passages)
