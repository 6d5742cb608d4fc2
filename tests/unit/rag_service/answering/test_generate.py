"""Without a language model the best sentences answer; base models get what they need to begin and end."""

from __future__ import annotations

from core.types import Passage, Record
from models.llm.base import FinishReason
from rag_service.answering.generate import EXTRACTIVE_NAME, ExtractiveGenerator, Task, best_sentences

LEAVE = "Parental leave is 16 weeks. The cafeteria opens at eight. It is paid."


def passages(*texts: str) -> tuple[Passage, ...]:
    return tuple(Passage(Record(str(n), "d", "r", text), "doc", 1.0) for n, text in enumerate(texts))


def test_the_sentence_with_most_of_the_questions_words_comes_first() -> None:
    assert best_sentences("How long is parental leave?", passages(LEAVE)) == ["Parental leave is 16 weeks."]
    assert best_sentences("年假有几天", passages("食堂八点开门。年假有十天。")) == ["年假有十天。"]


def test_among_equals_the_better_passage_wins() -> None:
    found = passages("Parental leave: granted.", "Parental leave: refused.")
    assert best_sentences("parental leave", found) == ["Parental leave: granted.", "Parental leave: refused."]


def test_a_sentence_that_only_repeats_the_question_is_no_answer() -> None:
    found = passages("# Parental leave\n\nIt lasts 16 weeks.")
    assert best_sentences("How long is parental leave?", found) == ["It lasts 16 weeks."]


def test_without_a_shared_word_the_beginning_of_the_best_passage_answers() -> None:
    assert best_sentences("育儿假多久", passages(LEAVE, "Other.")) == ["Parental leave is 16 weeks."]
    assert best_sentences("anything", ()) == []


async def test_the_extractive_answer_quotes_and_says_what_it_is() -> None:
    generator = ExtractiveGenerator()
    task = Task("How long is parental leave?", "unused", passages(LEAVE))
    deltas = [delta async for delta in generator.stream(task)]
    assert "".join(delta.text for delta in deltas) == "Parental leave is 16 weeks.\n"
    assert [delta.finish_reason for delta in deltas][-1] == FinishReason.STOP
    assert generator.name == EXTRACTIVE_NAME
    assert generator.preamble("How long?").startswith("(No language model")
    assert generator.preamble("多久？").startswith("（没有配置大语言模型")
