"""Documents that the best passages name stand behind them: whole names, telling ones, a few, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from kept_documents import KeptDocuments, indexed

from core.errors import StoreUnavailable
from core.types import ParsedDocument, Passage, Query, Record
from ingest.chunkers.base import Chunking
from models.embedders.bundled import BundledEmbedder
from retrievers.base import Mode, Retrieved, Scope
from retrievers.links import Followed, LinkFollower
from retrievers.names import Naming, folded, heads
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
    "报销单": ParsedDocument("财务部五个工作日内付款。", title="《差旅费报销单》"),
    **{f"menu {n}": ParsedDocument(f"Soup number {n} on Mondays.", title="Canteen menu") for n in range(3)},
    "canteen": ParsedDocument("What is cooked stands in the canteen menu.", title="Canteen"),
}
TRAINING = "Who built the place where the crew of the ferry is trained?"
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
    return list(plain), await follower.followed(query, plain, plain, [scope], top_k=8)


def ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.record.document_id for passage in passages]


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


async def test_a_document_outside_the_scope_is_not_fetched(kb: Kb) -> None:
    scope, kept = kb
    only = replace(scope, document_ids=("ferry", "heron"))
    _, followed = await search((only, kept), TRAINING)
    assert set(ids(followed.passages)) == {"ferry", "heron"}


async def test_without_names_nothing_changes(kb: Kb) -> None:
    plain, followed = await search(kb, "Who made the engine in Kiel?", known=1)
    assert ids(plain) == ["heron"]
    assert followed == Followed(plain, [])
    assert await follow([], {}) == Followed([], [])


class AnyDocument:
    """A `Retriever` that finds three chunks in every document; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...] | None] = []

    async def retrieve(
        self, query: Query, scope: Scope, *, mode: Mode, pool: int, recursive: bool = False
    ) -> Retrieved:
        self.asked.append(scope.document_ids)
        ids = scope.document_ids or ()
        return Retrieved(tuple(passage(i, f"{i} {n}", kb=scope.kb_name) for i in ids for n in range(3)), {})


def passage(document: str, text: str, *, header: str = "", kb: str = "") -> Passage:
    record = Record(f"{document}/{text[:40]}", document, "r", text, header)
    return Passage(record, f"{document}.md", 1.0, kb=kb)


async def follow(
    ranked: Sequence[Passage],
    titles: dict[str, str | None],
    *,
    candidates: Sequence[Passage] = (),
    retriever: AnyDocument | None = None,
    kbs: Sequence[str] = ("",),
    top_k: int = 9,
) -> Followed:
    """`ranked` and the documents that it names, of those with these titles (None: only a file name)."""
    kept = KeptDocuments({i: ParsedDocument("text", title=title) for i, title in titles.items()})
    scopes = [Scope(kb, 1, None, None, kb_name=kb) for kb in kbs]  # type: ignore[arg-type]  # the fakes take no notice
    follower = LinkFollower(names=kept, retriever=retriever or AnyDocument())
    return await follower.followed(Query("?", ("?",)), ranked, candidates, scopes, top_k=top_k)


async def named(text: str, titles: dict[str, str | None], **more: str) -> list[str]:
    followed = await follow([passage("it", text, **more)], titles)
    return [name.removesuffix(".md") for name in followed.names]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("We met on the Heron.", "Heron"),
        ("See the travel policy.", "Travel Policy"),
        ("See the Travel_Policy.", "Travel-Policy (2024)"),
        ("Read .NET guide first.", ".NET guide"),
        ("It is written in C++ by hand.", "C++ by hand!"),
        ("按照差旅管理办法执行。", "差旅管理办法"),
        ("先看《合同》。", "合同"),
        ('Then read "leave" again.', "leave"),
        ("Ask the API手册 first.", "API手册"),
        ("Über uns steht es.", "Über uns"),
        ("See Porter’s Guide.", "Porter's Guide"),
        ("Look into the night ferry rules.", "The Night Ferry Rules"),
        ("先看《会议室\n预订办法》。", "会议室预订办法"),
        ("The API is slow. API first.", "API"),
        ("Ask the Heron.", "The Heron (ship)"),
        ("A «heron» it was.", "heron"),
        ("Den „heron“ meint er.", "heron"),
        ("See **leave** for more.", "leave"),
        ("The HR policy says so.", "HR policy"),
        ("See [leave] for more.", "leave"),
    ],
)
async def test_a_title_is_named(text: str, title: str) -> None:
    assert await named(text, {"other": title}) == ["other"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("A young crew.", "Young"),  # the town
        ("Leave is long, and leave is paid.", "leave"),
        ("The herons fly.", "Heron"),
        ("Annual report, planning report", "Ann"),
        ("It is what it is.", "It Is"),
        ("签订合同之前", "合同"),
        ("Is it he?", "He"),
        ("On page 1 of the plan", "Page 1"),
        ("In 2024 all was well.", "2024"),
        ("Coffee is free. Coffee, too. - Coffee\n> Coffee", "Coffee"),
        ("What to do: sound the alarm. How to use it. Set up the tent. Check in there.", "To do"),
        ("Set up the tent.", "Set up"),
        ("Check in at the desk.", "check-in"),
        ("From a b to c.", "A B"),
        ("List:\n• Leave\n2) Leave\n3.2 Leave\n| Leave | 30 |", "Leave"),
        ("值班员接到通知后启动", "通知"),
    ],
)
async def test_a_word_that_only_looks_like_a_title_names_nothing(text: str, title: str) -> None:
    assert await named(text, {"other": title}) == []


