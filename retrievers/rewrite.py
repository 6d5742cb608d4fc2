"""From a question inside a conversation to a question that can be searched for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import BaseModel

from core.errors import PromptTooLong
from core.text import is_cjk, question_terms
from core.types import Query
from models.llm.base import LLM, Message, Role
from models.llm.sampling import SamplingParams
from models.llm.structured import complete_json
from models.llm.tokens import prompt_tokens
from retrievers.base import Turn

PARAMS = SamplingParams(max_new_tokens=256, temperature=0.0)
ROOM = 256 + 128  # tokens that the prompt leaves to the answer and to words about its shape
LONGEST_QUESTION = 500  # characters of a rewritten question; a longer one is not a question
# Words that point back at something said before.
_POINTS_BACK = re.compile(
    r"\b(it|its|they|them|their|this|these|those|he|him|his|she|her|the same|the former|the latter)\b"
    r"|^(and|but|what about|how about|also|why|then)\b"
    r"|[它他她]们?|[这那][个些里位种样次家]?|(?<!应)该|此|其(?![他它中余实])|上述|前者|后者"
    r"|^(那|还|另外|然后|为什么)|呢[？?]?$",
    re.IGNORECASE,
)


class AsIs:
    """Searches for exactly what was asked."""

    async def rewrite(self, question: str, history: Sequence[Turn]) -> Query:
        return Query(question, (question,))


class FollowUpRules:
    """Without a model: a question that points back is searched together with the question before it, and alone.

    Both, because the rule may be wrong: a passage that answers the question as it stands is then still found.
    """

    async def rewrite(self, question: str, history: Sequence[Turn]) -> Query:
        if not history or not points_back(question):
            return Query(question, (question,))
        subject = _subject(history)
        if is_cjk(subject) != is_cjk(question):
            return Query(question, (question,))  # another language: mixed words find nothing
        separator = "" if is_cjk(question) else " "
        return Query(question, (f"{subject}{separator}{question}", question))


def points_back(question: str) -> bool:
    """Whether the question seems to need the one before it: it has a pronoun, or hardly any words of its own."""
    return bool(_POINTS_BACK.search(question.strip())) or len(question_terms(question)) < 2


def _subject(history: Sequence[Turn]) -> str:
    """The last question that stands on its own, and the follow-ups since."""
    questions: list[str] = []
    for turn in reversed(history):
        questions.insert(0, turn.question)
        if not points_back(turn.question):
            break
    return " ".join(questions[-3:])


INSTRUCTION = {
    "zh": "下面是一段对话和一个新的问题。请把新的问题改写成不看对话也能看懂的完整问题，不要回答它，"
    '以 JSON 输出：{{"question": "改写后的问题"}}\n\n{history}\n\n新的问题：{question}',
    "en": "Below are a conversation and a new question. Rewrite the new question so that it can be "
    'understood without the conversation. Do not answer it; write JSON: {{"question": "the rewritten question"}}\n\n'
    "{history}\n\nNew question: {question}",
}


class Rewritten(BaseModel):
    """What the model is asked for."""

    question: str


class LlmRewriter:
    """Lets the language model resolve what a follow-up points at; a question without history stays as it is.

    An unusable rewrite (empty, endless) is dropped for the rules' one. Raises `ModelError` if there is none.
    """

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._rules = FollowUpRules()

    async def rewrite(self, question: str, history: Sequence[Turn]) -> Query:
        by_rules = await self._rules.rewrite(question, history)
        if not history:
            return by_rules
        answer = await complete_json(self._llm, await self._prompt(question, history), Rewritten, PARAMS)
        rewritten = " ".join(answer.question.split()).strip('"“” ')
        if not 0 < len(rewritten) <= LONGEST_QUESTION:
            return by_rules
        return Query(question, (rewritten,))

    async def _prompt(self, question: str, history: Sequence[Turn]) -> list[Message]:
        """The prompt with the latest turns, as many as fit. Raises `PromptTooLong` if not one does."""
        instruction = INSTRUCTION["zh" if is_cjk(question) else "en"]
        for first in range(len(history)):
            said = "\n".join(f"Q: {turn.question}\nA: {turn.answer[:400]}" for turn in history[first:])
            messages = [Message(Role.USER, instruction.format(history=said, question=question))]
            if await prompt_tokens(self._llm, messages) <= self._llm.context_tokens - ROOM:
                return messages
        raise PromptTooLong(f"{self._llm.name} has no room for the question and the one before it.")
