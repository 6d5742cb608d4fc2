"""Questions about whole documents: answered by key sentences that are verbatim, document by document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from kept_documents import KeptDocuments, indexed

from core.types import ParsedDocument, Passage, Section, Span
from ingest.chunkers.base import Chunking
from models.embedders.bundled import BundledEmbedder
from retrievers.base import Scope
from retrievers.overview import OverviewRetriever
from retrievers.two_stage import TwoStageRetriever
from retrievers.whole_document import whole_document_question


def handbook() -> ParsedDocument:
    """Long enough for summaries of its sections."""
    text, sections = "", []
    for name in ("Leave", "Travel", "Safety"):
        body = "".join(f"{name} rule {n}: {name.lower()} is handled by desk {n}.\n\n" for n in range(9))
        sections.append(Section((name,), Span(len(text), len(text) + len(body))))
        text += body
    return ParsedDocument(text, title="Employee handbook", sections=tuple(sections))


DOCUMENTS = {
    "handbook": handbook(),
    "lease": ParsedDocument(
        "This lease is between Li and Ann. The deposit is 2,000 euros. Pets are allowed."
    ),
    "espresso": ParsedDocument("The Atlas 9 makes espresso. Descaling is due every month with citric acid."),
    "kettle": ParsedDocument("The kettle boils water. Descaling is due every year with vinegar."),
    "lease-mill-street": ParsedDocument(
        "# Lease, Mill Street\n\n## Key money\n\nThe key money is 900 francs, paid once.",
        title="Lease, Mill Street",
    ),
    "lease-quay-road": ParsedDocument(
        "# Lease, Quay Road\n\n## Key money\n\nThe key money is 700 francs, paid once.",
        title="Lease, Quay Road",
    ),
    "停车场管理办法": ParsedDocument("第一条 车辆凭证出入。第二条 夜间不得停放货车。"),
    "租约": ParsedDocument("本合同由李华与王敏签订。押金为两千元。允许养宠物。"),
}
Kb = tuple[Scope, KeptDocuments, BundledEmbedder]


@pytest.fixture(scope="module")
def kb() -> Iterator[Kb]:
    embedder = BundledEmbedder()
    scope, kept = asyncio.run(indexed(DOCUMENTS, Chunking(characters=50), embedder))
    yield scope, kept, embedder
    asyncio.run(embedder.close())


async def passages(kb: Kb, question: str, *only: str) -> list[Passage]:
    scope, kept, embedder = kb
    asked = whole_document_question(question)
    assert asked is not None
    retriever = TwoStageRetriever(documents=kept, chosen=20)
    overview = OverviewRetriever(documents=kept, retriever=retriever)
    narrowed = Scope(scope.kb_id, scope.generation, scope.store, embedder, only or None)
    return await overview.retrieve(asked, narrowed)


@pytest.mark.parametrize(
    "question",
    [
        "What is the lease about?",
        "这份合同讲什么？",
        "Which documents mention descaling?",
        "What is lease.md about?",
    ],
)
async def test_every_kept_span_is_verbatim(kb: Kb, question: str) -> None:
    found = await passages(kb, question)
    assert found
    for passage in found:
        record = passage.record
        document = DOCUMENTS[record.document_id]
        assert passage.whole
        assert passage.spans
        assert record.text == document.text[record.start : record.end]
        for span in passage.spans:
            assert (
                document.text[span.start : span.end] == record.text[span.start - record.start :][: len(span)]
            )


@pytest.mark.parametrize("question", ["What is the lease about?", "What is the Employee handbook about?"])
async def test_a_document_that_the_question_names_is_the_only_one_told_about(kb: Kb, question: str) -> None:
    [name] = {passage.record.document_id for passage in await passages(kb, question)}
    assert name in question.lower()


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("What is the Mill Street lease about?", "lease-mill-street"),
        ("What is lease-quay-road about?", "lease-quay-road"),
        ("Summarise the Quay Road file.", "lease-quay-road"),
        ("What is 停车场管理办法 about?", "停车场管理办法"),
        ("停车场管理办法讲什么？", "停车场管理办法"),
        ("停車場管理辦法講什麼？", "停车场管理办法"),
        ("总结停车场管理办法", "停车场管理办法"),
        ("停车管理办法的主要内容是什么？", "停车场管理办法"),  # as people shorten names
        ("Summarise the Mill Street lease.", "lease-mill-street"),
    ],
)
async def test_a_document_is_named_by_the_words_of_its_title(kb: Kb, question: str, document: str) -> None:
    only = [name for name in DOCUMENTS if name != "lease"]  # whose whole name is in the question, too
    assert {p.record.document_id for p in await passages(kb, question, *only)} == {document}


@pytest.mark.parametrize(
    "question", ["What is the weather about?", "What is the lease-quay-road dispute about?", "他在说什么？"]
)
async def test_a_question_without_a_documents_name_is_an_ordinary_one(kb: Kb, question: str) -> None:
    assert await passages(kb, question) == []


async def test_one_long_document_is_told_about_section_by_section(kb: Kb) -> None:
    whole, *sections = await passages(kb, "What is this manual about?", "handbook")
    assert [passage.record.section for passage in sections] == ["Leave", "Travel", "Safety"]
    assert whole.text.startswith("handbook.md\nLeave rule 0")


async def test_which_documents_cover_a_topic_gives_each_with_its_sentence(kb: Kb) -> None:
    found = await passages(kb, "Which of the manuals cover descaling?")
    assert {p.record.document_id: p.kept_text for p in found} == {
        "espresso": "Descaling is due every month with citric acid.",
        "kettle": "Descaling is due every year with vinegar.",
    }
    assert {p.text.split("\n")[0] for p in found} == {"espresso.md", "kettle.md"}
    [chinese] = await passages(kb, "哪些文档提到押金？")
    assert (chinese.record.document_id, chinese.kept_text) == ("租约", "押金为两千元。")


async def test_a_document_covers_a_topic_whose_sides_stand_apart_in_it(kb: Kb) -> None:
    found = await passages(kb, "Which documents cover travel rules and safety desks?")
    assert [p.record.document_id for p in found] == ["handbook"]
    best, *_ = await passages(kb, "Which of the manuals cover espresso and descaling with citric acid?")
    assert best.record.document_id == "espresso"


async def test_the_sentence_on_a_topic_is_no_heading_where_another_says_as_much(kb: Kb) -> None:
    found = await passages(kb, "Which contracts mention key money?")
    assert {p.record.document_id: p.kept_text for p in found} == {
        "lease-mill-street": "The key money is 900 francs, paid once.",
        "lease-quay-road": "The key money is 700 francs, paid once.",
    }


async def test_documents_without_the_words_of_the_topic_do_not_cover_it(kb: Kb) -> None:
    assert await passages(kb, "Which documents mention helicopters?", "lease", "espresso", "kettle") == []


async def test_in_the_other_script_the_nearest_document_covers_a_topic(kb: Kb) -> None:
    best, *_ = await passages(kb, "哪些文档提到烧水壶？")
    assert best.record.document_id == "kettle"
    [chinese] = await passages(kb, "Which documents mention helicopters?", "租约", "lease")
    assert chinese.record.document_id == "租约"


async def test_a_scope_of_some_documents_is_kept(kb: Kb) -> None:
    found = await passages(kb, "Which documents mention descaling?", "kettle", "lease")
    assert {p.record.document_id for p in found} == {"kettle"}


async def test_nothing_indexed_gives_nothing(kb: Kb) -> None:
    empty = Scope("empty", 1, kb[0].store, kb[2])
    assert await passages((empty, kb[1], kb[2]), "What is this contract about?") == []
    assert await passages((empty, kb[1], kb[2]), "Which documents mention leave?") == []


async def test_a_name_of_words_that_say_nothing_elsewhere_is_a_name() -> None:
    embedder = BundledEmbedder()
    documents = {"who-is-who": ParsedDocument("Ann leads the lab."), "nda-1": ParsedDocument("Secrets stay.")}
    scope, kept = await indexed(documents, Chunking(characters=50), embedder)
    kb = (scope, kept, embedder)
    assert [p.record.document_id for p in await passages(kb, "What is Who Is Who about?")] == ["who-is-who"]
    assert [p.record.document_id for p in await passages(kb, "What is the NDA about?")] == ["nda-1"]
    await embedder.close()
