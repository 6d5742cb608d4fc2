"""What else is searched for than the question itself? Other wordings, its parts, an imagined passage, a translation.

Each technique is switched per knowledge base and per request; all of a request are written by the language model in one
call. Without a model only questions that hold several questions are taken apart, by rules.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Protocol, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from core.choices import merged_choices
from core.text import is_cjk, sentences
from core.types import Query
from models.llm.base import LLM, Message, Role
from models.llm.sampling import SamplingParams
from models.llm.structured import complete_json
from retrievers.rewrite import points_back

MOST_WORDINGS = 3  # of multi_query
MOST_PARTS = 4  # of decompose
LONGEST_SEARCH = 500  # characters; a longer one is not a question
LONGEST_IMAGINED = 2000  # characters of an imagined passage


class Technique(StrEnum):
    """REWRITE: the question as one would search for it. MULTI_QUERY: other wordings (RAG-Fusion). HYDE: an imagined
    passage that answers it, whose vector is searched for (Gao et al. 2022, "Precise Zero-Shot Dense Retrieval without
    Relevance Labels"). DECOMPOSE: the simpler questions that it is made of. STEP_BACK: the general question behind it
    (Zheng et al. 2023, "Take a Step Back"). TRANSLATE: the question in the other language, if documents are in it.
    """

    REWRITE = "rewrite"
    MULTI_QUERY = "multi_query"
    HYDE = "hyde"
    DECOMPOSE = "decompose"
    STEP_BACK = "step_back"
    TRANSLATE = "translate"


@dataclass(frozen=True, slots=True)
class Refinement:
    """What is on, and the defaults; the meaning stands in `RefineChoice`."""

    techniques: frozenset[Technique] = frozenset()
    rounds: int = 1
    seconds: float = 30.0

    @classmethod
    def chosen(cls, *choices: RefineChoice | Mapping[str, Any] | None) -> Self:
        """The defaults, changed by what the choices say, later ones over earlier ones."""
        merged = merged_choices(*choices)
        on = frozenset(technique for technique in Technique if merged.get(technique.value))
        budget = {name: merged[name] for name in ("rounds", "seconds") if name in merged}
        return cls(on, **budget)


class RefineChoice(BaseModel):
    """What a knowledge base or a request says about it; null leaves it as it is. All but `decompose` need a language
    model that follows instructions (`stages.rewrite`); each costs an answer of it before the search."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rewrite: bool | None = Field(
        None, description="Also search for the question as the model would search for it. Default: false."
    )
    multi_query: bool | None = Field(
        None, description="Also search for up to three other wordings. Default: false."
    )
    hyde: bool | None = Field(
        None, description="Also search near a passage that the model imagines as the answer. Default: false."
    )
    decompose: bool | None = Field(
        None,
        description="Also search for the up to four simpler questions that it is made of, each with its share of the "
        "passages; without a model, for each of several questions in one. Default: false.",
    )
    step_back: bool | None = Field(
        None, description="Also search for the more general question behind it. Default: false."
    )
    translate: bool | None = Field(
        None,
        description="Also search in the other language (Chinese, English), if documents are in it. Default: false.",
    )
    rounds: int | None = Field(
        None,
        ge=1,
        le=5,
        description="Most searches one after the other: a model (`stages.judge`) says whether the passages are enough, "
        "and what to ask next. 1: only one search. Default: 1.",
    )
    seconds: float | None = Field(
        None, gt=0, le=300, description="No further round begins after so many seconds. Default: 30."
    )


@dataclass(frozen=True, slots=True)
class Search:
    """A search beside or instead of others: its best passages alternate with theirs.

    `technique` says where it is from (empty: the question itself). Only one that `asks` what the user asked, or a part
    of it, can tell that there is no answer: an imagined passage or a more general question always find something.
    """

    query: Query
    technique: str = ""
    asks: bool = True


@dataclass(frozen=True, slots=True)
class Refined:
    """The searches, that for the question first, and the techniques that would have needed a model."""

    searches: tuple[Search, ...]
    lacking: tuple[Technique, ...] = ()


class Refiner(Protocol):
    async def refine(self, query: Query, techniques: Collection[Technique]) -> Refined:
        """The searches for a question that stands on its own."""
        ...


class RefineRules:
    """Without a model: a question that holds several is also searched part by part; nothing else is changed."""

    async def refine(self, query: Query, techniques: Collection[Technique]) -> Refined:
        lacking = tuple(sorted(set(techniques) - {Technique.DECOMPOSE}))
        parts = questions_in(query.standalone) if Technique.DECOMPOSE in techniques else []
        return Refined((Search(query), *_parts(parts, query)), lacking)


def questions_in(text: str) -> list[str]:
    """The questions of a text that holds several ("How long is it? And who pays?"); else none.

    One that points back is asked together with those before it; if that is all of the text, it is no part.
    """
    asked = asked_in(text)
    if len(asked) < 2:
        return []
    separator = "" if is_cjk(text) else " "
    parts: list[str] = []
    for each in asked:
        parts.append(separator.join((parts[-1], each)) if parts and points_back(each) else each)
    return [part for part in parts if part != text.strip()][:MOST_PARTS]


