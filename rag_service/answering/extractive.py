"""What answers without a language model: the sentences of the passages that fit the question best, word for word."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath

from core.errors import InvalidValue
from core.scripts import other_script
from core.text import FACT, HEADING_MARK, is_bare, is_cjk, question_terms, sentences, terms, weight
from core.types import Passage, Span
from models.llm.base import Delta, FinishReason
from models.llm.presets import Preset
from models.llm.sampling import SamplingParams
from rag_service.answering.task import AnswerMode, Task
from rag_service.answering.trace import Trace
from retrievers.refine import asked_in

EXTRACTIVE_NAME = "extractive (no language model)"
EXTRACTIVE = Preset("extractive", "The extractive answer, which no language model writes,")
_NOTE = {
    "zh": "（未使用大语言模型，以下是文档中最相关的原文。）\n",
    "en": "(No language model is used; these are the most relevant sentences of the documents.)\n",
}
_MOST_SENTENCES = 3
_MOST_QUESTIONS = 4  # in one text
_MOST_OF_SEVERAL = 4  # sentences for all of them together
_MOST_KEY_SENTENCES = 8  # of whole documents
_LEAST_SHARE = 0.2  # of the words of a question that one sentence (with the one before) must hold
_HALF = 0.5  # the same where the best passage is in another language
_ENOUGH = 3  # words, of a long question, which tells what led to it, too
_HEADING_WEIGHT = 15.0  # Chinese characters
_STATES = re.compile(r"[.。!！;；][”’」』）)\"']*$")
_HOW = re.compile(
    r"\bhow (?:long|much|many|often|far|old|soon|big|large|high|fast|heavy|tall|deep|wide)\b", re.I
)
_LINK_TARGET = re.compile(r"\]\([^)]*\)")  # of Markdown: an address says nothing


class ExtractiveGenerator:
    """Quotes the sentences that hold most of the question's words, and says that it is no language model."""

    @property
    def name(self) -> str:
        return EXTRACTIVE_NAME

    @property
    def preset(self) -> Preset:
        return EXTRACTIVE

    def effective(self, params: SamplingParams) -> SamplingParams:
        EXTRACTIVE.refuse(params)
        return params

    def check_mode(self, mode: AnswerMode) -> None:
        if mode is not AnswerMode.STUFF:
            raise InvalidValue(
                f"The answer mode {mode} needs a language model; extractive answers have none.",
                hint="Set RAG_LLM__KIND, choose another model, or ask with the mode stuff.",
            )

    def preamble(self, question: str) -> str:
        return _NOTE["zh" if is_cjk(question) else "en"]

    async def stream(self, task: Task, trace: Trace) -> AsyncGenerator[Delta, None]:
        with trace.stage("generate", inputs=len(task.passages)) as stage:
            whole = [passage for passage in task.passages if passage.whole]
            found = key_sentences(whole) if whole else _answers(task)
            stage.outputs = len(found)
            stage.notes = {"model": self.name}
        for sentence in found:
            # Without a heading's mark the words stay those of the document, and citations go by words.
            yield Delta(HEADING_MARK.sub("", sentence) + "\n")
        yield Delta(finish_reason=FinishReason.STOP)


