"""What becomes of what was found: who orders it, what is left out, how it is cut, and when it is not enough?

Chosen for each knowledge base and each request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from core.choices import merged_choices


class RankedBy(StrEnum):
    """COVERAGE: similarity plus the question's words, no model. MODEL: the rerank model of the settings. LLM: a
    language model that reads the candidates and lists them (Sun et al. 2023, "Is ChatGPT Good at Search?"). NONE: as
    found.
    """

    COVERAGE = "coverage"
    MODEL = "model"
    LLM = "llm"
    NONE = "none"


class Order(StrEnum):
    """ENDS: the best at the beginning and the end of the prompt (Liu et al. 2023). BEST_FIRST: as they are ranked."""

    ENDS = "ends"
    BEST_FIRST = "best_first"


class CutBy(StrEnum):
    """SENTENCES: the least related sentences go. LLM: a language model says which sentences stay. NONE: whole
    passages go, the last ones first.
    """

    SENTENCES = "sentences"
    LLM = "llm"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Ranking:
    """What is on, and the defaults; the meaning stands in `RankingChoice`."""

    reranker: RankedBy | None = None
    sentences: bool = True
    distinct: bool | None = None
    diversity: float = 0.0
    order: Order = Order.ENDS
    compression: CutBy = CutBy.SENTENCES
    passage_tokens: int | None = None
    refuse: bool = True
    least_strength: float | None = None

    @classmethod
    def chosen(cls, *choices: RankingChoice | Mapping[str, Any] | None) -> Self:
        """The defaults, changed by what the choices say, later ones over earlier ones."""
        checked = RankingChoice.model_validate(merged_choices(*choices))
        said = checked.model_dump(exclude_none=True)
        return cls(**{field.name: said[field.name] for field in fields(cls) if field.name in said})


class RankingChoice(BaseModel):
    """What a knowledge base or a request says about it; null leaves it as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reranker: RankedBy | None = Field(
        None,
        description="Who orders what was found: `coverage` (no model), `model` (the one of `reranker.kind`), `llm` (a "
        "language model that follows instructions, `stages.rerank`), `none` (as found). Default: what `reranker.kind` "
        "says.",
    )
    sentences: bool | None = Field(
        None,
        description="Passages in another language than the question are compared with it sentence by sentence: no "
        "words can tell. Default: true.",
    )
    distinct: bool | None = Field(
        None,
        description="A passage that only repeats what better ones say is left out. Default: true for answers, false "
        "for searches, which show every place.",
    )
    diversity: float | None = Field(
        None,
        ge=0,
        le=0.9,
        description="How much unlike each other the passages should be (maximal marginal relevance): 0 not at all, "
        "0.3 somewhat. Default: 0.",
    )
    order: Order | None = Field(
        None,
        description="How the model reads the passages: the best at both `ends`, or `best_first`. Default: ends.",
    )
    compression: CutBy | None = Field(
        None,
        description="What goes where the passages do not fit into the prompt: the least related `sentences`, those "
        "that an `llm` does not need (the one that answers), or whole passages (`none`). Default: sentences.",
    )
    passage_tokens: int | None = Field(
        None,
        ge=50,
        le=1_000_000,
        description="Most tokens of passages in a prompt. Default: what the model's context holds.",
    )
    refuse: bool | None = Field(
        None,
        description="Say that nothing was found, without asking a model, where no passage is near enough to the "
        "question. Default: true.",
    )
    least_strength: float | None = Field(
        None,
        ge=-2,
        le=2,
        description="Refuse as well where the eight best candidates together are weaker than this; `kb calibrate` "
        "finds it for a knowledge base. Default: only the rule for all knowledge bases.",
    )
