"""The prompt: the documented template word for word, and passages that cannot get out of its fence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidValue, SettingsError
from core.text import defused
from rag_service.answering.prompt import Prompts

DOCUMENTED = """请基于```内的内容回答问题。
```
检索片段1
检索片段2
```
我的问题是：
{content}"""


def built_in(default: str = "auto") -> Prompts:
    return Prompts(folder=None, default=default)


def test_a_chinese_question_gets_the_documented_template_word_for_word() -> None:
    prompt = built_in().render("年假有几天？", ["检索片段1", "检索片段2"])
    assert prompt == DOCUMENTED.format(content="年假有几天？")


def test_an_english_question_gets_the_same_in_english() -> None:
    assert built_in().render("How long?", ["One.", "Two."]) == (
        "Please answer the question based on the content inside ```.\n```\nOne.\nTwo.\n```\nMy question is:\nHow long?"
    )


def test_a_request_may_name_another_template_than_the_question_suggests() -> None:
    assert built_in().render("How long?", ["x"], template="zh").startswith("请基于")
    assert built_in("en").render("多久？", ["x"]).startswith("Please")


@given(st.lists(st.sampled_from(["`", "``", "```", "````", "\n", "a", "~~~"]), max_size=12).map("".join))
def test_no_passage_can_close_the_fence(text: str) -> None:
    prompt = built_in().render("q", [text, text])
    body = prompt.removeprefix("Please answer the question based on the content inside ```.\n```\n")
    inside, _, after = body.rpartition("\n```\nMy question is:\n")
    assert "```" not in inside
    assert after == "q"


def test_a_defused_fence_keeps_its_length() -> None:
    assert defused("a ```` b `` c") == "a '''' b `` c"
    assert re.sub("[`']", "", defused("```x```")) == "x"


def test_text_of_passages_and_questions_is_data_and_no_template() -> None:
    prompt = built_in().render("{{ 7 * 6 }} <b>", ["{% for x in y %}{{ passages }} & <i>"])
    assert "{{ 7 * 6 }} <b>" in prompt
    assert "{% for x in y %}{{ passages }} & <i>" in prompt


def test_a_template_of_the_users_own_is_used_and_may_replace_a_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "short.jinja").write_text("{{ passages | join('|') }}? {{ content }}")
    (tmp_path / "en.jinja").write_text("own: {{ content }}")
    prompts = Prompts(folder=tmp_path, default="short")
    assert prompts.render("q", ["a", "b"]) == "a|b? q"
    assert prompts.render("q", ["a"], template="en") == "own: q"
    assert prompts.render("q", ["a"], template="zh").startswith("请基于")
    assert prompts.names() == ["en", "short", "zh"]


@pytest.mark.parametrize("name", ["absent", "../en", "en.jinja", "a b"])
def test_an_unknown_template_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        built_in().render("q", ["a"], template=name)
    assert caught.value.status == 422
    assert caught.value.hint == "There are: en, zh."


@pytest.mark.parametrize("broken", ["{{ nonsense }}", "{% for %}", "{{ content.__class__.__mro__ }}"])
def test_a_broken_template_is_refused_in_words(tmp_path: Path, broken: str) -> None:
    (tmp_path / "mine.jinja").write_text(broken)
    with pytest.raises(InvalidValue, match="The prompt template 'mine' is broken"):
        Prompts(folder=tmp_path, default="mine").render("q", ["a"])


def test_a_default_template_that_does_not_exist_is_refused_at_start() -> None:
    with pytest.raises(SettingsError, match=r"answer\.template is absent"):
        built_in("absent")
