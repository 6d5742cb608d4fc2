"""Refinement: the model's words become searches of their kinds; without a model nothing is made worse."""

from __future__ import annotations

import pytest
from fake_model import FakeModel

from core.errors import ModelError
from core.types import Query
from retrievers.refine import (
    MOST_PARTS,
    LlmRefiner,
    RefineChoice,
    Refinement,
    RefineRules,
    Technique,
    questions_in,
)

QUESTION = Query("Who pays for the leave?", ("Who pays for the leave?",))


async def test_all_that_is_wanted_is_written_in_one_call_and_nothing_else() -> None:
    model = FakeModel(hyde="The company pays.", step_back="Who pays for absences?")
    await LlmRefiner(model).refine(QUESTION, {Technique.HYDE, Technique.STEP_BACK})
    [schema] = model.schemas
    assert schema["required"] == ["hyde", "step_back"]
    assert "decompose" not in model.prompts[0]
    assert model.prompts[0].endswith("Question: Who pays for the leave?")


async def test_other_wordings_are_searched_together_with_the_question() -> None:
    model = FakeModel(
        rewrite="payer of leave", multi_query=["Who bears it?", "payer of leave", "Whose cost?"]
    )
    refined = await LlmRefiner(model).refine(QUESTION, {Technique.REWRITE, Technique.MULTI_QUERY})
    [search] = refined.searches
    assert search.query.searches == (*QUESTION.searches, "payer of leave", "Who bears it?", "Whose cost?")
    assert search.query.standalone == QUESTION.standalone


async def test_parts_and_a_translation_are_searches_of_their_own_that_ask_what_the_user_asked() -> None:
    model = FakeModel(decompose=["What leave is there?", "Who pays it?"], translate="谁支付休假？")
    refined = await LlmRefiner(model).refine(QUESTION, {Technique.DECOMPOSE, Technique.TRANSLATE})
    assert [(s.technique, s.query.searches) for s in refined.searches] == [
        ("", QUESTION.searches),
        ("decompose", ("What leave is there?",)),
        ("decompose", ("Who pays it?",)),
        ("translate", ("谁支付休假？",)),
    ]
    assert all(search.asks for search in refined.searches)


async def test_an_imagined_passage_and_a_more_general_question_cannot_tell_that_there_is_an_answer() -> None:
    model = FakeModel(hyde="The company pays.", step_back="Who pays for absences?")
    refined = await LlmRefiner(model).refine(QUESTION, {Technique.HYDE, Technique.STEP_BACK})
    assert [(s.technique, s.asks, s.query.imagined) for s in refined.searches] == [
        ("", True, ""),
        ("step_back", False, ""),
        ("hyde", False, "The company pays."),
    ]
    assert refined.searches[-1].query.searches == QUESTION.searches  # its words are the question's


@pytest.mark.parametrize("text", ["", "  ", '""', "x" * 501, "Who pays for the leave?"])
async def test_what_cannot_be_searched_for_is_left_out(text: str) -> None:
    model = FakeModel(rewrite=text, decompose=[text], step_back=text, translate=text)
    wanted = {Technique.REWRITE, Technique.DECOMPOSE, Technique.STEP_BACK, Technique.TRANSLATE}
    [search] = (await LlmRefiner(model).refine(QUESTION, wanted)).searches
    assert search.query == QUESTION


async def test_a_model_that_writes_no_such_json_is_an_error_that_the_pipeline_reports() -> None:
    with pytest.raises(ModelError, match="fake was asked for JSON"):
        await LlmRefiner(FakeModel(other="x")).refine(QUESTION, {Technique.HYDE})


async def test_a_text_in_the_place_of_a_list_and_a_list_in_the_place_of_a_text_do_not_cost_the_rest() -> None:
    model = FakeModel(multi_query="Who bears it?", hyde=["The company pays.", "x"], translate="谁支付休假？")
    wanted = {Technique.MULTI_QUERY, Technique.HYDE, Technique.TRANSLATE}
    wordings, translated, imagined = (await LlmRefiner(model).refine(QUESTION, wanted)).searches
    assert wordings.query.searches == (*QUESTION.searches, "Who bears it?")
    assert translated.query.searches == ("谁支付休假？",)
    assert imagined.query.imagined == "The company pays."
    assert len(model.prompts) == 1


async def test_the_model_is_not_asked_for_nothing() -> None:
    model = FakeModel()
    assert [s.query for s in (await LlmRefiner(model).refine(QUESTION, ())).searches] == [QUESTION]
    assert model.prompts == []


async def test_a_chinese_question_is_refined_in_chinese() -> None:
    model = FakeModel(translate="Who pays for the leave?")
    await LlmRefiner(model).refine(Query("谁支付休假？", ("谁支付休假？",)), {Technique.TRANSLATE})
    assert "把问题翻译成英文" in model.prompts[0]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Who pays for the leave?", []),
        (
            "How long is the leave? When does the garage open?",
            ["How long is the leave?", "When does the garage open?"],
        ),
        ("How long is parental leave? Who pays for it?", ["How long is parental leave?"]),
        (
            "Where do I park? How long is the leave? Who pays for it?",
            ["Where do I park?", "How long is the leave?", "How long is the leave? Who pays for it?"],
        ),
        ("产假多少天？陪产假多少天？", ["产假多少天？", "陪产假多少天？"]),
        ("I am new here. How long is parental leave?", []),
        ("a b c? " * 9, ["a b c?"] * MOST_PARTS),
    ],
)
def test_only_a_text_that_holds_several_questions_has_parts(text: str, parts: list[str]) -> None:
    assert questions_in(text) == parts


async def test_without_a_model_the_question_is_searched_as_it_is_and_what_is_lacking_is_named() -> None:
    refined = await RefineRules().refine(QUESTION, set(Technique))
    assert [search.query for search in refined.searches] == [QUESTION]
    assert set(refined.lacking) == set(Technique) - {Technique.DECOMPOSE}


async def test_without_a_model_several_questions_in_one_are_searched_one_by_one_and_together() -> None:
    text = "How long is parental leave? When does the garage open?"
    refined = await RefineRules().refine(Query(text, (text,)), {Technique.DECOMPOSE})
    searches = [search.query.standalone for search in refined.searches]
    assert searches == [text, "How long is parental leave?", "When does the garage open?"]
    assert refined.lacking == ()


def test_a_request_overrules_the_knowledge_base_and_leaves_the_rest() -> None:
    kb = {"hyde": True, "multi_query": True, "rounds": 3}
    chosen = Refinement.chosen(kb, RefineChoice(hyde=False, decompose=True))
    assert chosen.techniques == {Technique.MULTI_QUERY, Technique.DECOMPOSE}
    assert (chosen.rounds, chosen.seconds) == (3, 30.0)
    assert Refinement.chosen(None, {}) == Refinement()
