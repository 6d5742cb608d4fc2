"""Tuning: questions made of documents, what counts as answered, and a comparison that time bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.types import ParsedDocument, Passage, Record
from ingest.chunkers.base import Chunking, Strategy
from models.embedders.bundled import BundledEmbedder
from rag_service.tune import TuneDocument, TuneQuestion, Tuner, _score, cloze_questions

HANDBOOK = "".join(
    f"Rule {n} says that the {name} must be returned to desk {n} before the end of the month. "
    for n, name in enumerate(["laptop", "badge", "bicycle", "projector", "umbrella", "drill"])
)
CHINESE = "正式员工每年享有十五天带薪年假。女员工产假为一百五十八天。差旅费须在三十天内报销完毕。"
DOCUMENTS = [
    TuneDocument("a", "handbook.md", ParsedDocument(HANDBOOK)),
    TuneDocument("b", "休假.md", ParsedDocument(CHINESE)),
]


@pytest.fixture
async def embedder() -> AsyncIterator[BundledEmbedder]:
    opened = BundledEmbedder()
    yield opened
    await opened.close()


def test_a_cloze_question_is_a_sentence_without_its_rarest_word() -> None:
    questions = cloze_questions(DOCUMENTS, 20)
    by_evidence = {question.evidence: question for question in questions}
    badge = next(evidence for evidence in by_evidence if "badge" in evidence)
    assert by_evidence[badge].question == badge.replace("badge ", "")
    for question in questions:
        text = HANDBOOK if question.document == "handbook.md" else CHINESE
        assert question.evidence in text
        assert len(question.question) < len(question.evidence)


def test_questions_are_taken_from_every_document_in_turn() -> None:
    assert {question.document for question in cloze_questions(DOCUMENTS, 2)} == {"handbook.md", "休假.md"}
    assert cloze_questions([TuneDocument("c", "c", ParsedDocument("Short. | a | b |"))], 5) == []


def passage(text: str, name: str = "a") -> Passage:
    return Passage(Record("i", "d", "r", text), name, 1.0)


@pytest.mark.parametrize(
    ("question", "texts", "expected"),
    [
        (TuneQuestion("?", "ten days"), ["Leave.", "Leave is ten\ndays."], (1.0, 0.5, 1.0)),
        (TuneQuestion("?", "ten days"), ["x"] * 6 + ["ten days"], (0.0, 1 / 7, 1.0)),
        (TuneQuestion("?", "ten days"), ["x " * 700, "ten days"], (1.0, 0.5, 0.0)),  # beyond 1,200 tokens
        (TuneQuestion("?", "", "a"), ["x"], (1.0, 1.0, 1.0)),
        (TuneQuestion("?", "", "b"), ["x"], (0.0, 0.0, 0.0)),
    ],
)
def test_a_passage_answers_if_it_holds_the_evidence(
    question: TuneQuestion, texts: list[str], expected: tuple[float, float, float]
) -> None:
    assert _score(question, [passage(text) for text in texts], len) == expected


async def test_candidates_are_measured_on_the_same_questions(embedder: BundledEmbedder) -> None:
    tuner = Tuner(DOCUMENTS, cloze_questions(DOCUMENTS, 6), embedder)
    tried = [Chunking(), Chunking(strategy=Strategy.PARENT_CHILD, characters=60, child_characters=30)]
    measured = [result async for result in tuner.measure(tried, seconds=120)]
    assert [result.chunking for result in measured] == tried
    assert all(result.finished and result.recall_at_5 == result.support == 1.0 for result in measured)
    assert measured[1].chunks > measured[0].chunks
    assert measured[0].rank() > measured[1].rank(), "of equals, fewer chunks are better"
    kept = measured[1].chunking
    assert measured[0].rank(kept) < measured[1].rank(kept), "but none is better than what is so already"


async def test_what_time_does_not_suffice_for_is_said_to_be_unfinished(embedder: BundledEmbedder) -> None:
    tuner = Tuner(DOCUMENTS, cloze_questions(DOCUMENTS, 2), embedder)
    [result] = [result async for result in tuner.measure([Chunking()], seconds=0)]
    assert not result.finished
