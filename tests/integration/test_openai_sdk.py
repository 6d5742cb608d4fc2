"""The official OpenAI SDK works against the service, streamed and plain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from running_service import Running

HANDBOOK = """# Leave

Parental leave is 16 weeks. The company pays for all of it.

# Expenses

Expense reports are submitted within 30 days to the finance team.
"""
QUESTION = "How many weeks is parental leave?"


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[OpenAI]:
    service.new_kb("handbook")
    service.upload("handbook", {"handbook.md": HANDBOOK, "手册.md": "# 休假\n\n员工每年享有十天带薪年假。\n"})
    service.work()
    with OpenAI(base_url=service.url + "/v1", api_key=service.admin_key, max_retries=0) as client:
        yield client


def ask(client: OpenAI, *messages: Any, model: str = "kb:handbook") -> Any:
    spoken = [m if isinstance(m, dict) else {"role": "user", "content": m} for m in messages]
    return client.chat.completions.create(model=model, messages=spoken)


def test_each_knowledge_base_is_a_model(client: OpenAI) -> None:
    assert {"kb:handbook", "kb:default"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("kb:handbook").owned_by == "rag-service"


def test_an_answer_carries_links_and_annotations_that_point_at_them(client: OpenAI, service: Running) -> None:
    completion = ask(client, QUESTION)
    [choice] = completion.choices
    text = choice.message.content
    assert "16 weeks" in text
    assert choice.finish_reason == "stop"
    assert completion.model == "kb:handbook"
    assert choice.message.annotations
    for annotation in choice.message.annotations:
        cited = annotation.url_citation
        link = text[cited.start_index : cited.end_index + 1]
        assert link.startswith("[")
        assert link.endswith(f"]({cited.url})")
        assert cited.url.startswith(service.url + "/?")
        assert "handbook.md" in cited.title
    assert "Sources:\n1. [handbook.md, Leave](" in text


def test_the_stream_says_the_same_as_the_plain_answer(client: OpenAI) -> None:
    plain = ask(client, QUESTION).choices[0].message
    chunks = list(
        client.chat.completions.create(
            model="kb:handbook",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == plain.content
    sent = [a for delta in deltas for a in getattr(delta, "annotations", None) or []]
    assert sent == [a.model_dump() for a in plain.annotations]
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_adds_up(client: OpenAI) -> None:
    usage = ask(client, QUESTION).usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_follow_up_is_understood_from_the_turns_before_it(client: OpenAI) -> None:
    said = {"role": "assistant", "content": "16 weeks."}
    text = ask(client, QUESTION, said, "Who pays for it?").choices[0].message.content
    assert "The company pays for all of it." in text


def test_system_messages_content_parts_and_parameters_of_other_services_are_no_error(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="kb:handbook",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        ],
        temperature=0.3,
        presence_penalty=0.1,
        seed=7,
        extra_body={"retrieval": {"top_k": 1}},
    )
    assert "16 weeks" in (completion.choices[0].message.content or "")


def test_nothing_found_is_said_in_the_language_of_the_question(client: OpenAI) -> None:
    for question, words in (("zzxqv blorptang?", "Not found"), ("曌龘靐齉？", "知识库中没有找到")):
        message = ask(client, question, model="kb:default").choices[0].message
        assert message.content.startswith(words)
        assert not message.annotations


def test_an_unknown_model_is_the_sdks_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="The model 'kb:absent' does not exist") as caught:
        ask(client, QUESTION, model="kb:absent")
    assert caught.value.code == "not-found"


def test_a_wrong_key_is_the_sdks_authentication_error(service: Running) -> None:
    with (
        OpenAI(base_url=service.url + "/v1", api_key="rag_wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


@pytest.mark.parametrize(
    "messages", [[], [{"role": "assistant", "content": "Hello."}], [{"role": "user", "content": " "}]]
)
def test_messages_without_a_question_are_refused(client: OpenAI, messages: list[dict[str, str]]) -> None:
    with pytest.raises(openai.UnprocessableEntityError):
        ask(client, *messages)
