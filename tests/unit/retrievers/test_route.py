"""Routing: knowledge bases are chosen by description and summaries; what cannot be asked is named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kept_documents import indexed

from core.errors import StoreUnavailable
from core.types import Hit, IndexName, ParsedDocument, Vector
from ingest.chunkers.base import Chunking
from models.embedders.bundled import BundledEmbedder
from retrievers.base import Scope
from retrievers.route import MOST_CHOSEN, KbRouter
from stores.filters import Filter
from stores.memory import MemoryStore

TEXTS = {
    "hr": "Employees take ten days of annual leave. Parental leave is 16 weeks.",
    "kitchen": "The Atlas 9 espresso machine is descaled every month with citric acid.",
    "travel": "Flights are booked by the travel desk in economy class.",
}


class FakeDeadStore(MemoryStore):
    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        raise StoreUnavailable("The store does not answer.")


@pytest.fixture(scope="module")
def kbs() -> Iterator[tuple[list[Scope], BundledEmbedder]]:
    embedder = BundledEmbedder()
    scopes = []
    for name, text in TEXTS.items():
        scope, _ = asyncio.run(indexed({name: ParsedDocument(text)}, Chunking(), embedder))
        scopes.append(replace(scope, kb_name=name))
    yield scopes, embedder
    asyncio.run(embedder.close())


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("How long is parental leave?", "hr"),
        ("How often is the espresso machine descaled?", "kitchen"),
        ("产假有多长？", "hr"),
        ("Who books flights?", "travel"),
    ],
)
async def test_the_knowledge_base_that_answers_is_chosen_first(
    kbs: tuple[list[Scope], BundledEmbedder], question: str, best: str
) -> None:
    scopes, _ = kbs
    routed = await KbRouter().route(question, scopes)
    assert routed.scopes[0].kb_name == best
    assert set(routed.scores) == set(TEXTS)
    assert len(routed.scopes) <= MOST_CHOSEN


async def test_one_in_another_script_is_compared_with_its_like(
    kbs: tuple[list[Scope], BundledEmbedder],
) -> None:
    scopes, embedder = kbs
    others = []
    for name, text in (("garden", "花园每天早上浇水。树木每年秋天修剪。"), ("garage", "车库早上七点开门。")):
        scope, _ = await indexed({name: ParsedDocument(text)}, Chunking(), embedder)
        others.append(replace(scope, kb_name=name))
    routed = await KbRouter().route("浓缩咖啡机多久除垢一次？", [*scopes, *others])
    assert "kitchen" in {scope.kb_name for scope in routed.scopes}
    assert {"garden", "garage"} & {scope.kb_name for scope in routed.scopes}


async def test_a_description_counts_like_a_summary(kbs: tuple[list[Scope], BundledEmbedder]) -> None:
    scopes, _ = kbs
    described = replace(scopes[2], description="Salaries, payroll and income tax.")
    routed = await KbRouter().route("When is payroll tax due?", [*scopes[:2], described])
    assert [scope.kb_name for scope in routed.scopes] == ["travel"]


async def test_an_empty_knowledge_base_is_not_chosen(kbs: tuple[list[Scope], BundledEmbedder]) -> None:
    scopes, embedder = kbs
    empty = Scope("empty", 1, MemoryStore(), embedder, kb_name="empty", description="Parental leave")
    routed = await KbRouter().route("How long is parental leave?", [empty, *scopes])
    assert "empty" not in routed.scores
    assert (await KbRouter().route("Leave?", [empty])).scopes == ()


async def test_a_store_that_is_away_is_named_and_the_others_answer(
    kbs: tuple[list[Scope], BundledEmbedder],
) -> None:
    scopes, embedder = kbs
    dead = Scope("dead", 1, FakeDeadStore(), embedder, kb_name="dead")
    routed = await KbRouter().route("How long is parental leave?", [dead, *scopes])
    assert routed.scopes[0].kb_name == "hr"
    assert routed.failed == ["knowledge base dead: The store does not answer."]
    with pytest.raises(StoreUnavailable):
        await KbRouter().route("How long is parental leave?", [dead])