async def test_a_file_name_of_one_word_is_named_with_its_ending() -> None:
    assert await named("All stands in policy.md and elsewhere.", {"policy": None}) == ["policy"]
    assert await named("All is under the policy, and under Policy, too.", {"policy": None}) == []
    assert await named("Staff may work in 2024.", {"may": None, "2024": None}) == []


async def test_a_document_with_a_title_is_also_named_by_its_file_as_seen_from_the_passage() -> None:
    titles: dict[str, str | None] = {"b03": "Windows", "plans/b04": "Doors"}
    assert await named("See [this page](b03.md), and `plans/b04.md`.", titles) == ["b03", "plans/b04"]
    ranked = [replace(passage("it", "As ../b03.md and b04.md say."), document_name="plans/it.md")]
    assert sorted((await follow(ranked, titles)).names) == ["b03.md", "plans/b04.md"]
    assert await named("See b04.md or xb03.md.", titles) == []
    assert await named("详见b03.md。", titles) == ["b03"]
    assert await named("见《门.md》。", {"门": "Doors"}) == ["门"]


@pytest.mark.parametrize(
    "text",
    [
        "[doors](plans/b04.md#keys)",
        "In plans/b04.md?",
        "**plans/b04.md**",
        "/plans/b04.md",
        "plans%2Fb04.md!",
        "请按plans/b04.md填写",
    ],
)
async def test_a_file_name_is_found_among_signs(text: str) -> None:
    assert await named(text, {"plans/b04": "Doors"}) == ["plans/b04"]


def test_a_file_name_is_printable() -> None:
    assert Naming.of(passage("it", "See a%00b.md, a%0Ab.md and a%20b.md.")).files == {"a b.md"}


async def test_a_file_is_meant_even_if_its_title_tells_nothing() -> None:
    titles: dict[str, str | None] = dict.fromkeys(("x/readme", "y/readme", "z/readme"), "Doors and keys")
    assert await named("See y/readme.md, not the doors and keys.", titles) == ["y/readme"]
    candidates = [passage(f"holds {n}", "Doors and keys.") for n in range(9)]
    followed = await follow([passage("it", "See y/readme.md.")], titles, candidates=candidates)
    assert followed.names == ["y/readme.md"]


async def test_of_names_inside_each_other_the_longest_counts() -> None:
    titles: dict[str, str | None] = {"special": "Special Pump Rules", "rules": "Pump Rules"}
    assert await named("As the Special Pump Rules say.", titles) == ["special"]
    assert await named("As the Special Pump Rules and the pump rules say.", titles) == ["special", "rules"]
    titles = {"guide": "Heron Island Guide", "ship": "Heron"}
    assert await named("See the Heron Island Guide; a heron is a bird.", titles) == ["guide"]
    assert await named("See the Heron Island Guide, and the Heron.", titles) == ["guide", "ship"]


async def test_a_passage_does_not_name_a_document_that_is_called_as_its_own_is() -> None:
    titles: dict[str, str | None] = {"it": "Scott Howell (consultant)", "other": "Scott Howell (footballer)"}
    header = "Scott Howell (consultant)"
    assert await named("Scott Howell is a consultant.", titles, header=header) == []


async def test_a_passage_does_not_name_its_own_document_but_what_its_title_names() -> None:
    titles: dict[str, str | None] = {
        "it": "Harbour Handbook",
        "copy": "Harbour Handbook",
        "crews": "Crews of the Port",
    }
    text = "The Harbour Handbook is beside the Crews of the Port."
    assert await named(text, titles, header="Harbour Handbook > Preface") == ["crews"]
    annex: dict[str, str | None] = {"annex": "Travel Policy Annex", "guide": "Security Item Guide"}
    assert await named("See the Travel Policy Annex.", annex, header="Travel Policy") == ["annex"]
    assert await named("See the Security Item Guide: IT is it.", annex, header="IT") == ["guide"]
    assert await named("按合同管理办法办。", {"way": "合同管理办法"}, header="合同\n|a|") == ["way"]
    contract: dict[str, str | None] = {"contract": "Kite Contract"}
    amendment = "Amendment 2 to the Kite Contract"
    assert await named(f"{amendment}: as before.", contract, header=amendment) == []
    assert await named(f"{amendment}: as the Kite Contract says.", contract, header=amendment) == ["contract"]


async def test_a_name_that_three_documents_have_names_none() -> None:
    text = "See the Blue Lighthouse."
    assert await named(text, {"1": "Blue Lighthouse", "2": "Blue Lighthouse (old)"}) == ["1", "2"]
    assert await named(text, dict.fromkeys("123", "Blue Lighthouse")) == []


