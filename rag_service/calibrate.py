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
from rag_service.answering.support import NOTHING_FOUND, Judged

LEAST_ANSWERABLE = 20  # with fewer, 5 % are less than one question
LOSE = 5.0  # percent
FEW_REFUSED = 10.0  # percent of the unanswerable questions: refusing fewer is of no use
LITTLE_ADDED = 5.0  # percent points of them that a threshold must add to the rule to be worth its losses
DIGITS = 10_000  # the threshold has four decimals


@dataclass(frozen=True, slots=True)
class Calibration:
    """Questions that the rule for all knowledge bases refuses, or of less strength than `threshold`, are refused.

    Percents; None without unanswerable questions. `rule_…`: what the rule refuses without a threshold. `auc`: how often
    an answerable question is stronger than an unanswerable one (50: the strengths are blind).
    """

    threshold: float
    answerable: int
    unanswerable: int
    answerable_refused: float
    unanswerable_refused: float | None
    rule_answerable_refused: float
    rule_unanswerable_refused: float | None
    auc: float | None

    @property
    def note(self) -> str | None:
        """What to beware of, in words."""
        if self.unanswerable_refused is None or self.rule_unanswerable_refused is None:
            return "Without unanswerable questions nothing says how many of those the threshold refuses."
        notes = []
        if self.unanswerable_refused - self.rule_unanswerable_refused < LITTLE_ADDED:
            notes.append(
                f"The threshold adds less than {LITTLE_ADDED:.0f} points to the {self.rule_unanswerable_refused} % of "
                "the unanswerable questions that the rule for all knowledge bases refuses alone: not worth saving."
            )
        if self.unanswerable_refused < FEW_REFUSED:
            notes.append(
                f"Fewer than {FEW_REFUSED:.0f} % of the unanswerable questions are refused: strengths cannot tell "
                "them apart from answerable ones here; a model must."
            )
        return " ".join(notes) or None


def check_enough(answerable: int) -> None:
    """Raises `InvalidValue` if there are too few answerable questions for a threshold."""
    if answerable < LEAST_ANSWERABLE:
        raise InvalidValue(
            f"A threshold needs at least {LEAST_ANSWERABLE} answerable questions; these are {answerable}.",
            hint="Add questions that the documents answer, as readers ask them.",
        )


def calibrate(
    answerable: Sequence[Judged], unanswerable: Sequence[Judged] = (), *, lose: float = LOSE
) -> Calibration:
    """The highest threshold that refuses, on average and together with the rule for all knowledge bases, at most `lose`
    percent of other answerable questions like these.

    The next of n + 1 questions is equally likely to have any rank among them, so that is the floor((n + 1) * lose)-th
    smallest strength (split conformal prediction: Angelopoulos and Bates 2021, "A Gentle Introduction to Conformal
    Prediction", section 1), where those that the rule refuses are weaker than all others. Of these questions one less
    is refused. Where the rule alone refuses that many, the threshold is `NOTHING_FOUND`: it refuses no others.
    Raises `InvalidValue` if there are too few of them, or nothing was found for any.
    """
    check_enough(len(answerable))
    if all(each.strength == NOTHING_FOUND for each in answerable):
        raise InvalidValue(
            "Nothing was found for any answerable question.",
            hint="Upload the documents that answer them, and wait until they are read.",
        )
    threshold = _threshold(answerable, lose)
    return Calibration(
        threshold=threshold,
        answerable=len(answerable),
        unanswerable=len(unanswerable),
        answerable_refused=_percent_refused(answerable, threshold),
        unanswerable_refused=_percent_refused(unanswerable, threshold) if unanswerable else None,
        rule_answerable_refused=_percent_refused(answerable),
        rule_unanswerable_refused=_percent_refused(unanswerable) if unanswerable else None,
        auc=round(100 * auc(_strengths(answerable), _strengths(unanswerable)), 1) if unanswerable else None,
    )


def refused(question: Judged, threshold: float | None = None) -> bool:
    """Whether the rule refuses it, or the threshold, if there is one."""
    return not question.supported or (threshold is not None and question.strength < threshold)


def _threshold(answerable: Sequence[Judged], lose: float) -> float:
    by_rule = sum(not each.supported for each in answerable)
    others = _strengths([each for each in answerable if each.supported])
    may_be_lost = int((len(answerable) + 1) * lose / 100) - 1
    if may_be_lost < by_rule:
        return NOTHING_FOUND
    # Rounded down: a question at the threshold must not fall below it by the last digit of a vector.
    return math.floor(others[may_be_lost - by_rule] * DIGITS) / DIGITS


def _strengths(questions: Sequence[Judged]) -> list[float]:
    return sorted(each.strength for each in questions)


def _percent_refused(questions: Sequence[Judged], threshold: float | None = None) -> float:
    return round(100 * sum(refused(each, threshold) for each in questions) / len(questions), 1)


def auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """The share of pairs in which the value of `higher` is the larger one; equal ones count half."""
    ranked = sorted(lower)
    won = sum(bisect_left(ranked, value) + bisect_right(ranked, value) for value in higher) / 2
    return won / (len(higher) * len(lower))
