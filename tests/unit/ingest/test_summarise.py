"""Summaries: what is summarised, that it stays short, and that nothing in it is made up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

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
from models.llm.base import Delta, FinishReason, Message
from models.llm.sampling import SamplingParams

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

    def __init__(self) -> None:
        self.prompt = ""

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: object = None
    ) -> AsyncGenerator[Delta, None]:
        self.prompt = messages[0].content
        yield Delta(" A summary.\n", FinishReason.STOP)

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


async def test_the_instruction_is_in_the_language_of_the_text() -> None:
    model = Listening()
    await LlmSummariser(model).summarise("Leave is ten days.")
    assert model.prompt.startswith("Summarise")
