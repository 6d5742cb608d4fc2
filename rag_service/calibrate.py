"""How strong must a question be to have an answer in this knowledge base? Found with questions of the knowledge base.

The strength is that of `answering.support`. What it means depends on the documents, so a threshold that suits one
knowledge base refuses too much or nothing in another.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import InvalidValue
from rag_service.answering.support import NOTHING_FOUND

LEAST_ANSWERABLE = 20  # with fewer, 5 % are less than one question
LOSE = 5.0  # percent
FEW_REFUSED = 10.0  # percent of the unanswerable questions: a threshold that refuses fewer is of no use
DIGITS = 10_000  # the threshold has four decimals


@dataclass(frozen=True, slots=True)
class Calibration:
    """Questions of less strength than `threshold` are refused. Percents; None without unanswerable questions.

    `auc`: how often an answerable question is stronger than an unanswerable one (50: the strengths are blind).
    """

    threshold: float
    answerable: int
    unanswerable: int
    answerable_refused: float
    unanswerable_refused: float | None
    auc: float | None

    @property
    def note(self) -> str | None:
        """What to beware of, in words."""
        if self.unanswerable_refused is None:
            return "Without unanswerable questions nothing says how many of those the threshold refuses."
        if self.unanswerable_refused < FEW_REFUSED:
            return (
                f"The threshold refuses fewer than {FEW_REFUSED:.0f} % of the unanswerable questions: strengths "
                "cannot tell them apart from answerable ones here; a model must."
            )
        return None


def check_enough(answerable: int) -> None:
    """Raises `InvalidValue` if there are too few answerable questions for a threshold."""
    if answerable < LEAST_ANSWERABLE:
        raise InvalidValue(
            f"A threshold needs at least {LEAST_ANSWERABLE} answerable questions; these are {answerable}.",
            hint="Add questions that the documents answer, as readers ask them.",
        )


def calibrate(
    answerable: Sequence[float], unanswerable: Sequence[float] = (), *, lose: float = LOSE
) -> Calibration:
    """The highest threshold that refuses, on average, at most `lose` percent of other answerable questions like these,
    given their strengths.

    The next of n + 1 questions is equally likely to have any rank among them, so that is the floor((n + 1) * lose)-th
    smallest strength (split conformal prediction: Angelopoulos and Bates 2021, "A Gentle Introduction to Conformal
    Prediction", section 1). Of these questions it refuses one less.
    Raises `InvalidValue` if there are too few of them, or nothing was found for any.
    """
    check_enough(len(answerable))
    if max(answerable) == NOTHING_FOUND:
        raise InvalidValue(
            "Nothing was found for any answerable question.",
            hint="Upload the documents that answer them, and wait until they are read.",
        )
    ranked = sorted(answerable)
    may_be_lost = max(int((len(ranked) + 1) * lose / 100) - 1, 0)
    # Rounded down: a question at the threshold must not fall below it by the last digit of a vector.
    threshold = math.floor(ranked[may_be_lost] * DIGITS) / DIGITS
    return Calibration(
        threshold=threshold,
        answerable=len(ranked),
        unanswerable=len(unanswerable),
        answerable_refused=_percent_below(threshold, ranked),
        unanswerable_refused=_percent_below(threshold, unanswerable) if unanswerable else None,
        auc=_auc(ranked, sorted(unanswerable)) if unanswerable else None,
    )


def _percent_below(threshold: float, strengths: Sequence[float]) -> float:
    return round(100 * sum(strength < threshold for strength in strengths) / len(strengths), 1)


def _auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Percent of pairs in which that of `higher` is the larger one; equal ones count half. `lower` is sorted."""
    won = sum(bisect_left(lower, value) + bisect_right(lower, value) for value in higher) / 2
    return round(100 * won / (len(higher) * len(lower)), 1)
