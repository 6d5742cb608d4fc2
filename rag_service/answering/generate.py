"""Who writes the answer: a language model that reads the prompt, or (without one) the best sentences themselves."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from core.text import is_cjk, question_terms, sentences, terms, weight
from core.types import Passage, Span
from models.llm.base import LLM, Delta, FinishReason, Message, Role, SamplingParams
from rag_service.answering.prompt import Prompts

EXTRACTIVE_NAME = "extractive (no language model)"
_NOTE = {
    "zh": "（没有配置大语言模型，以下是文档中最相关的原文。）\n",
    "en": "(No language model is configured; these are the most relevant sentences of the documents.)\n",
}
_MOST_SENTENCES = 3
_MOST_KEY_SENTENCES = 8  # of whole documents
_LEAST_SHARE = 0.2  # of the words of a question that one sentence (with the one before) must hold
_HEADING_WEIGHT = 15.0  # Chinese characters
_FACT = re.compile(r"[\d。．.!?！？;；:：]")  # an ender, a colon, a number: more than a heading has
_LINK_TARGET = re.compile(r"\]\([^)]*\)")  # of Markdown: an address says nothing


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be answered: the rendered prompt for models, question and passages (best first) for the rest.

    `asked` are the user's own words, `question` what they mean in the conversation.
    """

    asked: str
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

    def stream(self, task: Task) -> AsyncGenerator[Delta, None]: ...


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

    def stream(self, task: Task) -> AsyncGenerator[Delta, None]:
        return self._llm.stream(self._messages(task), self._params)

    def _messages(self, task: Task) -> list[Message]:
        return [Message(Role.USER, task.prompt)]


# A base model does not follow instructions, it continues texts. Shown three answered prompts of the same form
# it answers the fourth in one line; without them it repeats the question or runs on.
_ANSWER_LINE = {"zh": "\n回答：", "en": "\nAnswer: "}
_EXAMPLES = {
    "zh": (
        (
            "谁是财务部经理？",
            ("李华于2015年加入研发部，现任高级工程师。", "张敏是财务部经理。"),
            "财务部经理是张敏。",
        ),
        ("押金是多少？", ("本合同的押金为两千元，租期满后七日内退还。", "租金按月支付。"), "押金是两千元。"),
        ("泰山有多高？", ("泰山海拔1532.7米，位于山东省。", "图书馆上午九点开放。"), "泰山高1532.7米。"),
    ),
    "en": (
        (
            "Who manages finance?",
            ("Tom joined research in 2015 and is a senior engineer.", "Mary Smith manages finance."),
            "Mary Smith manages finance.",
        ),
        (
            "How much is the deposit?",
            ("The deposit is 2,000 dollars and is returned within seven days.", "Rent is paid monthly."),
            "The deposit is 2,000 dollars.",
        ),
        (
            "How high is Mount Tai?",
            ("Mount Tai is 1,532.7 metres high.", "The library opens at nine."),
            "Mount Tai is 1,532.7 metres high.",
        ),
    ),
}
_EXAMPLES_WEIGHT = 400.0
_ONE_LINE = ("\n", "```")


class CompletionGenerator(LlmGenerator):
    """For base models: the prompt comes after worked examples, and the answer is the rest of its line."""

    def __init__(self, llm: LLM, params: SamplingParams, prompts: Prompts) -> None:
        super().__init__(llm, replace(params, stop=(*params.stop, *_ONE_LINE)))
        self._examples = {language: _worked(prompts, language) for language in _EXAMPLES}

    @property
    def passage_budget(self) -> float:
        return max(super().passage_budget - _EXAMPLES_WEIGHT, 200.0)

    def _messages(self, task: Task) -> list[Message]:
        language = "zh" if is_cjk(task.question) else "en"
        text = self._examples[language] + task.prompt + _ANSWER_LINE[language].rstrip()
        return [Message(Role.USER, text)]

    async def stream(self, task: Task) -> AsyncGenerator[Delta, None]:
        """Without the space that the answer begins with."""
        begun = False
        async with aclosing(super().stream(task)) as deltas:
            async for delta in deltas:
                text = delta.text if begun else delta.text.lstrip()
                begun = begun or bool(text)
                yield replace(delta, text=text)


