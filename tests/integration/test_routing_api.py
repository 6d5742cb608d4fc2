"""Questions to several knowledge bases over real HTTP: named ones, `auto`, and the model `kb:auto`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from running_service import Running

TEXTS = {
    "people": "Employees take ten days of annual leave. Parental leave is 16 weeks.\n",
    "kitchen": "The Atlas 9 espresso machine is descaled every month with citric acid.\n",
}


@pytest.fixture(scope="module")
def several(service: Running) -> list[str]:
    for name, text in TEXTS.items():
        service.new_kb(name)
        service.upload(name, {f"{name}.txt": text})
    service.work()
    return list(TEXTS)


def post(service: Running, path: str, **body: Any) -> dict[str, Any]:
    response = service.client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize(
    ("question", "kb", "quote"),
    [
        ("How long is parental leave?", "people", "Parental leave is 16 weeks."),
        ("How often is the espresso machine descaled?", "kitchen", TEXTS["kitchen"].strip()),
    ],
)
def test_auto_answers_from_the_knowledge_base_that_knows(
    service: Running, several: list[str], question: str, kb: str, quote: str
) -> None:
    answer = post(service, "/ask", question=question, trace=True)
    [citation] = answer["citations"]
    assert (citation["kb"], citation["quote"]) == (kb, quote)
    assert f"kb={kb}&" in citation["url"]
    [route] = [stage for stage in answer["trace"] if stage["stage"] == "route"]
    assert route["notes"]["chosen"][0] == kb
    assert post(service, "/search", query=question)["passages"][0]["kb"] == kb


def test_named_knowledge_bases_are_all_searched(service: Running, several: list[str]) -> None:
    found = post(service, "/search", query="parental leave espresso", kbs=several, trace=True)
    assert {passage["kb"] for passage in found["passages"]} == set(several)
    assert "route" not in {stage["stage"] for stage in found["trace"]}
    [only] = post(service, "/search", query="parental leave", kbs=["kitchen"])["passages"]
    assert only["kb"] == "kitchen"


def test_a_stream_tells_the_knowledge_base_of_each_citation(service: Running, several: list[str]) -> None:
    body = {"question": "How long is parental leave?", "stream": True}
    with service.client.stream("POST", "/ask", json=body) as response:
        text = response.read().decode()
    assert '"kb":"people"' in text
    assert "event: done" in text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"question": "x", "kbs": []}, 422),
        ({"question": "x", "kbs": "all"}, 422),
        ({"question": "x", "kbs": ["absent"]}, 404),
        ({"question": "x", "conversation_id": "c"}, 422),
    ],
)
def test_what_cannot_be_asked_is_refused(service: Running, body: dict[str, Any], status: int) -> None:
    assert service.client.post("/ask", json=body).status_code == status


def test_the_model_auto_chooses_for_chat_front_ends(service: Running, several: list[str]) -> None:
    headers = {"Authorization": f"Bearer {service.admin_key}"}
    with httpx.Client(base_url=service.url + "/v1", headers=headers, timeout=60) as chat:
        assert "kb:auto" in {model["id"] for model in chat.get("/models").json()["data"]}
        message = {"role": "user", "content": "How long is parental leave?"}
        response = chat.post("/chat/completions", json={"model": "kb:auto", "messages": [message]})
        [annotation, *_] = response.json()["choices"][0]["message"]["annotations"]
        assert "kb=people&" in annotation["url_citation"]["url"]
        missing = chat.post("/chat/completions", json={"model": "kb:nope", "messages": [message]})
        assert missing.status_code == 404
