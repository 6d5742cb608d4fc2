"""Does a rerank model decide the order, of as many passages as it may read?"""

from __future__ import annotations

from collections.abc import Sequence

from core.types import Passage, Query, Record
from rerankers.model import ModelReranker

QUESTION = Query("as asked", ("a search",))


class FakeModel:
    """The score of a text is its number of exclamation marks."""

    name = "fake"

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((question, list(texts)))
        return [float(text.count("!")) for text in texts]

    async def close(self) -> None: ...


def passage(number: int, text: str) -> Passage:
    return Passage(Record(str(number), "d", "r", text, header="Title"), "doc", 1 / (number + 1), 0.5, 0.0)


async def test_the_models_scores_decide_and_ties_have_one_order() -> None:
    found = [passage(2, "a"), passage(0, "a!!"), passage(3, "a!"), passage(1, "a!")]
    ranked = await ModelReranker(FakeModel(), pool=10).rerank(QUESTION, found, top_k=3)
    assert [(p.record.id, p.score) for p in ranked] == [("0", 2.0), ("1", 1.0), ("3", 1.0), ("2", 0.0)]


async def test_it_reads_the_best_of_the_search_with_title_and_section_and_no_more_than_its_pool() -> None:
    model = FakeModel()
    found = [passage(n, f"text {n}") for n in range(5)]
    assert len(await ModelReranker(model, pool=3).rerank(QUESTION, found, top_k=2)) == 3
    assert len(await ModelReranker(model, pool=3).rerank(QUESTION, found, top_k=4)) == 4
    [(question, three), (_, four)] = model.asked
    assert question == QUESTION.standalone
    assert three == [p.record.indexed_text for p in found[:3]]
    assert "Title" in three[0]
    assert len(four) == 4