def _worked(prompts: Prompts, language: str) -> str:
    """The examples as prompts in the service's own form, each with its answer."""
    return "".join(
        f"{prompts.render(question, passages, template=language)}{_ANSWER_LINE[language]}{answer}\n\n"
        for question, passages, answer in _EXAMPLES[language]
    )


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

    async def stream(self, task: Task) -> AsyncGenerator[Delta, None]:
        whole = [passage for passage in task.passages if passage.whole]
        for sentence in (
            key_sentences(whole) if whole else best_sentences(task.asked, task.question, task.passages)
        ):
            yield Delta(sentence + "\n")
        yield Delta(finish_reason=FinishReason.STOP)


def key_sentences(passages: Sequence[Passage], most: int = _MOST_KEY_SENTENCES) -> list[str]:
    """Of passages that stand for whole documents, the same number of sentences of each; headings only if all are."""
    found: list[str] = []
    for passage in passages:
        own = [
            " ".join(passage.record.text[s.start : s.end].split())
            for kept in passage.spans
            for s in sentences(
                passage.record.text, Span(kept.start - passage.record.start, kept.end - passage.record.start)
            )
        ]
        told = [sentence for sentence in own if not _is_heading(sentence, passage)] or own
        found += told[: max(1, most // len(passages))]
    return list(dict.fromkeys(found))


def best_sentences(
    asked: str, question: str, passages: Sequence[Passage], most: int = _MOST_SENTENCES
) -> list[str]:
    """The sentences that hold most of the question's words, better passages first among equals.

    The words that were `asked` count whole, those that only the conversation adds to the `question` a third.
    So does the sentence before (a heading, nearly whole): what it names, the next one explains. Headings and
    sentences that only repeat the question are left out. Where no sentence holds `_LEAST_SHARE` of the words,
    there is no answer here: none, unless the passages are in another language, which shares no words.
    """
    own, context = set(question_terms(asked)), set(question_terms(question))
    repeated = {*own, *context, *terms(asked), *terms(question)}
    scored: list[tuple[float, int, int, str]] = []
    for rank, passage in enumerate(passages):
        before, in_table = 0.0, False
        for place, span in enumerate(sentences(passage.text)):
            sentence = " ".join(passage.text[span.start : span.end].split())
            words = set(terms(_LINK_TARGET.sub("]", sentence)))
            share = _share(words, own) + _share(words, context - own) / 3
            names_only = _is_heading(sentence, passage) or (sentence.startswith("|") and not in_table)
            if not names_only and not words <= repeated:
                scored.append(((share + before) / (1 + 0.2 * rank), rank, place, sentence))
            before = share * (0.9 if names_only else 1 / 3)
            in_table = sentence.startswith("|")
    scored.sort(key=lambda entry: (-entry[0], *entry[1:]))
    best = scored[0][0] if scored else 0.0
    if best >= _LEAST_SHARE:
        return list(dict.fromkeys(entry[3] for entry in scored[:most] if entry[0] >= 0.6 * best))
    if passages and is_cjk(asked) != is_cjk(passages[0].text):
        return [entry[3] for entry in sorted(scored, key=lambda entry: entry[1:3])[:1]]
    return []


def _share(words: set[str], wanted: set[str]) -> float:
    return len(words & wanted) / len(wanted) if wanted else 0.0


def _is_heading(sentence: str, passage: Passage) -> bool:
    """Whether the line is a heading: one of the document's, or short, unfinished and without a fact."""
    line = sentence.lstrip("# ")
    if line in passage.record.section.split(" > "):
        return True
    return weight(line) < _HEADING_WEIGHT and not _FACT.search(line)
