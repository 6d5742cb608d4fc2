"""How many answers are written at a time, how long do we wait for each piece, and when do we try again?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from core.errors import ModelBrokeOff, ModelTimeout, ModelUnavailable
from models.llm.base import LLM, Delta, JsonSchema, Message, PromptStyle
from models.llm.presets import Preset
from models.llm.sampling import SamplingParams

log = logging.getLogger(__name__)
PAUSE_S = 0.2  # before the second try: a server that has just restarted, a connection that went stale
LONGEST_PAUSE_S = 5.0  # if the engine asks for more patience, the client is told instead


class Wrapped:
    """`inner`, unless a subclass says otherwise."""

    def __init__(self, inner: LLM) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def context_tokens(self) -> int:
        return self._inner.context_tokens

    @property
    def prompt_style(self) -> PromptStyle:
        return self._inner.prompt_style

    @property
    def preset(self) -> Preset:
        return self._inner.preset

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return await self._inner.count_tokens(messages)

    async def ping(self) -> None:
        await self._inner.ping()

    async def close(self) -> None:
        await self._inner.close()


class RetryingLLM(Wrapped):
    """`inner`, asked once more if the engine was away or broke off before anything of the answer was there.

    Afterwards never: the reader has seen a part that a second answer need not begin with. Counting tokens, too, is
    tried once more: a connection that was kept alive may have gone stale.
    """

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        try:
            return await self._inner.count_tokens(messages)
        except ModelUnavailable:
            return await self._inner.count_tokens(messages)

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: JsonSchema | None = None
    ) -> AsyncGenerator[Delta, None]:
        begun = False
        try:
            async with aclosing(self._inner.stream(messages, params, schema)) as deltas:
                async for delta in deltas:
                    begun = True
                    yield delta
            return
        except (ModelUnavailable, ModelBrokeOff) as error:
            pause_s = error.asked_pause_s or PAUSE_S
            if begun or pause_s > LONGEST_PAUSE_S:
                raise
            log.warning("%s; trying once more", error.message)
        await asyncio.sleep(pause_s)
        async with aclosing(self._inner.stream(messages, params, schema)) as deltas:
            async for delta in deltas:
                yield delta


class LimitedLLM(Wrapped):
    """`inner`, but answers only when it is its turn, first come first served.

    `turns` is the number of answers that the engine writes at a time; models of one engine share it. `timeout_s`
    bounds both the wait for a turn and the silence before each delta: `ModelTimeout` after it.
    A consumer that closes the stream, or is cancelled, stops the engine and gives its turn to the next.
    """

    def __init__(self, inner: LLM, *, turns: asyncio.Semaphore, timeout_s: float) -> None:
        super().__init__(inner)
        self.waiting = 0  # answers that wait for their turn
        self.running = 0  # answers that are being written
        self._timeout_s = timeout_s
        self._turns = turns  # wakes waiters in the order they came

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: JsonSchema | None = None
    ) -> AsyncGenerator[Delta, None]:
        await self._turn()
        self.running += 1
        try:
            async with aclosing(self._inner.stream(messages, params, schema)) as deltas:
                while (delta := await self._next(deltas)) is not None:
                    yield delta
        finally:
            self.running -= 1
            self._turns.release()

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Without a turn: it writes nothing. A time-out as in `stream`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._inner.count_tokens(messages)
        except TimeoutError:
            raise ModelTimeout(f"{self.name} did not count tokens for {self._timeout_s:g} s.") from None

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._inner.ping()
        except TimeoutError:
            raise ModelTimeout(f"{self.name} did not answer a ping for {self._timeout_s:g} s.") from None

    async def _turn(self) -> None:
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
        except TimeoutError:
            raise ModelTimeout(
                f"{self.name} was busy with other requests for {self._timeout_s:g} s.",
                hint="Raise llm.concurrency if the engine has room, else try again later.",
            ) from None
        finally:
            self.waiting -= 1

    async def _next(self, deltas: AsyncGenerator[Delta, None]) -> Delta | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await anext(deltas, None)
        except TimeoutError:
            raise ModelTimeout(
                f"{self.name} was silent for {self._timeout_s:g} s.",
                hint="Raise llm.timeout_s, or use a smaller model.",
            ) from None
