"""Who writes the answer: a language model that reads the prompt, or (without one) the best sentences themselves."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.text import is_cjk, question_terms, sentences, terms
from core.types import Passage
from models.llm.base import LLM, Delta, FinishReason, Message, Role, SamplingParams

EXTRACTIVE_NAME = "extractive (no language model)"
_NOTE = {
    "zh": "（没有配置大语言模型，以下是文档中最相关的原文。）\n",
    "en": "(No language model is configured; these are the most relevant sentences of the documents.)\n",
}
_MOST_SENTENCES = 3
_LINK_TARGET = re.compile(r"\]\([^)]*\)")  # of Markdown: an address says nothing
# A base model does not know where its answer begins or ends; these lines tell it.
_ANSWER_LINE = {"zh": "\n回答：", "en": "\nAnswer:"}
COMPLETION_STOPS = (
    "\n\n",
    "\n```",
    "\n我的问题",
    "\n问题",
    "\n回答",
    "\nMy question",
    "\nQuestion",
    "\nAnswer",
)


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be answered: the rendered prompt for models, question and passages (best first) for the rest."""

    question: str
    prompt: str
    passages: tuple[Passage, ...]


class Generator(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def passage_budget(self) -> float:
        """How much passage text fits, in weighted characters (see `core.text.weight`)."""
        ...

    def preamble(self, question: str) -> str:
        """What the reader must know before the answer; it is no part of it and needs no citation."""
        ...

    def stream(self, task: Task) -> AsyncIterator[Delta]: ...


class LlmGenerator:
    """Sends the prompt to a language model."""

    def __init__(self, llm: LLM, params: SamplingParams) -> None:
        self._llm = llm
        self._params = params

    @property
    def name(self) -> str:
        return self._llm.name

    @property
    def passage_budget(self) -> float:
        # One token is about one Chinese character or 2.5 Latin ones (which weigh 0.4 each), so weight counts
        # tokens; a quarter is left for templates, question and estimates that are off.
        return max((self._llm.context_tokens - self._params.max_new_tokens) * 0.75, 200.0)

    def preamble(self, question: str) -> str:
        return ""

    def stream(self, task: Task) -> AsyncIterator[Delta]:
        return self._llm.stream(self._messages(task), self._params)

    def _messages(self, task: Task) -> list[Message]:
        return [Message(Role.USER, task.prompt)]


class CompletionGenerator(LlmGenerator):
    """For base models, which continue a text instead of answering a message."""

    def __init__(self, llm: LLM, params: SamplingParams) -> None:
        stops = tuple(dict.fromkeys([*params.stop, *COMPLETION_STOPS]))
        super().__init__(
            llm,
            SamplingParams(
                max_new_tokens=params.max_new_tokens,
                temperature=params.temperature,
                repetition_penalty=params.repetition_penalty,
                stop=stops,
            ),
        )

    def _messages(self, task: Task) -> list[Message]:
        line = _ANSWER_LINE["zh" if is_cjk(task.question) else "en"]
        return [Message(Role.USER, task.prompt + line)]

    async def stream(self, task: Task) -> AsyncIterator[Delta]:
        """Without the white space that a base model begins with."""
        begun = False
        async for delta in self._llm.stream(self._messages(task), self._params):
            text = delta.text if begun else delta.text.lstrip()
            begun = begun or bool(text)
            yield Delta(text, delta.finish_reason, delta.usage)


class ExtractiveGenerator:
    """Quotes the sentences that hold most of the question's words, and says that it is no language model."""

    @property
    def name(self) -> str:
        return EXTRACTIVE_NAME

    @property
    def passage_budget(self) -> float:
        return float("inf")

    def preamble(self, question: str) -> str:
        return _NOTE["zh" if is_cjk(question) else "en"]

    async def stream(self, task: Task) -> AsyncIterator[Delta]:
        for sentence in best_sentences(task.question, task.passages):
            yield Delta(sentence + "\n")
        yield Delta(finish_reason=FinishReason.STOP)


def best_sentences(question: str, passages: Sequence[Passage], most: int = _MOST_SENTENCES) -> list[str]:
    """The sentences with the largest share of the question's terms, those of better passages first among equals.

    Without any shared term (another language, say) the beginning of the best passage.
    """
    wanted = set(question_terms(question))
    scored: list[tuple[float, int, int, str]] = []
    for rank, passage in enumerate(passages):
        text = passage.text
        for place, span in enumerate(sentences(text)):
            sentence = " ".join(text[span.start : span.end].split())
            share = len(wanted.intersection(terms(_LINK_TARGET.sub("]", sentence)))) / max(len(wanted), 1)
            scored.append((-share / (1 + 0.2 * rank), rank, place, sentence))
    scored.sort()
    if not scored:
        return []
    best = scored[0][0]
    chosen = [entry for entry in scored[:most] if best == 0 or entry[0] <= best / 2]
    if best == 0:
        chosen = chosen[:1]
    return [entry[3] for entry in chosen]
