"""What every language model offers, and the parameters that shape its text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

# How a model is addressed: by turns of a conversation, or (base models) by plain text to be continued.
PromptStyle = Literal["chat", "completion"]


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. None leaves the engine's default.

    `max_new_tokens` bounds the answer (tokens); `temperature` 0 is greedy; `top_k` keeps the k likeliest
    tokens; `repetition_penalty` > 1 discourages tokens already used; generation ends at any of `stop`.
    """

    max_new_tokens: int = 512
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the engine counted them; 0 where it does not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer. The last one has a `finish_reason` and the usage.

    A delta without text says that the engine is alive, as when a model thinks before it answers.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage = field(default_factory=Usage)


class LLM(Protocol):
    """A language model behind some engine.

    `stream` yields at least one delta, and exactly one with a finish reason, the last. It raises
    `ModelUnavailable` when the engine does not answer, `ModelTimeout` when it is too slow, `ModelError`
    when it refuses (a prompt over `context_tokens` included: nothing is cut silently) or breaks off.
    Closing the iterator stops the engine; use `contextlib.aclosing` where you may leave early.
    """

    @property
    def name(self) -> str:
        """Engine and model in words, as in "ollama qwen3:8b"."""
        ...

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and answer may have together."""
        ...

    def stream(self, messages: Sequence[Message], params: SamplingParams) -> AsyncGenerator[Delta, None]: ...

    async def ping(self) -> None:
        """Return if the engine answers and has the model, else raise and say what to do."""
        ...

    async def close(self) -> None: ...


async def complete(llm: LLM, messages: Sequence[Message], params: SamplingParams) -> str:
    """The whole answer as one string."""
    async with aclosing(llm.stream(messages, params)) as deltas:
        return "".join([delta.text async for delta in deltas])


def plain_text(messages: Sequence[Message]) -> str:
    """The messages as one text, an empty line between them: what the `completion` style sends."""
    return "\n\n".join(message.content for message in messages)
