"""Rewriting: a follow-up is searched with what it points back at, a question of its own as it is."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence

import pytest

from core.errors import ModelError, PromptTooLong
from models.llm.base import Delta, FinishReason, Message, Role
from models.llm.presets import OLLAMA
from models.llm.sampling import SamplingParams
from models.llm.tokens import estimated_tokens
from retrievers.base import Turn
from retrievers.rewrite import LONGEST_QUESTION, AsIs, FollowUpRules, LlmRewriter

LEAVE = Turn("How long is parental leave?", "16 weeks.")
VACATION = Turn("年假有几天？", "十天。")


@pytest.mark.parametrize(
    ("history", "question", "search"),
    [
        ([LEAVE], "Who pays for it?", "How long is parental leave? Who pays for it?"),
        ([LEAVE], "And for fathers?", "How long is parental leave? And for fathers?"),
        ([LEAVE], "Why?", "How long is parental leave? Why?"),
        ([VACATION], "它可以结转吗？", "年假有几天？它可以结转吗？"),
        ([VACATION], "病假呢？", "年假有几天？病假呢？"),
        ([VACATION], "那么婚假有几天", "年假有几天？那么婚假有几天"),
        (
            [LEAVE, Turn("Who pays for it?", "The company.")],
            "Is that taxed?",
            "How long is parental leave? Who pays for it? Is that taxed?",
        ),
    ],
)
async def test_a_follow_up_is_searched_with_the_question_that_it_points_back_at(
    history: list[Turn], question: str, search: str
) -> None:
    query = await FollowUpRules().rewrite(question, history)
    assert (query.text, query.standalone) == (question, search)


@pytest.mark.parametrize(
    ("history", "question"),
    [
        ([], "Who pays for it?"),
        ([], "它可以结转吗？"),
        ([LEAVE], "How is the expense report submitted?"),
        ([VACATION], "差旅报销的标准"),
    ],
)
async def test_a_question_of_its_own_stays_as_it_is(history: list[Turn], question: str) -> None:
    assert (await FollowUpRules().rewrite(question, history)).searches == (question,)


async def test_only_the_last_three_questions_are_taken_along() -> None:
    history = [LEAVE, *(Turn(f"And it {n}?", "Yes.") for n in range(5))]
    query = await FollowUpRules().rewrite("Why is that?", history)
    assert query.standalone == "And it 2? And it 3? And it 4? Why is that?"


async def test_off_means_as_it_is() -> None:
    assert (await AsIs().rewrite("Who pays for it?", [LEAVE])).searches == ("Who pays for it?",)


class Saying:
    """Not a model: it says what the test laid down, for what is done with the text is tested here."""

    name = "saying"
    context_tokens = 4096
    prompt_style = "chat"
    preset = OLLAMA

    def __init__(self, text: str) -> None:
        self.text = text
        self.prompts: list[str] = []

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: object = None
    ) -> AsyncGenerator[Delta, None]:
        self.prompts.append(messages[0].content)
        yield Delta(self.text, FinishReason.STOP)

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return None

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return


async def test_the_model_resolves_a_follow_up_from_the_conversation() -> None:
    model = Saying('{"question": "Who pays for\\nparental leave?"}')
    query = await LlmRewriter(model).rewrite("Who pays for it?", [LEAVE])
    assert query.searches == ("Who pays for parental leave?",)
    assert query.text == "Who pays for it?"
    [prompt] = model.prompts
    assert "Q: How long is parental leave?\nA: 16 weeks." in prompt
    assert prompt.endswith("New question: Who pays for it?")


async def test_of_a_long_conversation_the_model_reads_the_last_turns_that_fit() -> None:
    model = Saying('{"question": "Who pays for parental leave?"}')
    history = [Turn(f"Question {n} is {'long ' * 400}", f"Answer {n}.") for n in range(9)]
    await LlmRewriter(model).rewrite("Who pays for it?", history)
    [prompt] = model.prompts
    assert estimated_tokens([Message(Role.USER, prompt)]) <= model.context_tokens - 256
    assert ["Answer 8." in prompt, "Answer 5." in prompt, "Answer 2." in prompt] == [True, True, False]


async def test_a_turn_that_does_not_fit_is_an_error_that_the_pipeline_reports() -> None:
    saying = Saying("unused")
    with pytest.raises(PromptTooLong, match="saying has no room"):
        await LlmRewriter(saying).rewrite("Who pays for it?", [Turn("long " * 4000, "Yes.")])
    assert saying.prompts == []


async def test_the_model_is_not_asked_without_a_conversation() -> None:
    model = Saying("unused")
    assert (await LlmRewriter(model).rewrite("年假有几天", [])).searches == ("年假有几天",)
    assert model.prompts == []


@pytest.mark.parametrize("text", ["", "  \n ", '""', "x" * (LONGEST_QUESTION + 1)])
async def test_an_unusable_rewrite_is_dropped_for_the_rules(text: str) -> None:
    saying = Saying(json.dumps({"question": text}))
    query = await LlmRewriter(saying).rewrite("Who pays for it?", [LEAVE])
    assert query.searches == ("How long is parental leave? Who pays for it?", "Who pays for it?")


async def test_a_follow_up_is_searched_with_its_subject_and_alone() -> None:
    query = await FollowUpRules().rewrite("Who pays for it?", [LEAVE])
    assert query.searches == ("How long is parental leave? Who pays for it?", "Who pays for it?")


async def test_a_question_in_another_language_is_not_mixed_with_the_one_before() -> None:
    query = await FollowUpRules().rewrite("Who is the electrician?", [Turn("闸门提前多久关闭？", "十分钟。")])
    assert query.searches == ("Who is the electrician?",)


async def test_a_model_that_does_not_answer_in_json_is_an_error_that_the_pipeline_reports() -> None:
    saying = Saying("Who pays for parental leave?")
    with pytest.raises(ModelError, match="saying was asked for JSON"):
        await LlmRewriter(saying).rewrite("Who pays for it?", [LEAVE])
    assert len(saying.prompts) == 2
