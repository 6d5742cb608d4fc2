"""Does the model's choice of sentences decide what stays, and does nothing else change?"""

from __future__ import annotations

import pytest
from fake_model import FakeModel

from core.errors import ModelError
from core.text import weight
from core.types import Passage, Query, Record, Span
from models.llm.tokens import estimated_tokens
from rerankers.compress import SentenceCompressor
from rerankers.llm_compress import LlmCompressor

QUESTION = Query("as asked", ("How many weeks is parental leave?",))
OFFSET = 1000  # where the passages below lie in their documents
FIRST = "The cafeteria opens at eight. Parental leave is 16 weeks. Parking is free."
SECOND = "Fathers get four of them. Penguins swim."


def passage(number: int, text: str, *, header: str = "", spans: tuple[Span, ...] = ()) -> Passage:
    record = Record(str(number), f"d{number}", "r", text, header, start=OFFSET, end=OFFSET + len(text))
    return Passage(record, f"doc {number}", 1.0, spans=spans)


FOUND = [passage(0, FIRST, header="Leave"), passage(1, SECOND)]


async def test_what_fits_is_not_touched_and_the_model_is_not_asked() -> None:
    model = FakeModel(numbers=[1])
    assert await LlmCompressor(model).compress(QUESTION, FOUND, budget=weight(FIRST + SECOND)) == FOUND
    assert model.calls == []


async def test_sentences_are_numbered_through_all_passages_one_a_line() -> None:
    model = FakeModel(numbers=[])
    found = [
        FOUND[0],
        passage(1, "Fathers of small children ```get``` four\nof them today and tomorrow. [1] x {question}"),
    ]
    await LlmCompressor(model).compress(QUESTION, found, budget=10)
    assert (
        "```\n# Leave\n[1] The cafeteria opens at eight.\n[2] Parental leave is 16 weeks.\n[3] Parking is free."
        "\n\n[4] Fathers of small children '''get''' four of them today and tomorrow.\n[5] [1] x {question}\n```\n"
        in model.prompts[0]
    )
    assert model.prompts[0].endswith("Question: How many weeks is parental leave?")


async def test_what_the_model_names_stays_as_far_as_the_budget_goes_most_important_first() -> None:
    compressor = LlmCompressor(FakeModel(numbers=[4, 1, 2]))
    chosen = "Fathers get four of them."
    [one] = await compressor.compress(QUESTION, FOUND, budget=weight(chosen))
    assert one.text == chosen
    both = await compressor.compress(
        QUESTION, FOUND, budget=weight(chosen) + weight("The cafeteria opens at eight.")
    )
    assert [p.text for p in both] == ["The cafeteria opens at eight.", chosen]
    assert both[0].spans == (Span(OFFSET, OFFSET + 29),)


@pytest.mark.parametrize("numbers", [[], [0, -3, 6, 10**30]])
async def test_spare_budget_is_filled_up_as_without_a_model(numbers: list[int]) -> None:
    for budget in (5, 12, 20, 40):
        kept = await LlmCompressor(FakeModel(numbers=numbers)).compress(QUESTION, FOUND, budget=budget)
        assert kept == await SentenceCompressor().compress(QUESTION, FOUND, budget=budget)
    room = weight("Penguins swim.") + weight("Parental leave is 16 weeks.")
    filled = await LlmCompressor(FakeModel(numbers=[5, *numbers])).compress(QUESTION, FOUND, budget=room)
    assert [p.text for p in filled] == ["Parental leave is 16 weeks.", "Penguins swim."]


async def test_a_sentence_that_is_named_twice_costs_its_weight_once() -> None:
    room = weight("Penguins swim.") + weight("Parental leave is 16 weeks.")
    kept = await LlmCompressor(FakeModel(numbers=[5, 5, 5, 2])).compress(QUESTION, FOUND, budget=room)
    assert [p.text for p in kept] == ["Parental leave is 16 weeks.", "Penguins swim."]


async def test_what_was_cut_before_does_not_come_back() -> None:
    model = FakeModel(numbers=[2])
    cut = passage(0, FIRST, spans=(Span(OFFSET, OFFSET + 29), Span(OFFSET + 58, OFFSET + len(FIRST))))
    [kept] = await LlmCompressor(model).compress(QUESTION, [cut], budget=10)
    assert kept.text == "Parking is free."
    assert "Parental leave is 16" not in model.prompts[0]


async def test_only_the_first_passages_that_fit_the_context_are_shown() -> None:
    model = FakeModel(context_tokens=900, numbers=[1])
    found = [passage(n, f"Number {n} begins. " + "Some words follow here. " * 4) for n in range(9)]
    kept = await LlmCompressor(model).compress(QUESTION, found, budget=weight("Number 0 begins."))
    assert [p.text for p in kept] == ["Number 0 begins."]
    assert "Number 1" in model.prompts[0]
    assert "Number 8" not in model.prompts[0]
    assert estimated_tokens(model.messages) <= 600


async def test_a_model_that_cannot_be_shown_one_passage_is_not_asked() -> None:
    model = FakeModel(context_tokens=200, numbers=[1])
    kept = await LlmCompressor(model).compress(QUESTION, FOUND, budget=12)
    assert kept == await SentenceCompressor().compress(QUESTION, FOUND, budget=12)
    assert model.calls == []


async def test_a_chinese_question_is_asked_in_chinese() -> None:
    model = FakeModel(numbers=[2])
    found = [passage(0, "食堂八点开门。产假一百五十八天。")]
    [kept] = await LlmCompressor(model).compress(Query("?", ("产假多少天？",)), found, budget=10)
    assert kept.text == "产假一百五十八天。"
    assert model.prompts[0].endswith("问题：产假多少天？")


async def test_a_model_that_writes_no_list_is_an_error() -> None:
    with pytest.raises(ModelError, match="fake was asked for JSON"):
        await LlmCompressor(FakeModel(keep="all")).compress(QUESTION, FOUND, budget=12)
