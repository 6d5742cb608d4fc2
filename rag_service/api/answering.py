"""Which models answer for a knowledge base, with which parameters and in which mode?

The knowledge base keeps its wishes in its `settings` (`llms`, `params`, `answer_mode`); what it leaves open is the
service's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidValue, RagError
from models.llm.sampling import SamplingParams
from rag_service.answering.pipeline import Writers
from rag_service.answering.task import AnswerMode
from rag_service.wiring import ApiServices

KEYS = ("llms", "params", "answer_mode")


@dataclass(frozen=True, slots=True)
class Answering:
    """How a knowledge base is answered from."""

    writers: Writers
    params: SamplingParams
    mode: AnswerMode


def answering_of(services: ApiServices, wishes: Mapping[str, Any]) -> Answering:
    """What the settings of a knowledge base come to. Raises `InvalidValue` for a model that is not there."""
    stages = services.settings.stages.model_dump() | wishes.get("llms", {})
    for stage, name in stages.items():
        if name not in services.llms:
            raise InvalidValue(
                f"There is no language model named '{name}' ({stage}).",
                hint=f"There are: {', '.join(services.llms)}.",
            )
    return Answering(
        Writers(
            services.rewriters[stages["rewrite"]],
            services.generators[stages["answer"]],
            services.refiners[stages["rewrite"]],
            services.judges[stages["judge"]],
            services.rerankers[stages["rerank"]],
        ),
        SamplingParams.model_validate(wishes.get("params", {})),
        AnswerMode(wishes.get("answer_mode") or services.settings.answer.mode),
    )


def check_wishes(services: ApiServices, wishes: Mapping[str, Any]) -> None:
    """Raise `InvalidValue` if a knowledge base with these settings could not answer, or not write summaries."""
    answering = answering_of(services, wishes)
    generator = answering.writers.generator
    try:
        generator.effective(answering.params)
        generator.check_mode(answering.mode)
    except RagError as error:
        raise InvalidValue(f"{generator.name} would answer. {error.message}", hint=error.hint) from None
    summarise = wishes.get("llms", {}).get("summarise")
    llm = services.llms[summarise] if summarise else None
    if llm is not None and llm.prompt_style == "completion":
        raise InvalidValue(
            f"{llm.name} is a base model and cannot be told to summarise.",
            hint="Choose a model that follows instructions, or one of kind extractive.",
        )
