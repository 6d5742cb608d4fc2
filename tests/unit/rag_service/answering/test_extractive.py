"""Without a language model the best sentences answer; base models get what they need to begin and end."""

from __future__ import annotations

from core.types import Near, Passage, Record, Span
from models.llm.base import FinishReason
from rag_service.answering.extractive import (
    EXTRACTIVE_NAME,
    ExtractiveGenerator,
    best_sentences,
    key_sentences,
)
from rag_service.answering.task import Task
from rag_service.answering.trace import Trace

LEAVE = "Parental leave is 16 weeks. The cafeteria opens at eight. It is paid."


def passages(*texts: str) -> tuple[Passage, ...]:
    return tuple(Passage(Record(str(n), "d", "r", text), "doc", 1.0) for n, text in enumerate(texts))


def best(asked: str, *texts: str, question: str | None = None) -> list[str]:
    return best_sentences(asked, question or asked, passages(*texts))


def test_the_sentence_with_most_of_the_questions_words_comes_first() -> None:
    assert best("How long is parental leave?", LEAVE) == ["Parental leave is 16 weeks."]
    assert best("年假有几天", "食堂八点开门。年假有十天。") == ["年假有十天。"]


def test_among_equals_the_better_passage_wins() -> None:
    found = best("parental leave", "Parental leave: granted.", "Parental leave: refused.")
    assert found == ["Parental leave: granted.", "Parental leave: refused."]


def test_an_equal_sentence_is_quoted_once() -> None:
    assert best("How long is parental leave?", LEAVE, LEAVE) == ["Parental leave is 16 weeks."]


def test_a_sentence_that_only_repeats_the_question_is_no_answer() -> None:
    assert best("How long is parental leave?", "# Parental leave\n\nIt lasts 16 weeks.") == [
        "It lasts 16 weeks."
    ]


def test_a_statement_of_the_questions_own_words_answers_it() -> None:
    text = "The Kestrel warranty is 30 months. It does not cover corrosion. Propellers are extra."
    assert "It does not cover corrosion." in best("Does the Kestrel warranty cover corrosion?", text)
    assert best("年假可以跨年吗？", "年假不可以跨年。每年五天。") == ["年假不可以跨年。"]


def test_what_stands_under_a_heading_answers_not_the_heading() -> None:
    assert best(
        "出差住宿标准是多少？", "一、住宿标准\n一线城市每晚不超过 600 元。\n二、餐补\n每天 100 元。"
    ) == ["一线城市每晚不超过 600 元。"]


def test_the_names_of_columns_are_no_answer() -> None:
    table = "| Trade | Name | Telephone |\n| Electrician | Reto Bundi | 081 555 0177 |"
    assert best("Who is the electrician?", table) == ["| Electrician | Reto Bundi | 081 555 0177 |"]


def test_of_a_sheet_the_row_answers() -> None:
    rows = [f"Part: BX-{n}; Name: Bearing type L{n}; Shelf: R{n}" for n in range(9)]
    rows.append("Part: TX-1; Name: Titanium hex bolt; Shelf: R77")
    assert best("On which shelf is the titanium hex bolt?", "\n".join(rows)) == [rows[-1]]


def test_words_of_the_conversation_count_less_than_those_asked() -> None:
    text = "Construction of the greenhouse starts in April. The budget of the greenhouse is 90,000 francs."
    context = "When does construction of the greenhouse start? What is its budget?"
    assert best("What is its budget?", text, question=context) == [
        "The budget of the greenhouse is 90,000 francs."
    ]


def test_passages_without_the_questions_words_hold_no_answer() -> None:
    assert best("How do I reset my router password?", LEAVE) == []
    assert best("北京的天气怎么样？", "茶园管理记录。三月采茶。") == []
    assert best("anything") == []


def test_in_another_language_the_beginning_of_the_best_passage_answers() -> None:
    assert best("育儿假多久", LEAVE, "Other.") == ["Parental leave is 16 weeks."]


def test_each_whole_document_tells_its_sentence_even_if_another_tells_the_same() -> None:
    same = [
        Passage(Record(name, name, "r", LEAVE), name, 1.0, spans=(Span(0, 27),), whole=True) for name in "aab"
    ]
    assert key_sentences(same) == ["Parental leave is 16 weeks."] * 2


def compared(*lines: tuple[str, float]) -> Passage:
    """A passage of these lines, each with its cosine to the question."""
    text, near = "", []
    for line, cosine in lines:
        near.append(Near(Span(len(text), len(text) + len(line)), cosine))
        text += line + "\n\n"
    return Passage(Record("1", "d", "r", text), "doc", 1.0, near=tuple(near))


def test_in_another_language_no_heading_answers_however_near_it_is() -> None:
    crew = ("In case of smoke, the mate closes the vents.", 0.4)
    passage = compared(("Ferry Crew Handbook", 0.9), ("### Fire: what to do", 0.8), ("----", 0.7), crew)
    assert best_sentences("着火了怎么办？", "着火了怎么办？", [passage]) == [crew[0]]


def test_the_best_passage_answers_though_others_in_the_questions_language_share_some_of_its_words() -> None:
    foreign = compared(("The yard crane is tested in May.", 0.8))
    own = Passage(Record("2", "d", "r", "试用期满后进行考核，多久考核一次由主管决定。"), "doc", 0.9)
    question = "起重机多久测试一次？"
    assert best_sentences(question, question, [foreign, own]) == ["The yard crane is tested in May."]
    assert best_sentences(question, question, [own, foreign]) == [own.record.text]


