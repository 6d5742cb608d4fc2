"""What a document is about, in a few sentences: the text of the summary index.

A document gets one summary; a long one gets one more for each of its sections (or stretches), so that the
first stage of the search can find what only chapter seven is about. Written by the LLM where one is
configured, else selected from the document's own sentences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from core.errors import InvalidValue, PromptTooLong
from core.text import is_cjk, sentences, terms, weight
from core.types import ParsedDocument, Record, Span
from models.llm.base import LLM, Message, Role, complete
from models.llm.sampling import SamplingParams
from models.llm.tokens import prompt_tokens

SUMMARY_WEIGHT = 200.0  # Chinese characters (500 Latin ones): fits every embedder's window with its header
LONG_DOCUMENT_CHUNKS = (
    12  # from here on sections are summarised, too (small chunks with a parent count as one)
)
STRETCH_CHUNKS = 10  # how many such chunks one section summary covers at most
MOST_SENTENCES = 3000  # sentences looked at in one text; more would only cost time


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a document to summarise: its span, its heading path, and which chunks it covers."""

    span: Span
    path: tuple[str, ...]
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A text about a part, and the part's own sentences that tell most (document offsets): those can be cited."""

    part: Part
    text: str
    key: tuple[Span, ...] = ()


def summary_of(part: Part, text: str, written: str) -> Summary:
    """The summary `written` about the part, whose text is `text`."""
    at = part.span.start
    return Summary(part, written, tuple(Span(at + s.start, at + s.end) for s in key_sentences(text)))


class Summariser(Protocol):
    async def summarise(self, text: str) -> str:
        """A summary of at most about `SUMMARY_WEIGHT`, in the language of the text."""
        ...


# Who writes summaries, where a knowledge base chose a language model (its name) or left it open (None).
SummariserOf = Callable[[str | None], Awaitable[Summariser]]


def parts(document: ParsedDocument, chunks: Sequence[Record]) -> list[Part]:
    """What to summarise: the document, and for a long one its top sections in stretches of chunks."""
    whole = Part(Span(0, len(document.text)), (), tuple(range(len(chunks))))
    blocks = list(_blocks(chunks))
    if len(blocks) < LONG_DOCUMENT_CHUNKS:
        return [whole]
    return [whole, *_stretches(document, chunks, blocks)]


def _blocks(chunks: Sequence[Record]) -> Iterator[list[int]]:
    """Chunk by chunk; small chunks that lie in the parent of the first of them count as one."""
    block: list[int] = []
    end = 0
    for number, chunk in enumerate(chunks):
        if block and chunk.end > end:
            yield block
            block = []
        if not block:
            end = chunk.parent.end if chunk.parent else chunk.end
        block.append(number)
    if block:
        yield block


def _stretches(
    document: ParsedDocument, chunks: Sequence[Record], blocks: Sequence[Sequence[int]]
) -> list[Part]:
    """Neighbouring blocks under the same heading (of the first two levels), `STRETCH_CHUNKS` at most."""
    result: list[Part] = []
    group: list[Sequence[int]] = []
    group_path: tuple[str, ...] = ()
    for block in blocks:
        section = document.section_at(chunks[block[0]].start)
        path = section.path[:2] if section else ()
        if group and (path != group_path or len(group) == STRETCH_CHUNKS):
            result.append(_part(chunks, list(chain(*group)), group_path))
            group = []
        group_path = path
        group.append(block)
    result.append(_part(chunks, list(chain(*group)), group_path))
    return result


def _part(chunks: Sequence[Record], group: Sequence[int], path: tuple[str, ...]) -> Part:
    return Part(Span(chunks[group[0]].start, chunks[group[-1]].end), path, tuple(group))


class ExtractiveSummariser:
    """Selects the sentences whose terms are most common in the text, in their order.

    The score of a sentence is the mean over its distinct terms of log(1 + number of sentences with the term),
    a light form of the centroid method (Radev et al. 2004, "Centroid-based summarization of multiple
    documents"); the first sentence is always in.
    """

    async def summarise(self, text: str) -> str:
        return " ".join(_plain(text[s.start : s.end]) for s in key_sentences(text))


async def always_extractive(_: str | None) -> Summariser:
    """A `SummariserOf` without language models."""
    return ExtractiveSummariser()


def key_sentences(text: str) -> list[Span]:
    """The sentences that an extractive summary is made of, in order; all of a short text."""
    spans = list(islice(sentences(text), MOST_SENTENCES))
    if weight(text) <= SUMMARY_WEIGHT:
        return spans
    bags = [set(terms(text[s.start : s.end])) for s in spans]
    frequency = Counter(term for bag in bags for term in bag)
    scores = [_centrality(bag, frequency) for bag in bags]
    ranked = sorted(range(len(spans)), key=lambda i: (i != 0, -scores[i], i))
    chosen: list[int] = []
    room = SUMMARY_WEIGHT
    for number in ranked:
        sentence = text[spans[number].start : spans[number].end]
        if weight(sentence) <= room:
            chosen.append(number)
            room -= weight(sentence)
    if not chosen:  # one endless sentence
        return [Span(s.start, min(s.end, s.start + int(SUMMARY_WEIGHT))) for s in spans[:1]]
    return [spans[number] for number in sorted(chosen)]


def _plain(sentence: str) -> str:
    """One line, without a heading's marks."""
    return " ".join(sentence.split()).lstrip("# ")


def _centrality(bag: set[str], frequency: Counter[str]) -> float:
    if len(bag) < 3:  # headings, list marks
        return 0.0
    return sum(math.log1p(frequency[term]) for term in bag) / (len(bag) + 4)


INSTRUCTION = {
    "zh": "请用不超过150字概括下面```内的文档讲了什么，写出关键的名称、数字和主题。只输出概括。\n```\n{text}\n```",
    "en": "Summarise in at most 80 words what the document inside ``` is about, with its key names, numbers and "
    "topics. Write only the summary.\n```\n{text}\n```",
}


LONGEST_SUMMARY = 256  # tokens
MOST_CHARACTERS = 8  # of a token, about: more of a text is not even counted
MARGIN = 0.95  # tokens do not follow characters exactly


class LlmSummariser:
    """Asks the language model; shows it the beginning of a text that is longer than its context."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    async def summarise(self, text: str) -> str:
        params = SamplingParams(max_new_tokens=LONGEST_SUMMARY, temperature=0.0)
        room = self._llm.context_tokens - LONGEST_SUMMARY
        while True:
            messages = await self._beginning(text, room)
            try:
                return (await complete(self._llm, messages, params)).strip()
            except PromptTooLong:  # an estimate was too low
                room = room * 3 // 4

    async def _beginning(self, text: str, room: int) -> list[Message]:
        """The prompt with as much of the text as `room` tokens hold."""
        shown = text[: room * MOST_CHARACTERS].replace("```", "'''")
        while True:
            messages = _instruction(shown)
            tokens = await prompt_tokens(self._llm, messages)
            if tokens <= room:
                return messages
            if not shown:
                raise InvalidValue(
                    f"{self._llm.name} has no room for a text to summarise in {self._llm.context_tokens} tokens.",
                    hint="Raise llm.context_tokens if the engine has more.",
                )
            shown = shown[: int(len(shown) * MARGIN * room / tokens)]


def _instruction(text: str) -> list[Message]:
    return [Message(Role.USER, INSTRUCTION["zh" if is_cjk(text) else "en"].format(text=text))]
