"""Questions about something else are refused, and short ones about a document's own words are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.text import question_terms, terms
from core.types import Near, Passage, Record, Span, TermStats
from models.embedders.base import BUNDLED
from models.embedders.bundled import BundledEmbedder
from rag_service.answering.support import (
    NOTHING_FOUND,
    UNMEASURED_WEIGHT,
    AnyPassage,
    CoverageAndCosine,
    SupportCheck,
    Thresholds,
)
from rag_service.wiring import SUPPORT
from retrievers.fusion import coverage, inverse_document_frequency

INVOICE = (
    "Invoice INV-1234\nPrepared by Sarah Martinez on 15 November\n"
    "Widget A 12 pieces 340.00\nWidget B 3 pieces 99.50\nTotal 439.50, payable within thirty days."
)
LEAVE = "员工手册\n员工的子女三周岁以前，父母每年各有十天育儿假，工资照发。育儿假须提前两周向主管申请。"
RULE = Thresholds(coverage_weight=0.1, same_script=0.9, other_script=0.8, from_chinese=0.84, to_chinese=0.82)


@pytest.fixture(scope="module")
def embedder() -> BundledEmbedder:
    return BundledEmbedder()


async def passage_of_only_document(text: str, question: str, embedder: BundledEmbedder) -> Passage:
    """The passage as the search gives it where the knowledge base holds nothing else."""
    query = (await embedder.embed_queries([question]))[0]
    dense = (1 + float((await embedder.embed_passages([text]))[0] @ query)) / 2
    asked, held = question_terms(question), set(terms(text))
    idf = inverse_document_frequency(TermStats(1, {term: int(term in held) for term in asked}), asked)
    return Passage(Record("c", "d", "r", text), "d.txt", 1.0, dense=dense, coverage=coverage(idf, held))


@pytest.mark.parametrize(
    ("text", "question", "supported"),
    [
        (INVOICE, "invoice total", True),
        (INVOICE, "borderless table invoice total", True),
        (INVOICE, "Who prepared the invoice?", True),
        (INVOICE, "How long are the winters in Finland?", False),
        (INVOICE, "best pizza recipe", False),
        (INVOICE, "发票的总额是多少？", True),
        (LEAVE, "育儿假", True),
        (LEAVE, "育儿假有几天？", True),
        (LEAVE, "红烧肉怎么做？", False),
        (LEAVE, "明天会下雨吗？", False),
        (LEAVE, "parental leave", True),
    ],
)
async def test_the_rule_of_the_bundled_embedder_suits_a_knowledge_base_of_one_document(
    text: str, question: str, supported: bool, embedder: BundledEmbedder
) -> None:
    passage = await passage_of_only_document(text, question, embedder)
    assert CoverageAndCosine(SUPPORT[BUNDLED]).supported(question, [passage]) is supported


@pytest.mark.parametrize(
    ("question", "dense", "covered", "supported"),
    [
        ("total", 0.90, 0.0, True),
        ("total", 0.89, 0.0, False),
        ("total", 0.81, 1.0, True),
        ("总额", 0.80, 0.0, True),
        ("总额", 0.79, 0.0, False),
    ],
)
def test_a_passage_in_another_script_has_a_threshold_of_its_own(
    question: str, dense: float, covered: float, supported: bool
) -> None:
    passage = Passage(Record("c", "d", "r", INVOICE), "d.txt", 1.0, dense=dense, coverage=covered)
    assert CoverageAndCosine(RULE).supported(question, [passage]) is supported


@pytest.mark.parametrize(
    ("text", "question", "sentence", "supported"),
    [
        (INVOICE, "总额", 0.89, True),
        (INVOICE, "总额", 0.87, False),
        (LEAVE, "leave", 0.85, True),
        (LEAVE, "leave", 0.83, False),
    ],
)
def test_where_sentences_were_compared_the_best_one_counts_and_each_direction_has_a_threshold(
    text: str, question: str, sentence: float, supported: bool
) -> None:
    near = tuple(Near(Span(0, 9), 2 * each - 1) for each in (0.5, sentence))
    passage = Passage(Record("c", "d", "r", text), "d.txt", 1.0, dense=0.8, near=near)
    assert CoverageAndCosine(RULE).supported(question, [passage]) is supported


def test_signs_alone_ask_nothing() -> None:
    assert not CoverageAndCosine(RULE).supported("？！", passages(1.0))


def test_one_supporting_passage_is_enough_and_none_is_too_few() -> None:
    far, near = (Passage(Record("c", "d", "r", INVOICE), "d.txt", 1.0, dense=d) for d in (0.5, 0.95))
    assert CoverageAndCosine(RULE).supported("total", [far, near])
    assert not CoverageAndCosine(RULE).supported("total", [far])
    assert not CoverageAndCosine(RULE).supported("total", [])


def passages(*dense: float, text: str = INVOICE, covered: float = 0.0) -> list[Passage]:
    return [Passage(Record("c", "d", "r", text), "d.txt", 1.0, dense=d, coverage=covered) for d in dense]


def test_strength_is_the_mean_of_the_eight_strongest_above_the_threshold() -> None:
    candidates = passages(0.1, *[0.95] * 4, 0.2, *[0.93] * 4)
    assert CoverageAndCosine(RULE).strength("total", candidates) == pytest.approx(0.04)
    assert AnyPassage().strength("total", candidates) == pytest.approx(0.94)


def test_strength_counts_covered_words_and_the_script() -> None:
    candidates = passages(0.85, covered=0.5)
    assert CoverageAndCosine(RULE).strength("total", candidates) == pytest.approx(0.0)
    assert CoverageAndCosine(RULE).strength("总额", candidates) == pytest.approx(0.1)
    assert AnyPassage().strength("total", candidates) == pytest.approx(0.85 + UNMEASURED_WEIGHT / 2)


@pytest.mark.parametrize("check", [AnyPassage(), CoverageAndCosine(RULE)])
def test_nothing_found_is_weaker_than_any_passage(check: SupportCheck) -> None:
    assert check.strength("total", []) == NOTHING_FOUND < check.strength("total", passages(0.0))


def test_beside_passages_in_the_questions_script_those_in_the_other_are_not_strong_for_that_alone() -> None:
    check = CoverageAndCosine(RULE)
    foreign = [replace(p, foreign=True) for p in passages(*[0.85] * 8)]
    own = passages(*[0.91] * 8, text=LEAVE)
    question = "育儿假有几天？"
    assert check.strength(question, foreign) == pytest.approx(0.05)  # above the threshold of the other script
    assert check.strength(question, [*own, *foreign]) == pytest.approx(0.01)
    assert (
        check.strength(question, [*own[:1], *foreign]) > 0.04
    )  # one document does not change what the others are
