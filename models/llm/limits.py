"""How many answers are written at a time, and how long do we wait for each piece?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from core.errors import ModelTimeout
from models.llm.base import LLM, Delta, Message, SamplingParams


class LimitedLLM:
    """`inner`, but at most `concurrency` answers at a time, first come first served.

    `timeout_s` bounds both the wait for a turn and the silence before each delta: `ModelTimeout` after it.
    A consumer that closes the stream, or is cancelled, stops the engine and gives its turn to the next.
    """

    def __init__(self, inner: LLM, *, concurrency: int, timeout_s: float) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(concurrency)  # wakes waiters in the order they came

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def context_tokens(self) -> int:
        return self._inner.context_tokens

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams
    ) -> AsyncGenerator[Delta, None]:
        await self._turn()
        try:
            async with aclosing(self._inner.stream(messages, params)) as deltas:
                while (delta := await self._next(deltas)) is not None:
                    yield delta
        finally:
            self._turns.release()

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._inner.ping()
        except TimeoutError:
            raise ModelTimeout(f"{self.name} did not answer a ping for {self._timeout_s:g} s.") from None

    async def close(self) -> None:
        await self._inner.close()

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
        except TimeoutError:
            raise ModelTimeout(
                f"{self.name} was busy with other requests for {self._timeout_s:g} s.",
                hint="Raise llm.concurrency if the engine has room, else try again later.",
            ) from None

    async def _next(self, deltas: AsyncGenerator[Delta, None]) -> Delta | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await anext(deltas, None)
        except TimeoutError:
            raise ModelTimeout(
                f"{self.name} was silent for {self._timeout_s:g} s.",
                hint="Raise llm.timeout_s, or use a smaller model.",
            ) from None
