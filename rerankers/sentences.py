"""How near is the nearest sentence of a passage to the question? For passages that share no words with it.

A Chinese question and an English text have no term in common, so nothing but vectors can tell which passage, and which
of its sentences, answers. A chunk's vector is a mean of all it says; its best sentence's is not (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

from core.scripts import foreign, shift
from core.text import is_bare, is_cjk, sentences
from core.types import Near, Passage, Query, Span
from models.embedders.base import Embedder

# About anything, Chinese and English: what is near to these is near to any question.
ANY_QUESTIONS = (
    (
        "谁写了这部小说？",
        "怎样学会弹吉他？",
        "猫一天要睡多久？",
        "比赛的比分是多少？",
        "为什么天空是蓝色的？",
        "附近哪家餐厅好吃？",
        "如何种番茄？",
        "谁发明了电话？",
        "感冒了吃什么药？",
        "这台机器多重？",
        "什么时候开会？",
        "哪个国家人口最多？",
    ),
    (
        "Who wrote this novel?",
        "How does one learn to play the guitar?",
        "How long do cats sleep?",
        "What was the score of the match?",
        "Why is the sky blue?",
        "Which restaurant nearby is good?",
        "How are tomatoes grown?",
        "Who invented the telephone?",
        "What helps against a cold?",
        "How heavy is the machine?",
        "When is the meeting?",
        "Which country has the most people?",
    ),
)
MOST_PASSAGES = 16  # on a CPU, embedding their sentences takes longer than all the rest of a search
MOST_SENTENCES = 200  # of all passages together: lists and tables have very many


def shifted(passages: Sequence[Passage]) -> Sequence[Passage]:
    """The same passages in the same order, those in the other script than the question with what they lack."""
    lacking = shift(passages)
    return [replace(p, shift=lacking) if p.foreign else p for p in passages] if lacking else passages


def in_reach(passages: Sequence[Passage]) -> list[Passage]:
    """Of the nearest `MOST_PASSAGES` those in the other script than the question."""
    return foreign(nlargest(MOST_PASSAGES, passages, key=lambda passage: passage.dense + passage.shift))


class SentenceMatcher:
    """Measures the sentences of the nearest passages in the other script than the question's.

    Some sentences are near to any question in the other language (names, dates, short remarks), and would be the
    nearest to most. So half of the mean cosine to `ANY_QUESTIONS` in the question's language goes off, as far as it is
    above what such questions in two languages have with each other: CSLS, which is `2 cos - r(question) - r(sentence)`,
    without the question's own term, which is the same for all sentences (Conneau et al. 2018, "Word Translation Without
    Parallel Data", section 2.3). docs/benchmarks.md has what it finds.
    """

    def __init__(self) -> None:
        self._any: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    async def measured(
        self, query: Query, passages: Sequence[Passage], embedders: Mapping[str, Embedder]
    ) -> list[Passage]:
        """The same passages (`shifted`) in the same order, those that were looked at with `near`.

        `embedders`: by the name of the knowledge base. Raises what the embedder does.
        """
        looked_at = in_reach(passages)
        near: dict[str, tuple[Near, ...]] = {}
        for kb in sorted({passage.kb for passage in looked_at}):
            own = [passage for passage in looked_at if passage.kb == kb]
            near |= await self._near(query, own, embedders[kb])
        return [replace(p, near=near[p.record.id]) if p.record.id in near else p for p in passages]

    async def _near(
        self, query: Query, passages: Sequence[Passage], embedder: Embedder
    ) -> dict[str, tuple[Near, ...]]:
        spans: dict[str, list[Span]] = {}
        left = MOST_SENTENCES
        for passage in passages:
            spans[passage.record.id] = _telling(passage.record.text)[:left]
            left -= len(spans[passage.record.id])
        texts = [p.record.text[s.start : s.end] for p in passages for s in spans[p.record.id]]
        question = (await embedder.embed_queries([query.standalone]))[0]
        closeness = iter(await self._closeness(question, is_cjk(query.standalone), texts, embedder))
        return {
            p.record.id: tuple(
                Near(Span(p.record.start + s.start, p.record.start + s.end), float(next(closeness)))
                for s in spans[p.record.id]
            )
            for p in passages
        }

    async def _closeness(
        self, question: NDArray[np.float32], cjk: bool, texts: Sequence[str], embedder: Embedder
    ) -> NDArray[np.float32]:
        same, other = await self._any_questions(embedder, cjk)
        vectors = await embedder.embed_passages(texts)
        above = (vectors @ same.T).mean(axis=1) - (other @ same.T).mean()
        return np.asarray(vectors @ question - above / 2, dtype=np.float32)

    async def _any_questions(
        self, embedder: Embedder, cjk: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The vectors of the questions in the script, and of those in the other; embedded once."""
        if embedder.name not in self._any:
            chinese, english = [await embedder.embed_queries(each) for each in ANY_QUESTIONS]
            self._any[embedder.name] = chinese, english
        chinese, english = self._any[embedder.name]
        return (chinese, english) if cjk else (english, chinese)


def _telling(text: str) -> list[Span]:
    """The sentences but headings and rules of tables, which are as near to any question; all if there are no others."""
    spans = list(sentences(text))
    return [span for span in spans if not is_bare(text[span.start : span.end])] or spans
