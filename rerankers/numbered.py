"""How does a language model choose among numbered texts? It answers with their numbers, best first."""

from __future__ import annotations

from functools import lru_cache

from pydantic import BaseModel, Field, create_model
from pydantic.config import JsonDict

from models.llm.base import LLM, Message, Role
from models.llm.sampling import SamplingParams
from models.llm.structured import complete_json
from models.llm.tokens import estimated_tokens

ANSWER_TOKENS = 32  # of an answer without numbers
NUMBER_TOKENS = 8  # of each number in it: three digits and a comma on a line of its own


class Choice(BaseModel):
    numbers: list[int]


@lru_cache
def _choice_among(count: int) -> type[Choice]:
    """Engines that are held to the schema end in time and write known numbers only; what others write is read, too."""
    asked: JsonDict = {"maxItems": count, "items": {"type": "integer", "minimum": 1, "maximum": count}}
    numbers = (list[int], Field(json_schema_extra=asked))
    return create_model("Choice", __base__=Choice, numbers=numbers)


async def chosen(llm: LLM, prompt: str, count: int) -> list[int]:
    """The positions (from 0) of those of `count` texts whose numbers (from 1) the model writes, in its order.

    Repeated and unknown numbers are dropped. Raises as `complete_json` does.
    """
    params = SamplingParams(max_new_tokens=ANSWER_TOKENS + count * NUMBER_TOKENS, temperature=0.0)
    choice = await complete_json(llm, [Message(Role.USER, prompt)], _choice_among(count), params)
    return list(dict.fromkeys(number - 1 for number in choice.numbers if 1 <= number <= count))


def room(llm: LLM, bare: str) -> int:
    """Tokens for numbered texts beside the `bare` prompt and the answer.

    All of it is two thirds of the context: the rest is for the schema and the model's repeated try.
    """
    return llm.context_tokens * 2 // 3 - tokens(bare) - ANSWER_TOKENS


def cost(text: str, numbers: int = 1) -> int:
    """Tokens of a text that holds so many numbers, those of the numbers in the answer included."""
    return tokens(text) + numbers * NUMBER_TOKENS


def tokens(text: str) -> int:
    return estimated_tokens([Message(Role.USER, text)])
