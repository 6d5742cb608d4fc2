"""Passages in another script than the question are compared with it sentence by sentence, and only those."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.types import Near, Passage, Query, Record, Span
from rerankers.compress import SentenceCompressor
from rerankers.rerank import CoverageReranker
from rerankers.sentences import MOST_PASSAGES, SentenceMatcher

QUESTION = Query("押金是多少？", ("押金是多少？",))
RENT = "Rent is paid monthly. The deposit is two thousand dollars. Pets are allowed."
OFFSET = 500


class FakeEmbedder:
    """A text's vector says whether it speaks of a deposit."""

    name = "fake"
    max_tokens = 512

    def __init__(self) -> None:
        self.passages: list[str] = []

    async def dimension(self) -> int:
        return 2

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._vectors(texts)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.passages += texts
        return self._vectors(texts)

    async def close(self) -> None: ...

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        about = [any(word in text for word in ("deposit", "押金")) for text in texts]
        return np.array([[float(a), float(not a)] for a in about], dtype=np.float32).reshape(-1, 2)


def passage(number: int, text: str = RENT, *, dense: float = 0.9, kb: str = "hr") -> Passage:
    record = Record(f"{number:02}", f"d{number}", "r", text, start=OFFSET, end=OFFSET + len(text))
    return Passage(record, "lease", 0.5, dense, kb=kb, foreign=text.isascii())


async def test_each_sentence_gets_its_cosine_and_its_place_in_the_document() -> None:
    [measured] = await SentenceMatcher().measured(QUESTION, [passage(0)], {"hr": FakeEmbedder()})
    texts = [RENT[near.span.start - OFFSET : near.span.end - OFFSET] for near in measured.near]
    assert texts == ["Rent is paid monthly.", "The deposit is two thousand dollars.", "Pets are allowed."]
    assert [round(near.closeness, 3) for near in measured.near] == [0.0, 1.5, 0.0]


async def test_passages_in_the_questions_script_are_left_alone() -> None:
    embedder = FakeEmbedder()
    found = [passage(0, "押金为两千元。"), passage(1)]
    measured = await SentenceMatcher().measured(QUESTION, found, {"hr": embedder})
    assert [bool(p.near) for p in measured] == [False, True]
    assert all("押金" not in text for text in embedder.passages)


async def test_only_the_nearest_are_compared_and_the_order_stays() -> None:
    found = [passage(n, dense=n / 100) for n in range(MOST_PASSAGES + 4)]
    measured = await SentenceMatcher().measured(QUESTION, found, {"hr": FakeEmbedder()})
    assert [p.record.id for p in measured] == [p.record.id for p in found]
    assert [bool(p.near) for p in measured] == [False] * 4 + [True] * MOST_PASSAGES


async def test_each_knowledge_base_is_compared_by_its_own_embedder() -> None:
    one, other = FakeEmbedder(), FakeEmbedder()
    await SentenceMatcher().measured(
        QUESTION, [passage(0, "One."), passage(1, "Two.", kb="legal")], {"hr": one, "legal": other}
    )
    assert (one.passages, other.passages) == (["One."], ["Two."])


async def test_the_best_sentence_counts_twice_as_much_as_the_whole_passage() -> None:
    near = (Near(Span(OFFSET, OFFSET + 5), 0.9), Near(Span(OFFSET + 6, OFFSET + 9), 0.1))
    record = passage(0).record
    found = [
        Passage(record, "a", 0.0, dense=0.9, near=near),  # (0.8 + 2 * 0.9) / 3
        Passage(passage(1).record, "b", 0.0, dense=0.92),  # 0.84
    ]
    ranked = await CoverageReranker().rerank(QUESTION, found, top_k=2)
    assert [(p.record.id, round(p.score, 4)) for p in ranked] == [("00", 0.8667), ("01", 0.84)]


async def test_compression_keeps_the_sentence_that_is_nearest() -> None:
    [measured] = await SentenceMatcher().measured(QUESTION, [passage(0)], {"hr": FakeEmbedder()})
    [kept] = await SentenceCompressor().compress(QUESTION, [measured], budget=15.0)
    assert kept.text == "The deposit is two thousand dollars."


async def test_headings_and_the_rules_of_tables_are_not_compared_unless_there_is_nothing_else() -> None:
    embedder = FakeEmbedder()
    table = "# Lease\n\n| Item | Sum |\n|---|---|\n| Deposit | 2,000 |"
    found = [passage(0, table), passage(1, "# Lease")]
    measured = await SentenceMatcher().measured(QUESTION, found, {"hr": embedder})
    assert embedder.passages == ["| Item | Sum |", "| Deposit | 2,000 |", "# Lease"]
    assert [len(p.near) for p in measured] == [2, 1]