def asked_in(text: str) -> list[str]:
    """The questions of a text as they stand in it; "How long is it, and who pays?" are two."""
    lines = (text[span.start : span.end] for span in sentences(text))
    return [part for line in lines if line.endswith(("?", "？")) for part in _joined(line)]


def _joined(question: str) -> list[str]:
    first, *more = _AND_ALSO.split(question)
    return [first, *more] if more and _ASKS.search(first) else [question]


_ASKS = re.compile(r"\b(?:how|what|who|whom|whose|which|when|where|why)\b", re.IGNORECASE)
_AND_ALSO = re.compile(
    rf",?\s+and\s+(?=(?:(?:at|by|for|from|in|on|to|with|under)\s+)?{_ASKS.pattern})", re.IGNORECASE
)


def _listed(value: object) -> object:
    """A text where a list of texts is wanted, as its only one: not worth asking the model once more."""
    return [value] if isinstance(value, str) else value


def _first(value: object) -> object:
    """The first of a list where one text is wanted."""
    return value[0] if isinstance(value, list) and value else value


_Search = Annotated[str, BeforeValidator(_first)]
_Searches = Annotated[list[str], Field(min_length=1), BeforeValidator(_listed)]
_SHAPES: Mapping[Technique, Any] = {
    technique: (_Searches if technique in (Technique.MULTI_QUERY, Technique.DECOMPOSE) else _Search, ...)
    for technique in Technique
}
_TASKS: Mapping[str, Mapping[Technique, str]] = {
    "zh": {
        Technique.REWRITE: "把问题改写成最适合检索的一句话",
        Technique.MULTI_QUERY: "换三种说法提出同一个问题",
        Technique.HYDE: "想象文档中回答这个问题的一段话（两三句）",
        Technique.DECOMPOSE: "把问题拆成可以分别检索的简单问题（最多四个；本来就简单的，只写它自己）",
        Technique.STEP_BACK: "这个问题背后更一般的问题",
        Technique.TRANSLATE: "把问题翻译成英文",
    },
    "en": {
        Technique.REWRITE: "the question in the one sentence that is best to search for",
        Technique.MULTI_QUERY: "the same question in three other wordings",
        Technique.HYDE: "a passage of two or three sentences as it might stand in a document that answers it",
        Technique.DECOMPOSE: "the simple questions that can be searched for one by one (at most four; of a simple "
        "question, itself)",
        Technique.STEP_BACK: "the more general question behind it",
        Technique.TRANSLATE: "the question in Chinese",
    },
}
_INSTRUCTION = {
    "zh": "要在文档中检索下面的问题。不要回答它，按各项要求以 JSON 输出：\n{tasks}\n\n问题：{question}",
    "en": "Documents will be searched for the question below. Do not answer it; write JSON with these fields:\n{tasks}"
    "\n\nQuestion: {question}",
}


class LlmRefiner:
    """Lets the language model write all that is wanted, in one call. Raises `ModelError` and the like if it cannot."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    async def refine(self, query: Query, techniques: Collection[Technique]) -> Refined:
        if not techniques:
            return Refined((Search(query),))
        wanted = [technique for technique in Technique if technique in techniques]
        language = "zh" if is_cjk(query.standalone) else "en"
        tasks = "\n".join(f'- "{technique}": {_TASKS[language][technique]}' for technique in wanted)
        prompt = _INSTRUCTION[language].format(tasks=tasks, question=query.standalone)
        shape = create_model("Searches", **{str(t): _SHAPES[t] for t in wanted})
        params = SamplingParams(max_new_tokens=512, temperature=0.0)
        written = await complete_json(self._llm, [Message(Role.USER, prompt)], shape, params)
        return Refined(_searches(query, {t: getattr(written, t) for t in wanted}))


def _searches(query: Query, written: Mapping[Technique, str | list[str]]) -> tuple[Search, ...]:
    """The searches that the model's words make; unusable ones (empty, endless, the question itself) make none."""

    def usable(technique: Technique) -> list[str]:
        value = written.get(technique, [])
        texts = [
            " ".join(text.split()).strip('"“” ') for text in ([value] if isinstance(value, str) else value)
        ]
        longest = LONGEST_IMAGINED if technique is Technique.HYDE else LONGEST_SEARCH
        kept = [text for text in texts if 0 < len(text) <= longest and text != query.standalone]
        return list(dict.fromkeys(kept))

    wordings = [*usable(Technique.REWRITE)[:1], *usable(Technique.MULTI_QUERY)[:MOST_WORDINGS]]
    searches = [Search(replace(query, searches=tuple(dict.fromkeys([*query.searches, *wordings]))))]
    searches += _parts(usable(Technique.DECOMPOSE)[:MOST_PARTS], query)
    for text in usable(Technique.TRANSLATE)[:1]:
        searches.append(Search(Query(query.text, (text,)), Technique.TRANSLATE))
    for text in usable(Technique.STEP_BACK)[:1]:
        searches.append(Search(Query(query.text, (text,)), Technique.STEP_BACK, asks=False))
    for text in usable(Technique.HYDE)[:1]:
        imagined = Query(query.text, (query.standalone,), imagined=text)
        searches.append(Search(imagined, Technique.HYDE, asks=False))
    return tuple(searches)


def _parts(texts: Collection[str], query: Query) -> list[Search]:
    return [Search(Query(query.text, (text,)), Technique.DECOMPOSE) for text in texts]
