"""Refined and repeated searches through the API: the searches, their trace and events, what is said without a model.

The model is a fake server with OpenAI's protocol whose words are laid down: what a real one writes is its own affair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from fake_engine import FakeEngine, fake_engine
from running_service import Running, running_service

BRIDGE = "Where was the founder of Acme born?"
DOCUMENTS = {
    "acme.md": "# Acme\n\nThe company Acme was founded by Mary Smith in 1990. It makes anvils.\n",
    "smith.md": "# Mary Smith\n\nMary Smith was born in Lisbon and studied engineering.\n",
    "leave.md": "# Leave\n\nParental leave is 16 weeks long and is paid in full.\n",
    "parking.md": "# Parking\n\nThe garage opens at seven in the morning.\n",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    with fake_engine() as url:
        yield url


@pytest.fixture(scope="module")
def service(
    engine: str,
    new_database: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    variables = {
        "RAG_LLM__KIND": "openai",
        "RAG_LLM__URL": engine,
        "RAG_LLM__MODEL": "fake",
        "RAG_LLMS__QUOTES__KIND": "extractive",
    }
    with (
        new_database() as url,
        running_service(url, tmp_path_factory.mktemp("data"), **variables) as running,
    ):
        running.new_kb("facts")
        running.upload("facts", DOCUMENTS)
        running.work()
        yield running


@pytest.fixture(autouse=True)
def silence() -> None:
    FakeEngine.forget()


def stages(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [stage for stage in answer["trace"] if stage["stage"] == name]


def search(service: Running, query: str, **options: Any) -> dict[str, Any]:
    response = service.client.post("/kbs/facts/search", json={"query": query, "trace": True, **options})
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [passage["document_name"] for passage in found["passages"]]


def test_nothing_is_refined_unless_it_is_asked_for(service: Running) -> None:
    found = search(service, BRIDGE)
    assert stages(found, "refine") == stages(found, "judge") == []
    assert FakeEngine.asked == []


def test_every_technique_has_its_searches_in_the_trace(service: Running) -> None:
    FakeEngine.words = {
        "rewrite": "birthplace of Acme's founder",
        "multi_query": ["Which town does Acme's founder come from?"],
        "hyde": "The founder of Acme was born in Paris.",
        "decompose": ["Who founded Acme?", "When does the garage open?"],
        "step_back": "Who is the founder of Acme?",
    }
    wishes = dict.fromkeys(FakeEngine.words, True)
    found = search(service, BRIDGE, refine=wishes, top_k=4)
    assert FakeEngine.asked == ["rewrite,multi_query,hyde,decompose,step_back"]
    [refine] = stages(found, "refine")
    assert [each["technique"] for each in refine["notes"]["searches"]] == [
        "question",
        "decompose",
        "decompose",
        "step_back",
        "hyde",
    ]
    assert [stage["notes"].get("technique") for stage in stages(found, "retrieve")] == [
        None,
        "decompose",
        "decompose",
        "step_back",
        "hyde",
    ]
    assert "parking.md" in names(found)[:3]  # a part has its share of the passages


def test_a_translation_is_searched_only_if_documents_are_in_the_other_language(service: Running) -> None:
    FakeEngine.words = {"translate": "How long is parental leave?"}
    found = search(service, "育儿假多长？", refine={"translate": True})
    assert names(found)[0] == "leave.md"
    assert "translate" in [stage["notes"].get("technique") for stage in stages(found, "retrieve")]
    assert stages(search(service, "How long is it?", refine={"translate": True}), "refine") == []
    assert FakeEngine.asked == ["translate"]


def test_a_search_in_rounds_asks_on_until_the_judge_has_enough(service: Running) -> None:
    FakeEngine.words = {
        "enough": [False, True],
        "next_question": ["Where was Mary Smith born?", ""],
    }
    found = search(service, BRIDGE, refine={"rounds": 4}, top_k=2)
    assert [stage["notes"]["enough"] for stage in stages(found, "judge")] == [False, True]
    assert [stage["notes"].get("question") for stage in stages(found, "retrieve")] == [
        None,
        "Where was Mary Smith born?",
    ]
    assert set(names(found)) == {"acme.md", "smith.md"}


def test_the_rounds_are_a_budget(service: Running) -> None:
    FakeEngine.words = {
        "enough": [False] * 3,
        "next_question": ["Who is Mary Smith?", "What did she study?", "Where does she live?"],
    }
    found = search(service, BRIDGE, refine={"rounds": 2})
    assert len(stages(found, "judge")) == 1
    assert len(stages(found, "retrieve")) == 2


def test_the_seconds_are_a_budget(service: Running) -> None:
    answer = service.ask("facts", BRIDGE, trace=True, refine={"rounds": 3, "seconds": 0.001})
    assert answer["degraded"] == ["judge: no time left after 1 rounds"]
    assert len(stages(answer, "retrieve")) == 1


def test_every_step_is_an_event_of_the_stream(service: Running) -> None:
    FakeEngine.words = {"enough": [False], "next_question": ["Where was Mary Smith born?"]}
    body = {"question": BRIDGE, "stream": True, "refine": {"rounds": 2}}
    with service.client.stream("POST", "/kbs/facts/ask", json=body) as response:
        lines = [line for line in response.iter_lines() if line]
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events[:2] == ["step", "step"]
    assert events[-1] == "done"
    steps = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")][:2]
    assert steps[0]["enough"] is False
    assert steps[0]["next_question"] == steps[1]["question"] == "Where was Mary Smith born?"
    assert steps[1]["enough"] is None


def test_an_openai_client_gets_the_answer_without_the_steps(service: Running) -> None:
    FakeEngine.words = {"enough": [True], "next_question": [""]}
    body = {
        "model": "kb:facts",
        "messages": [{"role": "user", "content": BRIDGE}],
        "retrieval": {"refine": {"rounds": 2}},
    }
    address = str(service.client.base_url).removesuffix("/").removesuffix("/api/v1")
    response = service.client.post(f"{address}/v1/chat/completions", json=body)
    response.raise_for_status()
    assert "Lisbon" in response.json()["choices"][0]["message"]["content"]
    assert FakeEngine.asked == ["enough,next_question", "answer"]


def test_a_knowledge_base_refines_until_a_request_says_otherwise(service: Running) -> None:
    service.client.patch("/kbs/facts", json={"refine": {"step_back": True}}).raise_for_status()
    try:
        assert service.client.get("/kbs/facts").json()["refine"]["step_back"] is True
        FakeEngine.words = {"step_back": "Who is the founder of Acme?"}
        assert len(stages(search(service, BRIDGE), "refine")) == 1
        assert stages(search(service, BRIDGE, refine={"step_back": False}), "refine") == []
    finally:
        service.client.patch("/kbs/facts", json={"refine": {}}).raise_for_status()


def test_without_a_model_the_answer_says_what_was_left_out(service: Running) -> None:
    service.client.patch(
        "/kbs/facts", json={"llms": dict.fromkeys(("answer", "rewrite", "judge"), "quotes")}
    ).raise_for_status()
    try:
        both = "Who founded Acme? When does the garage open?"
        wishes = {"hyde": True, "decompose": True, "rounds": 3}
        answer = service.ask("facts", both, trace=True, refine=wishes)
        found = search(service, both, refine={"decompose": True}, top_k=2)
    finally:
        service.client.patch("/kbs/facts", json={"llms": None}).raise_for_status()
    assert answer["degraded"] == [
        "refine: hyde needs a language model that follows instructions (stages.rewrite)",
        "judge: more than one round needs a language model that follows instructions (stages.judge)",
    ]
    assert len(stages(answer, "retrieve")) == 3
    assert set(names(found)) == {"acme.md", "parking.md"}


def test_an_imagined_passage_does_not_make_a_question_answerable(service: Running) -> None:
    FakeEngine.words = {"hyde": "Parental leave is 16 weeks long and is paid in full."}
    answer = service.ask("facts", "Wie hoch ist der Eiffelturm?", refine={"hyde": True})
    assert answer["found"] is False


def test_a_model_that_fails_is_left_out_and_named(service: Running) -> None:
    FakeEngine.words = {"hyde": 5}  # no text
    answer = service.ask("facts", "How long is parental leave?", refine={"hyde": True})
    assert answer["found"] is True
    assert answer["degraded"][0].startswith("refine: ")
