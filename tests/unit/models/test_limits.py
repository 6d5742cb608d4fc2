"""Does `LimitedLLM` bound how many answers are written, and how long anyone waits?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from core.errors import ModelBrokeOff, ModelError, ModelTimeout, ModelUnavailable, RagError
from models.llm.base import LLM, Delta, FinishReason, Message, Role, complete
from models.llm.limits import PAUSE_S, LimitedLLM, RetryingLLM
from models.llm.sampling import SamplingParams

PATIENT_S = 30.0


class GatedLLM:
    """Begins an answer at once and ends it when its gate opens; keeps the books on who is inside."""

    name = "gated"
    context_tokens = 512

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun: list[str] = []
        self.inside = 0
        self.most_inside = 0

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: object = None
    ) -> AsyncGenerator[Delta, None]:
        self.begun.append(messages[0].content)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            yield Delta(text="a")
            await self.gate.wait()
            yield Delta(text="b")
            yield Delta(finish_reason=FinishReason.STOP)
        finally:
            self.inside -= 1

    async def ping(self) -> None:
        await self.gate.wait()

    async def close(self) -> None: ...


def ask(llm: LLM, text: str) -> asyncio.Task[str]:
    return asyncio.create_task(complete(llm, [Message(Role.USER, text)], SamplingParams()))


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_no_more_than_so_many_run_and_the_rest_come_in_their_order() -> None:
    inner = GatedLLM()
    llm = LimitedLLM(inner, turns=asyncio.Semaphore(2), timeout_s=PATIENT_S)
    tasks = [ask(llm, str(number)) for number in range(7)]
    await settle()
    assert inner.begun == ["0", "1"]
    inner.gate.set()
    assert await asyncio.gather(*tasks) == ["ab"] * 7
    assert inner.begun == [str(number) for number in range(7)]
    assert (inner.most_inside, inner.inside) == (2, 0)


async def test_silence_is_a_timeout_that_stops_the_engine_and_frees_the_turn() -> None:
    inner = GatedLLM()
    llm = LimitedLLM(inner, turns=asyncio.Semaphore(1), timeout_s=0.05)
    with pytest.raises(ModelTimeout, match="silent"):
        await ask(llm, "slow")
    assert inner.inside == 0
    inner.gate.set()
    assert await ask(llm, "quick") == "ab"


async def test_waiting_too_long_for_a_turn_is_a_timeout_and_takes_no_turn() -> None:
    inner = GatedLLM()
    llm = LimitedLLM(inner, turns=asyncio.Semaphore(1), timeout_s=0.05)
    async with aclosing(llm.stream([Message(Role.USER, "first")], SamplingParams())) as held:
        await anext(held)  # then its reader pauses, which is no silence of the engine
        with pytest.raises(ModelTimeout, match="busy"):
            await ask(llm, "second")
        inner.gate.set()
        assert [delta.text async for delta in held] == ["b", ""]
    assert await ask(llm, "third") == "ab"
    assert inner.begun == ["first", "third"]


@pytest.mark.parametrize("leave", ["close", "cancel"])
async def test_a_reader_that_leaves_stops_the_engine_and_frees_the_turn(leave: str) -> None:
    inner = GatedLLM()
    llm = LimitedLLM(inner, turns=asyncio.Semaphore(1), timeout_s=PATIENT_S)
    if leave == "close":
        async with aclosing(llm.stream([Message(Role.USER, "first")], SamplingParams())) as stream:
            await anext(stream)
            assert inner.inside == 1
    else:
        task = ask(llm, "first")
        await settle()
        assert inner.inside == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert inner.inside == 0
    inner.gate.set()
    assert await ask(llm, "second") == "ab"


async def test_one_who_leaves_the_queue_does_not_hold_up_those_behind() -> None:
    inner = GatedLLM()
    llm = LimitedLLM(inner, turns=asyncio.Semaphore(1), timeout_s=PATIENT_S)
    first, second, third = (ask(llm, name) for name in ("first", "second", "third"))
    await settle()
    second.cancel()
    inner.gate.set()
    assert await asyncio.gather(first, third) == ["ab", "ab"]
    assert inner.begun == ["first", "third"]


async def test_a_ping_that_hangs_is_a_timeout() -> None:
    with pytest.raises(ModelTimeout):
        await LimitedLLM(GatedLLM(), turns=asyncio.Semaphore(1), timeout_s=0.05).ping()


class FailingLLM(GatedLLM):
    """Fails as often as it is told to, after so many deltas."""

    def __init__(self, error: RagError, *, times: int, after: int = 0) -> None:
        super().__init__()
        self.error, self.times, self.after = error, times, after

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: object = None
    ) -> AsyncGenerator[Delta, None]:
        self.begun.append(messages[0].content)
        for _ in range(self.after):
            yield Delta(text="a")
        if len(self.begun) <= self.times:
            raise self.error
        yield Delta(text="b", finish_reason=FinishReason.STOP)


@pytest.mark.parametrize("error", [ModelUnavailable("away"), ModelBrokeOff("broke")])
async def test_an_engine_that_fails_before_the_answer_begins_is_asked_once_more(error: RagError) -> None:
    inner = FailingLLM(error, times=1)
    assert await ask(RetryingLLM(inner), "x") == "b"
    assert len(inner.begun) == 2
    with pytest.raises(type(error)):
        await ask(RetryingLLM(FailingLLM(error, times=2)), "x")


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [(ModelUnavailable("away"), PAUSE_S), (ModelUnavailable("busy", retry_after_s=3.0), 3.0)],
)
async def test_the_second_try_comes_at_once_unless_the_engine_asks_for_patience(
    error: RagError, pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("models.llm.limits.asyncio.sleep", slept)
    await ask(RetryingLLM(FailingLLM(error, times=1)), "x")
    assert pauses == [pause_s]


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (ModelBrokeOff("broke"), 1),  # the reader has seen a part
        (ModelTimeout("slow"), 0),  # who waited once need not wait twice
        (ModelError("no"), 0),  # would refuse again
        (ModelUnavailable("busy", retry_after_s=60), 0),  # the client is told to wait, and does not wait here
    ],
)
async def test_what_another_try_cannot_mend_is_not_tried_again(error: RagError, after: int) -> None:
    inner = FailingLLM(error, times=1, after=after)
    with pytest.raises(type(error)):
        await ask(RetryingLLM(inner), "x")
    assert len(inner.begun) == 1


async def test_tokens_are_counted_over_a_connection_that_went_stale() -> None:
    class Stale(GatedLLM):
        asked = 0

        async def count_tokens(self, messages: Sequence[Message]) -> int:
            self.asked += 1
            if self.asked == 1:
                raise ModelUnavailable("disconnected")
            return 7

    assert await RetryingLLM(Stale()).count_tokens([]) == 7
