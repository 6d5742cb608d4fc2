"""What is a generator given to do?"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from core.types import Passage
from models.llm.sampling import NONE_GIVEN, SamplingParams
from rerankers.ranking import Ranking


class AnswerMode(StrEnum):
    """How the passages reach the model.

    STUFF: all in one prompt. REFINE: one after the other, each improving the answer so far. TREE_SUMMARIZE:
    summarised until they fit into one prompt. MAP_REDUCE: an answer for each two passages, then the answers joined.
    """

    STUFF = "stuff"
    REFINE = "refine"
    TREE_SUMMARIZE = "tree_summarize"
    MAP_REDUCE = "map_reduce"


@dataclass(frozen=True, slots=True)
class Task:
    """A question and the passages (best first) to answer it from.

    `asked` are the user's own words, `question` what they mean in the conversation. `params` are all that hold for
    this answer; `template` is the prompt template if the request names one. `ranking` says how passages are
    cut and ordered.
    """

    asked: str
    question: str
    passages: tuple[Passage, ...]
    params: SamplingParams = NONE_GIVEN
    mode: AnswerMode = AnswerMode.STUFF
    template: str | None = None
    ranking: Ranking = field(default_factory=Ranking)
