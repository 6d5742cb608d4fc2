"""Documents that the best passages name stand behind them: whole names, telling ones, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from kept_documents import KeptDocuments, indexed

from core.db.models import HEAD
from core.types import ParsedDocument, Passage, Query
from ingest.chunkers.base import Chunking
from models.embedders.bundled import BundledEmbedder
from retrievers.base import Mode, Scope
from retrievers.links import Followed, LinkFollower, folded, heads
from retrievers.two_stage import TwoStageRetriever

FERRY = "The crew of the Heron are trained on the Blue Lighthouse before their first voyage."
DOCUMENTS = {
    "ferry": ParsedDocument(FERRY, title="Harbour ferry"),
    "lighthouse": ParsedDocument("It was built by Ada Quill in 1911.", title="Blue Lighthouse (museum)"),
    "heron": ParsedDocument("Its engine was made in Kiel.", title="Heron"),
    "crew": ParsedDocument("Rosters are made on Mondays.", title="Crew"),
    "travel-desk": ParsedDocument("Flights go in economy class."),
    "voyages": ParsedDocument("Whoever is away overnight asks the travel\ndesk for a room."),
    "差旅": ParsedDocument("出差前填写《差旅费报销单》，再交给部门主管。"),
    "报销单": ParsedDocument("财务部五个工作日内付款。", title="差旅费报销单"),
    **{f"menu {n}": ParsedDocument(f"Soup number {n} on Mondays.", title="Canteen menu") for n in range(3)},
    "canteen": ParsedDocument("What is cooked stands in the canteen menu.", title="Canteen"),
}
Kb = tuple[Scope, KeptDocuments]


@pytest.fixture(scope="module")
def kb() -> Iterator[Kb]:
    embedder = BundledEmbedder()
    yield asyncio.run(indexed(DOCUMENTS, Chunking(characters=50), embedder))
    asyncio.run(embedder.close())


async def search(kb: Kb, question: str, *, known: int = 40) -> tuple[list[Passage], Followed]:
    """The ranking without links of `known` passages, and with them."""
    scope, kept = kb
    retriever = TwoStageRetriever(documents=kept, chosen=20)
    query = Query(question, (question,))
    plain = (await retriever.retrieve(query, scope, mode=Mode.UNION, pool=40)).passages[:known]
    follower = LinkFollower(names=kept, retriever=retriever)
    return list(plain), await follower.followed(query, plain, plain, [scope])


def ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.record.document_id for passage in passages]


TRAINING = "Who built the place where the crew of the ferry is trained?"


async def test_a_document_that_the_best_passage_names_stands_right_behind_it(kb: Kb) -> None:
    plain, followed = await search(kb, TRAINING)
    assert ids(plain)[0] == "ferry"
    assert ids(plain)[1] != "lighthouse"
    assert set(ids(followed.passages)[1:3]) == {"lighthouse", "heron"}
    assert ids(followed.passages)[0] == "ferry"
    assert sorted(ids(plain)) == sorted(ids(followed.passages))
    assert followed.names == [f"{i}.md" for i in ids(followed.passages)[1:3]]


async def test_a_named_document_that_was_not_found_is_fetched(kb: Kb) -> None:
    plain, followed = await search(kb, TRAINING, known=1)
    assert ids(plain) == ["ferry"]
    assert ids(followed.passages)[0] == "ferry"
    assert set(ids(followed.passages)[1:]) == {"lighthouse", "heron"}
    lighthouse = next(p for p in followed.passages if p.record.document_id == "lighthouse")
    assert lighthouse.text == DOCUMENTS["lighthouse"].text
    assert lighthouse.dense > 0.5


async def test_what_moves_up_has_the_score_of_what_names_it_so_scores_fall(kb: Kb) -> None:
    _, followed = await search(kb, TRAINING)
    scores = [passage.score for passage in followed.passages]
    assert scores[0] == scores[1] == scores[2] > scores[3]
    assert scores == sorted(scores, reverse=True)


async def test_a_file_name_is_a_name_hyphen_or_line_break(kb: Kb) -> None:
    _, followed = await search(kb, "Who finds a room for somebody who is away overnight?")
    assert ids(followed.passages)[:2] == ["voyages", "travel-desk"]


async def test_chinese_names_stand_in_sentences_without_gaps(kb: Kb) -> None:
    _, followed = await search(kb, "出差要填什么，多久付款？")
    assert ids(followed.passages)[:2] == ["差旅", "报销单"]


async def test_a_title_of_one_word_is_named_as_it_is_written(kb: Kb) -> None:
    """The ferry's "crew" is not the document "Crew"; its "Heron" is."""
    _, followed = await search(kb, TRAINING, known=1)
    assert "heron" in ids(followed.passages)
    assert "crew" not in ids(followed.passages)


async def test_a_name_that_many_documents_share_names_none(kb: Kb) -> None:
    _, followed = await search(kb, "What stands in the canteen menu about what is cooked?", known=1)
    assert ids(followed.passages) == ["canteen"]


async def test_a_word_that_many_candidates_hold_is_no_name(kb: Kb) -> None:
    scope, kept = kb
    plain, _ = await search(kb, TRAINING, known=1)
    others = [
        replace(plain[0], record=replace(plain[0].record, id=f"other {n}", document_id=f"other {n}"))
        for n in range(12)
    ]
    follower = LinkFollower(names=kept, retriever=TwoStageRetriever(documents=kept, chosen=20))
    query = Query(TRAINING, (TRAINING,))
    assert (await follower.followed(query, plain, others[:2], [scope])).names
    assert (await follower.followed(query, plain, others, [scope])).names == []


async def test_a_document_outside_the_scope_is_not_fetched(kb: Kb) -> None:
    scope, kept = kb
    only = replace(scope, document_ids=("ferry", "heron"))
    _, followed = await search((only, kept), TRAINING)
    assert set(ids(followed.passages)) == {"ferry", "heron"}


async def test_without_names_nothing_changes(kb: Kb) -> None:
    plain, followed = await search(kb, "Who made the engine in Kiel?", known=1)
    assert ids(plain) == ["heron"]
    assert followed == Followed(plain, [])
    scope, kept = kb
    follower = LinkFollower(names=kept, retriever=TwoStageRetriever(documents=kept, chosen=20))
    assert await follower.followed(Query("?", ("?",)), [], [], [scope]) == Followed([], [])


def test_heads_hold_the_beginning_of_every_name() -> None:
    found = heads(folded("See the Travel-Policy (2024), 见《差旅管理办法》。"))
    assert "travel"[:HEAD] in found
    assert "差旅管理办法"[:HEAD] in found
    assert "管理" in found
    assert "the tr"[:HEAD] in found
    assert not any(head.startswith("ravel") for head in found)
    assert max(map(len, found)) == HEAD
    assert heads("") == []
