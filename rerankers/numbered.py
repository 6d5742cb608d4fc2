"""How does a language model choose among numbered texts? It answers with their numbers, best first."""

from __future__ import annotations

from pydantic import BaseModel

from models.llm.base import LLM, Message, Role
from models.llm.sampling import SamplingParams
from models.llm.structured import complete_json
from models.llm.tokens import estimated_tokens

ANSWER_TOKENS = 32  # of an answer without numbers
NUMBER_TOKENS = 5  # of each number in it: three digits, comma, space


class Choice(BaseModel):
    numbers: list[int]


async def chosen(llm: LLM, prompt: str, count: int) -> list[int]:
    """The positions (from 0) of those of `count` texts whose numbers (from 1) the model writes, in its order.

    Repeated and unknown numbers are dropped. Raises as `complete_json` does.
    """
    params = SamplingParams(max_new_tokens=ANSWER_TOKENS + count * NUMBER_TOKENS, temperature=0.0)
    choice = await complete_json(llm, [Message(Role.USER, prompt)], Choice, params)
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