def _answers(task: Task) -> list[str]:
    """The best sentences; of a text that holds several questions, the best for each."""
    questions = asked_in(task.asked)[:_MOST_QUESTIONS]
    if len(questions) < 2:
        return best_sentences(task.asked, task.question, task.passages)
    most = max(1, _MOST_OF_SEVERAL // len(questions))
    found = (
        best_sentences(question, task.question, task.passages, most, nearest=False) for question in questions
    )
    each = list(dict.fromkeys(chain.from_iterable(found)))
    return each or best_sentences(task.asked, task.question, task.passages)


def key_sentences(passages: Sequence[Passage], most: int = _MOST_KEY_SENTENCES) -> list[str]:
    """Of passages that stand for whole documents, the same number of sentences of each; headings only if all are.

    Once in a document, but of each document that says the same.
    """
    found: list[tuple[str, str]] = []  # each with its document
    for passage in passages:
        own = [
            " ".join(passage.record.text[s.start : s.end].split())
            for kept in passage.spans
            for s in sentences(
                passage.record.text, Span(kept.start - passage.record.start, kept.end - passage.record.start)
            )
        ]
        told = [sentence for sentence in own if not _is_heading(sentence, passage)] or own
        found += [
            (passage.record.document_id, sentence) for sentence in told[: max(1, most // len(passages))]
        ]
    return [sentence for _, sentence in dict.fromkeys(found)]


def best_sentences(
    asked: str,
    question: str,
    passages: Sequence[Passage],
    most: int = _MOST_SENTENCES,
    *,
    nearest: bool = True,
) -> list[str]:
    """The sentences that hold most of the question's words, better passages first among equals.

    The words that were `asked` count whole, those that only the conversation adds to the `question` a third.
    So does the sentence before (a heading, nearly whole): what it names, the next one explains. What the document's
    name or title says, all its sentences say, so it is the other words that must be in a sentence. Headings, questions
    and what only repeats the question are left out, but for statements: "It does not cover rust." answers "Does it
    cover rust?".
    Where no sentence holds `_LEAST_SHARE` of the words (of a long question, `_ENOUGH` words), there is no answer here:
    none, unless the best passage is in another language, which shares no words. Then it is the nearest of the sentences
    that were compared with the question, of those that tell something; sentences in the question's language must hold
    `_HALF` of its words to count before that. Without `nearest`, only words count.
    """
    own, context = _words_asked(asked), set(question_terms(question))
    repeated = {*own, *context, *terms(asked), *terms(question)}
    found = [
        each
        for rank, passage in enumerate(passages)
        for each in _scored(passage, rank, own, context, repeated)
    ]
    foreign = bool(passages) and other_script(passages[0].text, cjk=is_cjk(asked))
    least = _HALF if foreign else min(_LEAST_SHARE, _ENOUGH / max(len(own), 1))
    # Sorting is stable: of equals the first of the best passage.
    fitting = sorted((each for each in found if each.fit > 0), key=lambda each: -each.score)
    if fitting and fitting[0].score >= least:
        first = fitting[0]
        kept = (e for e in fitting[:most] if e.score >= 0.6 * first.score and e.fit >= 0.6 * first.fit)
        return list(dict.fromkeys(each.sentence for each in kept))
    if not nearest:
        return []
    # Behind passages without an answer others, in another language, may have it.
    return _nearest(passages) or [each.sentence for each in found[:1] if foreign]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A sentence that could answer. `fit`: the share of the question's words that it and the sentence before have
    beyond the document's title; `score`: with those, less for worse passages.
    """

    sentence: str
    score: float
    fit: float


def _scored(
    passage: Passage, rank: int, own: set[str], context: set[str], repeated: set[str]
) -> Iterator[_Scored]:
    known = own & _title_words(passage)
    if known == own:  # it asks for nothing else
        known = set()
    before, in_table = 0.0, False
    for span in sentences(passage.text):
        sentence = " ".join(passage.text[span.start : span.end].split())
        words = set(terms(_LINK_TARGET.sub("]", sentence)))
        share = _share(words - known, own) + _share(words, context - own) / 3
        names_only = (
            _is_heading(sentence, passage)
            or _is_question(sentence)
            or (sentence.startswith("|") and not in_table)
        )
        if not names_only and (not words <= repeated or _STATES.search(sentence)):
            fit = share + before
            yield _Scored(sentence, (fit + _share(known, own)) / (1 + 0.2 * rank), fit)
        in_table = sentence.startswith("|")
        # A row says nothing of the next.
        before = share * (0.9 if names_only else 0.0 if in_table else 1 / 3)


def _words_asked(asked: str) -> set[str]:
    """The words that an answer holds: of "How heavy is the pump?" that is "pump"."""
    words = set(question_terms(_HOW.sub(" ", asked))) or set(question_terms(asked))
    return {word for word in words if len(word) > 1 or not word.isascii() or word.isdigit()} or words


def _title_words(passage: Passage) -> set[str]:
    """What its document is called."""
    return set(terms(f"{passage.record.title} \n {PurePath(passage.document_name).stem}"))


def _nearest(passages: Sequence[Passage]) -> list[str]:
    """The nearest sentence that tells something, or the nearest of all if none does; none if none was compared."""
    compared = [
        (near.closeness, _line(passage, near.span), passage) for passage in passages for near in passage.near
    ]
    told = [entry for entry in compared if _tells(entry[1], entry[2])] or compared
    return [max(told, key=lambda entry: entry[0])[1]] if told else []


def _line(passage: Passage, span: Span) -> str:
    start = passage.record.start
    return " ".join(passage.record.text[span.start - start : span.end - start].split())


def _tells(sentence: str, passage: Passage) -> bool:
    if is_bare(sentence) or _is_heading(sentence, passage) or _is_question(sentence):
        return False
    return any(character.isalpha() for character in sentence)


def _share(words: set[str], wanted: set[str]) -> float:
    return len(words & wanted) / len(wanted) if wanted else 0.0


def _is_question(sentence: str) -> bool:
    return sentence.rstrip("*_ ").endswith(("?", "？"))


def _is_heading(sentence: str, passage: Passage) -> bool:
    """Whether the line is a heading: one of the document's, or short, unfinished and without a fact."""
    line = sentence.lstrip("# ")
    if line in passage.record.section.split(" > "):
        return True
    return weight(line) < _HEADING_WEIGHT and not FACT.search(line)
