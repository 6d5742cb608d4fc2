"""How many tokens is a prompt? The engine is asked where it can tell; else there is an estimate on the safe side."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from core.errors import ModelError
from core.text import CJK
from models.llm.base import LLM, Message, PromptStyle, plain_text
from models.llm.presets import Json, Tokenizer

# Sends JSON to a path below the root of the engine's server and returns the JSON of its answer.
Post = Callable[[str, Json], Awaitable[Any]]

MESSAGE_TOKENS = 16
_SINGLE = re.compile(rf"[{CJK}]|\d|[^\w\s]")
# FastChat counts the text alone, without the words and marks of its conversation template.
FASTCHAT_TEMPLATE_TOKENS = 64


async def count_by_engine(
    tokenizer: Tokenizer, post: Post, model: str, messages: Sequence[Message], style: PromptStyle
) -> int | None:
    """Tokens of the prompt that the engine would read, its chat template included; None if it does not tell.

    Raises `TypeError` and the like if the engine's answer has another shape.
    """
    match tokenizer:
        case Tokenizer.LLAMA_CPP:
            return await _llama_cpp(post, messages, style)
        case Tokenizer.VLLM:
            prompt: Json = (
                {"messages": turns(messages)} if style == "chat" else {"prompt": plain_text(messages)}
            )
            return int((await post("/tokenize", {"model": model, **prompt}))["count"])
        case Tokenizer.FASTCHAT:
            asked = {"model": model, "prompt": plain_text(messages), "max_tokens": 1}
            checked = await post("/api/v1/token_check", {"prompts": [asked]})
            return int(checked["prompts"][0]["tokenCount"]) + FASTCHAT_TEMPLATE_TOKENS
        case Tokenizer.RTP_LLM:
            rendered = await post("/v1/chat/render", {"model": model, "messages": turns(messages)})
            return len(rendered["input_ids"])
        case Tokenizer.NONE:
            return None


async def _llama_cpp(post: Post, messages: Sequence[Message], style: PromptStyle) -> int:
    if style == "chat":
        text = (await post("/apply-template", {"messages": turns(messages)}))["prompt"]
    else:
        text = plain_text(messages)
    asked = {"content": text, "add_special": True, "parse_special": True}
    return len((await post("/tokenize", asked))["tokens"])


async def prompt_tokens(llm: LLM, messages: Sequence[Message]) -> int:
    """Tokens of the prompt as the engine counts them, else by the estimate."""
    try:
        counted = await llm.count_tokens(messages)
    except ModelError:  # behind a proxy, say, that lets only /v1 through
        counted = None
    return estimated_tokens(messages) if counted is None else counted


def turns(messages: Sequence[Message]) -> Any:
    """The messages as OpenAI's protocol has them."""
    return [{"role": message.role.value, "content": message.content} for message in messages]


def estimated_tokens(messages: Sequence[Message]) -> int:
    """An estimate of the prompt's tokens that is seldom too low, for engines that do not count.

    A token for each Chinese, Japanese or Korean character, digit and sign, 0.35 for each other character, and
    `MESSAGE_TOKENS` a message for what its template adds.
    """
    text = plain_text(messages)
    single = len(_SINGLE.findall(text))
    return round(single + 0.35 * (len(text) - single)) + MESSAGE_TOKENS * len(messages)
