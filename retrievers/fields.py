"""Which values of a knowledge base's declared fields does a question name? Rules only: a value counts where it stands.

"What did legal decide in 2025?" names the department legal and the year 2025, if the knowledge base says that its
documents have these fields. What is named becomes a filter, so the rules are strict: the exact value, as a word of its
own, and not one that the question leaves out ("except legal", 除了法务部). Of numbers none is named where the question
asks for what lies before, after or between some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.text import STOP_WORDS, fold, is_cjk, nfkc
from core.types import Scalar
from stores.filters import In, type_of

SHORTEST_VALUE = 2  # characters; a single one is found anywhere


class DeclaredField(BaseModel):
    """An attribute that documents have, and that questions may name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, examples=["department"])
    type: Literal["text", "number"] = "text"
    values: list[str | int | float] | None = Field(
        None,
        max_length=1000,
        description="What may stand there; null: what stands in the documents (the first thousand values).",
    )
    description: str = Field("", max_length=500)


_LEFT_OUT_BEFORE = re.compile(
    r"(?:\b(?:except|excluding|without|other than|not|(?:everyone|everybody|everything|all|any) but)"
    r"(?:\s+(?:for|in|from|by|of|the))*\s*"
    r"|除了?|不是|不在|不含|不包括|排除|非)$"
)
_LEFT_OUT_BEHIND = re.compile(r"^\s*(?:以外|之外)")
_BOUND = re.compile(
    r"\b(?:before|after|since|until|till|by|between|than|over|under|above|below|at least|at most|up to|prior to)"
    r"\s+(?:(?:the|end|start|beginning|year|of)\s+)*\d"
    r"|\bfrom\s+\d\S*\s+(?:to|until|till|on|onwards?)\b|\d\s+(?:or|and)\s+(?:later|earlier|newer|older|more|less)\b"
    r"|\d\s*年?(?:度|初|底|末)?\s*(?:及|或|和)?\s*(?:以前|之前|以后|之后|以来|前|后|起|至|到|以上|以下)"
)
# Values that are also words of any question count only where they are written as names are: "the IT department".
_WORDS = STOP_WORDS | {"all", "am", "any", "if", "may", "us"}


def recognised(question: str, field: DeclaredField, values: Iterable[Scalar]) -> In | None:
    """The filter that the field's values in the question make; None if there are none."""
    text = nfkc(question)
    if field.type == "number" and _BOUND.search(text.lower()):
        return None
    named = {value: fold(str(value)) for value in _of_type(field, values) if _stands_in(text, value)}
    # "人事部" also holds "人事": the longer one is meant.
    meant = [v for v, word in named.items() if not any(word != w and word in w for w in named.values())]
    return In(field.name, tuple(meant)) if meant else None


def _of_type(field: DeclaredField, values: Iterable[Scalar]) -> Iterator[Scalar]:
    for value in dict.fromkeys(values):
        if type_of(value) == field.type and len(str(value)) >= SHORTEST_VALUE:
            yield value


def _stands_in(text: str, value: Scalar) -> bool:
    """Whether the value stands in the text as a word of its own, and is not left out there."""
    written, word = nfkc(str(value)), fold(str(value))
    if word in _WORDS:
        word = word.upper() if word == written else written
    else:
        text = text.lower()
    word = re.escape(word)
    if not isinstance(value, str):
        pattern = rf"(?<![\d.]){word}(?!\d|\.\d)"
    else:
        pattern = word if is_cjk(value) else rf"(?<![^\W\u3400-\u9fff]){word}(?![^\W\u3400-\u9fff])"
    return any(
        not _LEFT_OUT_BEFORE.search(text[: found.start()].lower())
        and not _LEFT_OUT_BEHIND.search(text[found.end() :])
        for found in re.finditer(pattern, text)
    )


def declared(fields: Sequence[object]) -> tuple[DeclaredField, ...]:
    """The fields as the settings of a knowledge base keep them."""
    return tuple(DeclaredField.model_validate(field) for field in fields)