async def test_a_name_that_more_than_a_quarter_of_the_candidates_hold_is_none() -> None:
    ranked = [passage("it", "See the Blue Lighthouse.")]
    titles: dict[str, str | None] = {"other": "Blue Lighthouse"}

    async def names(holding: int, others: int) -> int:
        candidates = [passage(f"holds {n}", "The blue lighthouse again.") for n in range(holding)]
        candidates += [passage(f"does not {n}", "Blue lighthouses.") for n in range(others)]
        return len((await follow(ranked, titles, candidates=candidates)).names)

    assert await names(2, 0) == 1  # with the best one three: a few
    assert await names(3, 0) == 0
    assert await names(4, 15) == 1  # five of twenty
    assert await names(5, 14) == 0


async def test_three_passages_are_read_each_brings_two_documents_all_together_three() -> None:
    titles: dict[str, str | None] = {
        f"{letter}{n}": f"Lighthouse {letter} {w}"
        for letter in "abcd"
        for n, w in enumerate(("North", "South", "West"))
    }
    ranked = [
        passage(f"it {letter}", " ".join(f"Lighthouse {letter} {w}" for w in ("North", "South", "West")))
        for letter in "abcd"
    ]
    retriever = AnyDocument()
    followed = await follow(ranked, titles, retriever=retriever)
    assert ids(followed.passages) == ["it a", "a0", "a1", "it b", "b0", "it c", "it d"]
    assert retriever.asked == [("a0",), ("a1",), ("b0",)]
    fourth = [*(passage(f"empty {n}", "Nothing.") for n in range(3)), ranked[0]]
    assert (await follow(fourth, titles)).names == []


async def test_one_document_comes_for_every_three_passages_that_are_asked_for() -> None:
    ranked = [passage("it", "Heron, Eagle Rock, Kite Hill"), passage("second", "On the Night Ferry.")]
    titles: dict[str, str | None] = {"1": "Eagle Rock", "2": "Kite Hill", "3": "Night Ferry"}
    brought = {k: len((await follow(ranked, titles, top_k=k)).names) for k in (1, 2, 3, 5, 6, 8, 9, 50)}
    assert brought == {1: 0, 2: 0, 3: 1, 5: 1, 6: 2, 8: 2, 9: 3, 50: 3}


async def test_of_many_named_documents_those_that_were_found_come_first_and_none_is_asked_for_in_vain() -> (
    None
):
    titles: dict[str, str | None] = {f"d{n}": f"Lighthouse number x{n}" for n in range(50)}
    overview = passage("it", "; ".join(str(title) for title in titles.values()))
    retriever = AnyDocument()
    found = [passage("d40", "Its lamp."), passage("d30", "Its stairs.")]
    followed = await follow([overview, *found[:1]], titles, candidates=found, retriever=retriever)
    assert ids(followed.passages) == ["it", "d40", "d30"]
    assert retriever.asked == []


async def test_a_document_that_ranks_higher_stays_there() -> None:
    ranked = [passage("other", "Its lamp."), passage("it", "See the Blue Lighthouse.")]
    followed = await follow(ranked, {"other": "Blue Lighthouse"})
    assert followed == Followed(ranked, [])


async def test_names_count_inside_their_knowledge_base_only() -> None:
    ranked = [passage("it", "See the Blue Lighthouse.", kb="one")]
    titles: dict[str, str | None] = {"other": "Blue Lighthouse"}
    assert (await follow(ranked, titles, kbs=("two",))).names == []
    followed = await follow(ranked, titles, kbs=("two", "one"))
    assert [(p.kb, p.record.document_id) for p in followed.passages] == [("one", "it"), ("one", "other")]


async def test_what_is_beyond_the_first_two_thousand_characters_is_not_read() -> None:
    titles: dict[str, str | None] = {"other": "Blue Lighthouse"}
    assert await named("x " * 980 + "Blue Lighthouse", titles) == ["other"]
    assert await named("x " * 1000 + "Blue Lighthouse", titles) == []


async def test_a_store_that_is_away_raises() -> None:
    class Away(AnyDocument):
        async def retrieve(self, *args: object, **more: object) -> Retrieved:
            raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await follow(
            [passage("it", "See the Blue Lighthouse.")], {"other": "Blue Lighthouse"}, retriever=Away()
        )


def test_heads_are_the_beginnings_of_names() -> None:
    found = heads(folded("See the Travel-Policy (2024), 见《差旅管理办法》。"))
    assert {
        "travel polic",
        "policy (2024",
        "see",
        "the",
        "2024",
        "差旅",
        "差旅管",
        "差旅管理",
        "办法",
    } <= found
    assert not any(head.startswith("ravel") for head in found)
    assert not found & {"tra", "trave", "travel p", "差旅管理办", "法"}  # no name ends or is cut there
    assert heads("") == set()
    assert len(heads("字" * 2000)) == 3
