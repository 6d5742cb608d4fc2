"""A language model that says what a test laid down, for tests of what is done with the text."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from models.llm.base import Delta, FinishReason, Message
from models.llm.presets import LLAMA_CPP
from models.llm.sampling import SamplingParams


class FakeModel:
    """Writes the same JSON each time, and keeps what it was asked."""

    name = "fake"
    prompt_style = "chat"
    preset = LLAMA_CPP

    def __init__(self, *, context_tokens: int = 4096, **written: Any) -> None:
        self.context_tokens = context_tokens
        self.text = json.dumps(written)
        self.calls: list[list[Message]] = []
        self.schemas: list[Any] = []

    @property
    def messages(self) -> list[Message]:
        """Of the last call."""
        return self.calls[-1]

    @property
    def prompts(self) -> list[str]:
        return [messages[0].content for messages in self.calls]

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: object = None
    ) -> AsyncGenerator[Delta, None]:
        self.calls.append(list(messages))
        self.schemas.append(schema)
        yield Delta(self.text, FinishReason.STOP)

    async def count_tokens(self, messages: Sequence[Message]) -> None:
        return

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        return
