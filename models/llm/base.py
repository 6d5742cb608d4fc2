"""What does every language model offer?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from models.llm.presets import Preset
from models.llm.sampling import SamplingParams

# How a model is addressed: by turns of a conversation, or (base models) by plain text to be continued.
PromptStyle = Literal["chat", "completion"]
JsonSchema = dict[str, Any]


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


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
    when it refuses (`PromptTooLong` for a prompt over `context_tokens`: nothing is cut silently), `ModelBrokeOff`
    when it breaks off. `InvalidValue` names a parameter that the engine lacks. With a `schema` the text is JSON of
    that shape, if `preset` says that the engine can be held to one; else the schema is ignored.
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

    @property
    def prompt_style(self) -> PromptStyle:
        """`completion` is a base model: it continues texts and follows no instructions."""
        ...

    @property
    def preset(self) -> Preset:
        """What the engine can do."""
        ...

    def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: JsonSchema | None = None
    ) -> AsyncGenerator[Delta, None]: ...

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the prompt as the model's own tokenizer counts them, its chat template included.

        None if the engine cannot be asked. Raises as `stream` does.
        """
        ...

    async def ping(self) -> None:
        """Return if the engine answers and has the model, else raise and say what to do."""
        ...

    async def close(self) -> None: ...


async def complete(
    llm: LLM, messages: Sequence[Message], params: SamplingParams, schema: JsonSchema | None = None
) -> str:
    """The whole answer as one string."""
    async with aclosing(llm.stream(messages, params, schema)) as deltas:
        return "".join([delta.text async for delta in deltas])


def plain_text(messages: Sequence[Message]) -> str:
    """The messages as one text, an empty line between them: what the `completion` style sends."""
    return "\n\n".join(message.content for message in messages)
