"""Summaries: what is summarised, that it stays short, and that nothing in it is made up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidValue, PromptTooLong
from core.text import sentences, weight
from core.types import ParsedDocument, Record, Section, Span
from ingest.summarise import (
    LONG_DOCUMENT_CHUNKS,
    STRETCH_CHUNKS,
    SUMMARY_WEIGHT,
    ExtractiveSummariser,
    LlmSummariser,
    parts,
)
from models.llm.base import Delta, FinishReason, Message, Role
from models.llm.sampling import SamplingParams
from models.llm.tokens import prompt_tokens

LENGTH = 10  # characters of each chunk below


def chunks(count: int) -> list[Record]:
    return [
        Record(str(n), "d", "r", "x" * LENGTH, start=n * LENGTH, end=(n + 1) * LENGTH, position=n)
        for n in range(count)
    ]


def document(count: int, *headings: tuple[int, tuple[str, ...]]) -> ParsedDocument:
    """A document of `count` chunks with headings (number of the chunk, path)."""
    ends = [*(number for number, _ in headings[1:]), count][: len(headings)]
    sections = tuple(
        Section(path, Span(number * LENGTH, end * LENGTH))
        for (number, path), end in zip(headings, ends, strict=True)
    )
    return ParsedDocument("x" * LENGTH * count, sections=sections)


def test_a_short_document_has_one_summary_of_all_of_it() -> None:
    count = LONG_DOCUMENT_CHUNKS - 1
    [whole] = parts(document(count, (0, ("A",)), (5, ("B",))), chunks(count))
    assert (whole.span, whole.path, whole.chunks) == (Span(0, count * LENGTH), (), tuple(range(count)))


def test_a_long_document_has_one_more_for_each_of_its_top_sections() -> None:
    doc = document(14, (0, ("A",)), (4, ("B",)), (6, ("B", "C")), (8, ("B", "C", "D")))
    whole, *rest = parts(doc, chunks(14))
    assert whole.chunks == tuple(range(14))
    assert [(part.path, part.chunks) for part in rest] == [
        (("A",), (0, 1, 2, 3)),
        (("B",), (4, 5)),
        (("B", "C"), tuple(range(6, 14))),  # the third level belongs to the second
    ]


def test_stretches_without_headings_are_of_bounded_length_and_lose_no_chunk() -> None:
    _, *rest = parts(document(25), chunks(25))
    assert [len(part.chunks) for part in rest] == [STRETCH_CHUNKS, STRETCH_CHUNKS, 5]
    assert [n for part in rest for n in part.chunks] == list(range(25))
    assert all(part.span == Span(part.chunks[0] * LENGTH, (part.chunks[-1] + 1) * LENGTH) for part in rest)


async def test_a_short_text_is_its_own_summary() -> None:
    assert await ExtractiveSummariser().summarise("Leave\n  is ten days.") == "Leave is ten days."
    assert await ExtractiveSummariser().summarise("") == ""


async def test_the_first_sentence_and_those_about_the_main_topic_are_chosen_in_their_order() -> None:
    topic = [f"Parental leave rule {n} says that parental leave is paid by the company." for n in range(12)]
    text = " ".join(
        [
            "This handbook is about leave.",
            "Penguins swim remarkably fast underwater and eat an astonishing number of small fish.",
            *topic,
        ]
    )
    summary = await ExtractiveSummariser().summarise(text)
    assert summary.startswith("This handbook is about leave.")
    assert "Penguins" not in summary
    numbers = [int(word) for word in summary.split() if word.isdigit()]
    assert numbers == sorted(numbers)
    assert numbers


@given(
    st.lists(
        st.sampled_from(["年假有十天。", "Leave is ten days. ", "x" * 700, "\n", "无关" * 150]), max_size=30
    )
)
@settings(deadline=None)
async def test_a_summary_is_short_and_holds_only_sentences_of_the_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    summary = await ExtractiveSummariser().summarise(text)
    assert weight(summary) <= SUMMARY_WEIGHT * 1.1  # spaces between sentences come on top
    squeezed = "".join(text.split())
    assert all("".join(summary[s.start : s.end].split()) in squeezed for s in sentences(summary))


async def test_one_endless_sentence_is_cut() -> None:
    assert 0 < weight(await ExtractiveSummariser().summarise("字" * 1000)) <= SUMMARY_WEIGHT


class Listening:
    """Not a model: it keeps what it is sent, for the prompt that arrives is what is tested here."""

    name = "listening"
    context_tokens = 600

    def __init__(self, tokens_each: int | None = None, most: int = 10**9) -> None:
        self.prompt = ""
        self.tokens_each = tokens_each  # of a character; None: it does not count
        self.most = most  # characters that it takes

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: object = None
    ) -> AsyncGenerator[Delta, None]:
        self.prompt = messages[0].content
        if len(self.prompt) > self.most:
            raise PromptTooLong("It is too long.")
        yield Delta(" A summary.\n", FinishReason.STOP)

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return self.tokens_each and len(messages[0].content) * self.tokens_each

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return


async def test_the_model_is_shown_a_text_that_fits_its_context_and_cannot_close_its_fence() -> None:
    model = Listening()
    assert await LlmSummariser(model).summarise("```\n" + "年假" * 1000) == "A summary."
    assert weight(model.prompt) < model.context_tokens
    assert model.prompt.count("```") == 3  # the instruction's mention, and the two fences
    assert model.prompt.startswith("请")


@pytest.mark.parametrize("text", ["年假" * 5000, "1234567890 " * 5000, "Leave is ten days. " * 5000])
@pytest.mark.parametrize("model", [Listening(), Listening(tokens_each=2)], ids=["estimates", "counts"])
async def test_whatever_the_text_is_made_of_the_prompt_leaves_room_for_the_summary(
    model: Listening, text: str
) -> None:
    await LlmSummariser(model).summarise(text)
    room = model.context_tokens - 256
    assert 0.8 * room < await prompt_tokens(model, [Message(Role.USER, model.prompt)]) <= room


async def test_a_prompt_that_the_engine_refuses_all_the_same_is_made_shorter() -> None:
    model = Listening(most=250)
    assert await LlmSummariser(model).summarise("年假" * 1000) == "A summary."
    assert 150 < len(model.prompt) <= 250


async def test_a_context_without_room_for_the_instruction_is_an_error_and_not_an_endless_loop() -> None:
    with pytest.raises(InvalidValue, match="no room for a text"):
        await LlmSummariser(Listening(tokens_each=100)).summarise("Leave is ten days.")


async def test_the_instruction_is_in_the_language_of_the_text() -> None:
    model = Listening()
    await LlmSummariser(model).summarise("Leave is ten days.")
    assert model.prompt.startswith("Summarise")
