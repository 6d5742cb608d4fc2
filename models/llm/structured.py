"""How does a model answer in JSON of a given shape? Held to it by the engine, or asked, checked and asked once more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from core.errors import ModelError
from models.llm.base import LLM, Message, Role, complete
from models.llm.sampling import SamplingParams

Shape = TypeVar("Shape", bound=BaseModel)
_ASK = "Answer only with a JSON object that matches this JSON schema, without any other text:\n{schema}"
_REPAIR = (
    "That is not a JSON object that matches the schema: {wrong}\nWrite the corrected object and nothing else."
)


async def complete_json(
    llm: LLM, messages: Sequence[Message], shape: type[Shape], params: SamplingParams
) -> Shape:
    """The model's answer as a `shape`.

    Where the engine can be held to a JSON schema it is; else the schema stands in the prompt. Either way the answer
    is checked (one that ends at `max_new_tokens` is half a JSON), and the model may mend a wrong one once.
    Raises `ModelError` if it cannot, and what `LLM.stream` raises.
    """
    schema = _closed(shape.model_json_schema())
    if not llm.preset.holds_to_json(chat=llm.prompt_style == "chat"):
        messages = [*messages, Message(Role.USER, _ASK.format(schema=json.dumps(schema, ensure_ascii=False)))]
    text = await complete(llm, messages, params, schema)
    try:
        return _parsed(shape, text)
    except ValueError as error:
        repair = Message(Role.USER, _REPAIR.format(wrong=_in_words(error)))
    again = await complete(llm, [*messages, Message(Role.ASSISTANT, text), repair], params, schema)
    try:
        return _parsed(shape, again)
    except ValueError as error:
        raise ModelError(
            f"{llm.name} was asked for JSON and answered something else twice: {_in_words(error)}",
            hint="Use a model that follows instructions better, or an engine that can be held to JSON "
            "(docs/sampling.md).",
        ) from error


def _closed(schema: Any) -> Any:
    """The schema without room for further properties, as engines (and OpenAI's `strict`) want it."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    return {**closed, "additionalProperties": False} if "properties" in closed else closed


def _parsed(shape: type[Shape], text: str) -> Shape:
    """The first JSON object in the text: models put words or a code fence around it. Raises `ValueError`."""
    start = text.find("{")
    if start < 0:
        raise ValueError("it has no object in braces")
    value: Any = json.JSONDecoder().raw_decode(text[start:])[0]
    return shape.model_validate(value)


def _in_words(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the object'}: {first['msg']}"
    return str(error)
