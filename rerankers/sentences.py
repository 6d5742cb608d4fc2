"""How near is the nearest sentence of a passage to the question? For passages that share no words with it.

A Chinese question and an English text have no term in common, so nothing but vectors can tell which passage, and which
of its sentences, answers. A chunk's vector is a mean of all it says; its best sentence's is not (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import nlargest
from itertools import islice

from core.scripts import foreign, shift
from core.text import sentences
from core.types import Near, Passage, Query, Span
from models.embedders.base import Embedder

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
    """Measures the sentences of the nearest passages in the other script than the question's."""

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
            near |= await _near(query, own, embedders[kb])
        return [replace(p, near=near[p.record.id]) if p.record.id in near else p for p in passages]


async def _near(query: Query, passages: Sequence[Passage], embedder: Embedder) -> dict[str, tuple[Near, ...]]:
    spans: dict[str, list[Span]] = {}
    left = MOST_SENTENCES
    for passage in passages:
        spans[passage.record.id] = list(islice(sentences(passage.record.text), left))
        left -= len(spans[passage.record.id])
    texts = [p.record.text[s.start : s.end] for p in passages for s in spans[p.record.id]]
    question = (await embedder.embed_queries([query.standalone]))[0]
    cosines = iter((await embedder.embed_passages(texts)) @ question)
    return {
        p.record.id: tuple(
            Near(Span(p.record.start + s.start, p.record.start + s.end), float(next(cosines)))
            for s in spans[p.record.id]
        )
        for p in passages
    }