async def test_where_only_headings_were_compared_the_nearest_is_quoted_without_its_mark() -> None:
    task = Task("着火了怎么办？", "着火了怎么办？", (compared(("# Ferry", 0.2), ("### Fire", 0.8)),))
    deltas = [delta.text async for delta in ExtractiveGenerator().stream(task, Trace())]
    assert "".join(deltas) == "Fire\n"


async def test_the_extractive_answer_quotes_and_says_what_it_is() -> None:
    generator = ExtractiveGenerator()
    task = Task("How long is it?", "How long is parental leave?", passages(LEAVE))
    deltas = [delta async for delta in generator.stream(task, Trace())]
    assert "".join(delta.text for delta in deltas) == "Parental leave is 16 weeks.\n"
    assert [delta.finish_reason for delta in deltas][-1] == FinishReason.STOP
    assert generator.name == EXTRACTIVE_NAME
    assert generator.preamble("How long?").startswith("(No language model")
    assert generator.preamble("多久？").startswith("（未使用大语言模型")


async def written(asked: str, *texts: str, question: str = "") -> list[str]:
    task = Task(asked, question or asked, passages(*texts))
    return "".join([delta.text async for delta in ExtractiveGenerator().stream(task, Trace())]).splitlines()


async def test_each_of_several_questions_is_answered_in_their_order() -> None:
    asked = "When does the garage of the museum open? And how long is parental leave?"
    garage = "The garage of the museum opens at six. The garage of the museum is in Well Lane."
    assert await written(asked, garage, LEAVE) == [
        "The garage of the museum opens at six.",
        "The garage of the museum is in Well Lane.",
        "Parental leave is 16 weeks.",
    ]
    assert await written("年假有几天？食堂几点开门？", "食堂八点开门。年假有十天。") == [
        "年假有十天。",
        "食堂八点开门。",
    ]


async def test_a_question_that_points_back_to_the_one_before_counts_its_words() -> None:
    asked = "How long is parental leave? Who pays for it?"
    found = await written(asked, "Parental leave is 16 weeks. The state pays for it.", LEAVE)
    assert found == ["Parental leave is 16 weeks.", "The state pays for it."]


async def test_of_several_questions_the_one_without_an_answer_gets_none() -> None:
    assert await written("How long is parental leave? Where do penguins nest?", LEAVE) == [
        "Parental leave is 16 weeks."
    ]


MANUAL = """# HX-200 heat exchanger manual

The HX-200 is made by Brunnen AG.

## Technical data

| Item | Value |
|---|---|
| Weight | 11.4 kg |

## Errors

| Code | Meaning |
|---|---|
| E04 | Sensor broken |
| E07 | Motor overload |

**Can I use the HX-200 outdoors?** No, use it indoors only.
"""
AGREEMENT = (
    "1.1 Kessler repairs the pumps.\n5.2 Either party may end the agreement with a notice of six months."
)


def of_documents(asked: str) -> list[str]:
    manual = Passage(Record("1", "m", "r", MANUAL, header="HX-200 heat exchanger manual"), "hx-200.md", 1.0)
    prices = Passage(Record("2", "p", "r", "FC-3310 | filter for the HX-200 | 45 €"), "prices.csv", 0.9)
    agreement = Passage(Record("3", "a", "r", AGREEMENT), "kessler-agreement.md", 0.8)
    return best_sentences(asked, asked, (manual, prices, agreement))


def test_what_the_title_says_is_said_by_all_sentences_of_its_document() -> None:
    assert of_documents("What is the weight of the HX-200?") == ["| Weight | 11.4 kg |"]
    assert of_documents("Is the HX-200 for outdoors?")[0] == "No, use it indoors only."
    assert of_documents("How long is the notice of the Kessler agreement?") == [
        "5.2 Either party may end the agreement with a notice of six months."
    ]


def test_a_document_that_is_asked_for_by_its_title_alone_answers() -> None:
    assert of_documents("HX-200")[0] == "The HX-200 is made by Brunnen AG."


def test_a_code_is_found_however_it_is_written() -> None:
    assert of_documents("price of fc3310") == ["FC-3310 | filter for the HX-200 | 45 €"]


def test_a_question_with_its_background_is_answered() -> None:
    asked = (
        "Good morning, our customer in the old town has one of your devices in his cellar. Since yesterday evening "
        "its display shows E07. What does it mean?"
    )
    assert of_documents(asked)[0] == "| E07 | Motor overload |"


def test_no_question_of_a_document_answers() -> None:
    assert best("How heavy is the pump?", "How heavy is the pump? It takes two.") == ["It takes two."]


async def test_questions_joined_by_and_are_two() -> None:
    found = await written("How long is parental leave and when does the cafeteria open?", LEAVE)
    assert found == ["Parental leave is 16 weeks.", "The cafeteria opens at eight."]


async def test_a_part_without_words_of_its_own_is_not_answered_in_another_language() -> None:
    table = "| Code | Meaning |\n|---|---|\n| E12 | Overheating |"
    found = (*passages(table), compared(("请注明起讫地点。", 0.9)))
    asked = "What does error E12 mean and what should I do?"
    deltas = [d.text async for d in ExtractiveGenerator().stream(Task(asked, asked, found), Trace())]
    assert "".join(deltas) == "| E12 | Overheating |\n"
