"""What must every language model behind `models.llm.base.LLM` do? The tests that each engine inherits.

A subclass supplies the fixture `new_llm`. Assertions hold for any model, however small: what ends an
answer, what is counted, what is refused; never what the model says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Literal

import pytest
from pydantic import BaseModel

from core.errors import PromptTooLong
from models.llm.base import LLM, Delta, FinishReason, Message, Role, complete
from models.llm.sampling import SamplingParams
from models.llm.structured import complete_json
from models.llm.tokens import estimated_tokens

# Opens an LLM with so many context tokens, that answers one request at a time, and closes it.
NewLLM = Callable[[int], AbstractAsyncContextManager[LLM]]

CONTEXT = 256


class Town(BaseModel):
    """Short in every field, for a model that does not know when to end."""

    kind: Literal["town", "city"]
    people: Literal[10, 20]


COUNT = [Message(Role.USER, "1, 2, 3, 4, 5, 6, 7, 8, 9,")]


def greedy(max_new_tokens: int, *stop: str) -> SamplingParams:
    return SamplingParams(max_new_tokens=max_new_tokens, temperature=0, stop=stop)


async def answer(llm: LLM, messages: list[Message], params: SamplingParams) -> tuple[str, Delta]:
    """The text and the last delta; what holds for every stream is checked on the way."""
    *pieces, last = [delta async for delta in llm.stream(messages, params)]
    assert all(piece.finish_reason is None for piece in pieces)
    assert last.finish_reason is not None
    assert last.usage.prompt_tokens > 0
    return "".join(piece.text for piece in pieces) + last.text, last


class LLMContract:
    @pytest.fixture
    def new_llm(self) -> NewLLM:
        raise NotImplementedError

    async def test_a_model_that_is_there_answers_a_ping(self, new_llm: NewLLM) -> None:
        async with new_llm(CONTEXT) as llm:
            await llm.ping()
            assert llm.context_tokens == CONTEXT
            assert llm.name

    async def test_an_answer_ends_at_its_limit_and_is_counted(self, new_llm: NewLLM) -> None:
        async with new_llm(CONTEXT) as llm:
            text, last = await answer(llm, COUNT, greedy(6))
        assert text
        assert last.finish_reason is FinishReason.LENGTH
        assert last.usage.completion_tokens == 6

    async def test_a_longer_prompt_has_more_tokens(self, new_llm: NewLLM) -> None:
        longer = [Message(Role.USER, COUNT[0].content + " 10, 11, 12, 13,")]
        async with new_llm(CONTEXT) as llm:
            _, short = await answer(llm, COUNT, greedy(1))
            _, long = await answer(llm, longer, greedy(1))
        assert long.usage.prompt_tokens > short.usage.prompt_tokens

    async def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(self, new_llm: NewLLM) -> None:
        async with new_llm(CONTEXT) as llm:
            whole, _ = await answer(llm, COUNT, greedy(24))
            middle = len(whole) // 2
            stop = whole[middle : middle + 2]
            text, last = await answer(llm, COUNT, greedy(24, "never said", stop))
        # A space before the stop string may go with the piece that held it.
        assert text.rstrip() == whole[: whole.index(stop)].rstrip()
        assert last.finish_reason is FinishReason.STOP

    async def test_greedy_answers_repeat_and_come_in_pieces(self, new_llm: NewLLM) -> None:
        async with new_llm(CONTEXT) as llm:
            texts = [await complete(llm, COUNT, greedy(16)) for _ in range(2)]
            pieces = [delta.text async for delta in llm.stream(COUNT, greedy(16)) if delta.text]
        assert texts == ["".join(pieces)] * 2
        assert len(pieces) > 4

    async def test_a_seed_makes_sampling_repeat(self, new_llm: NewLLM) -> None:
        params = SamplingParams(
            max_new_tokens=16, temperature=1.0, top_k=50, top_p=0.95, repetition_penalty=1.1, seed=7
        )
        async with new_llm(CONTEXT) as llm:
            # The first answer reads the prompt, the others find it in the cache: llama.cpp rounds otherwise.
            _, second, third = [await complete(llm, COUNT, params) for _ in range(3)]
        assert second == third

    async def test_chinese_comes_out_whole(self, new_llm: NewLLM) -> None:
        async with new_llm(CONTEXT) as llm:
            text = await complete(
                llm, [Message(Role.USER, "春眠不觉晓，处处闻啼鸟。夜来风雨声，")], greedy(24)
            )
        assert "\ufffd" not in text[:-1]  # the limit may cut the last character

    async def test_a_prompt_over_the_context_is_refused_and_not_cut(self, new_llm: NewLLM) -> None:
        too_long = [Message(Role.USER, "word " * (CONTEXT + 100))]
        async with new_llm(CONTEXT) as llm:
            with pytest.raises(PromptTooLong):
                await answer(llm, too_long, greedy(4))
            await answer(llm, COUNT, greedy(4))  # and the next prompt is answered

    async def test_an_answer_ends_where_the_context_does(self, new_llm: NewLLM) -> None:
        params = SamplingParams(max_new_tokens=4 * CONTEXT, temperature=0, repetition_penalty=1.0)
        async with new_llm(CONTEXT) as llm:
            _, last = await answer(llm, COUNT, params)
        assert last.usage.prompt_tokens + last.usage.completion_tokens <= CONTEXT + 1

    async def test_an_engine_that_says_so_is_held_to_a_json_schema(self, new_llm: NewLLM) -> None:
        question = [Message(Role.USER, "A town as JSON:")]
        params = SamplingParams(max_new_tokens=150, temperature=0)
        async with new_llm(512) as llm:
            if not llm.preset.holds_to_json(chat=llm.prompt_style == "chat"):
                pytest.skip(f"{llm.preset.title} cannot be held to JSON")
            town = await complete_json(llm, question, Town, params)
        assert town.kind in ("town", "city")

    async def test_tokens_are_counted_as_the_engine_counts_them(self, new_llm: NewLLM) -> None:
        for prompt in (COUNT, [Message(Role.USER, "春眠不觉晓，处处闻啼鸟。")]):
            async with new_llm(CONTEXT) as llm:
                counted = await llm.count_tokens(prompt)
                _, last = await answer(llm, prompt, greedy(1))
            # An engine without such a request has an estimate, which must not be too low.
            assert counted == last.usage.prompt_tokens or (
                counted is None and estimated_tokens(prompt) >= last.usage.prompt_tokens
            )

    @pytest.mark.parametrize("leave", ["close", "cancel"])
    async def test_leaving_early_stops_the_engine(self, new_llm: NewLLM, leave: str) -> None:
        # The engine answers one at a time, and an answer this long outlasts the client's time-out: were it
        # written to its end, the second question would end in a `ModelTimeout`.
        endless = greedy(30_000)
        async with new_llm(32_000) as llm:
            if leave == "close":
                async with aclosing(llm.stream(COUNT, endless)) as stream:
                    await anext(stream)
            else:
                await _cancel_after_first_piece(llm, endless)
            text, _ = await answer(llm, COUNT, greedy(4))
        assert text

    async def test_concurrent_questions_are_all_answered(self, new_llm: NewLLM) -> None:
        async with new_llm(CONTEXT) as llm:
            answers = await asyncio.gather(*(answer(llm, COUNT, greedy(4)) for _ in range(4)))
        assert all(last.usage.completion_tokens == 4 for _, last in answers)


async def _cancel_after_first_piece(llm: LLM, params: SamplingParams) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in llm.stream(COUNT, params):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
