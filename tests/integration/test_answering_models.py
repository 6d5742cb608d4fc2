"""Do models, sampling parameters and answer modes do what a request, a knowledge base or the settings say?

With the real service and a real llama.cpp. The models are one tiny base model: asserted is what was asked of it and
what became of its text, never what it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from chat_weights import chat_weights
from openai import OpenAI, UnprocessableEntityError
from running_service import Running, running_service

from models.llm.demo_model import demo_model

CACHE = Path.home() / ".cache" / "rag-service-tests"
QUESTION = "How many weeks is parental leave, and who pays for it?"
HANDBOOK = "# Leave\n\nParental leave is 16 weeks. The company pays for all of it.\n"
OTHERS = {
    f"office-{n}.md": f"# Office {n}\n\nParental leave in office {n} is {n + 10} weeks, and the state pays for it. "
    + "The office opens at eight. " * 34
    for n in range(4)
}


@pytest.fixture(scope="module")
def service(
    new_database: Callable[[], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    chat, base = str(chat_weights(CACHE)), str(demo_model(CACHE).path)
    variables = {
        "RAG_LLM__KIND": "llama-cpp",
        "RAG_LLM__MODEL_PATH": chat,
        "RAG_LLM__CONTEXT_TOKENS": "768",
        "RAG_LLM__MAX_NEW_TOKENS": "24",
        "RAG_LLMS__BASE__KIND": "llama-cpp",
        "RAG_LLMS__BASE__MODEL_PATH": base,
        "RAG_LLMS__BASE__PROMPT_STYLE": "completion",
        "RAG_LLMS__BASE__CONTEXT_TOKENS": "2048",
        "RAG_LLMS__QUOTES__KIND": "extractive",
        "RAG_INGEST__CHUNK_CHARACTERS": "400",  # five passages are more than the context
    }
    with (
        new_database() as url,
        running_service(url, tmp_path_factory.mktemp("data"), **variables) as running,
    ):
        running.new_kb("handbook")
        running.upload("handbook", {"handbook.md": HANDBOOK, **OTHERS})
        running.work()
        yield running


@pytest.fixture
def kb(service: Running) -> Iterator[Callable[..., None]]:
    """Changes the knowledge base; afterwards it is as the service is set again."""
    yield lambda **changes: service.client.patch("/kbs/handbook", json=changes).raise_for_status()
    service.client.patch(
        "/kbs/handbook", json={"llms": None, "params": None, "answer_mode": None}
    ).raise_for_status()


def ask(service: Running, **options: Any) -> dict[str, Any]:
    return service.ask("handbook", QUESTION, trace=True, **options)


def refusal(service: Running, path: str, body: dict[str, Any], method: str = "POST") -> dict[str, Any]:
    response = service.client.request(method, path, json=body)
    assert response.status_code == 422, response.text
    problem: dict[str, Any] = response.json()
    return problem


def stages(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [stage for stage in answer["trace"] if stage["stage"] == name]


def test_a_requests_parameters_reach_the_engine_and_those_not_set_are_the_settings(service: Running) -> None:
    assert ask(service)["usage"]["completion_tokens"] == 24
    short = ask(service, params={"max_new_tokens": 3})
    assert (short["usage"]["completion_tokens"], short["finish_reason"]) == (3, "length")
    seeded = [
        ask(service, params={"temperature": 1.5, "top_k": 50, "seed": seed})["answer"] for seed in (1, 2, 2)
    ]
    assert seeded[0] != seeded[1]
    assert seeded[1] == seeded[2]


def test_a_parameter_that_the_engine_lacks_is_refused_and_the_engines_that_have_it_are_named(
    service: Running,
) -> None:
    body = {"question": QUESTION, "params": {"num_beams": 4}}
    problem = refusal(service, "/kbs/handbook/ask", body)
    assert problem["detail"] == "llama.cpp has no parameter num_beams."
    assert problem["hint"] == "Engines that have it (llm.kind): vllm, rtp-llm."
    problem = refusal(service, "/kbs/handbook/ask", {**body, "stream": True})  # before the stream begins
    assert "num_beams" in problem["detail"]


def test_an_answer_longer_than_the_context_is_refused(service: Running) -> None:
    body = {"question": QUESTION, "params": {"max_new_tokens": 1000}}
    assert "768 tokens" in refusal(service, "/kbs/handbook/ask", body)["detail"]


def test_temperature_and_top_p_together_give_a_warning(service: Running) -> None:
    both = ask(service, params={"temperature": 0.5, "top_p": 0.9, "max_new_tokens": 2})
    assert both["warnings"] == ["temperature and top_p are both set: change one and leave the other."]
    assert ask(service, params={"temperature": 0.5, "max_new_tokens": 2})["warnings"] == []


def test_a_knowledge_base_has_parameters_of_its_own_and_a_request_others(
    service: Running, kb: Callable[..., None]
) -> None:
    kb(params={"max_new_tokens": 2})
    assert service.client.get("/kbs/handbook").json()["params"]["max_new_tokens"] == 2
    assert ask(service)["usage"]["completion_tokens"] == 2
    assert ask(service, params={"max_new_tokens": 4})["usage"]["completion_tokens"] == 4
    kb(description="The handbook.")  # what is not named stays
    assert ask(service)["usage"]["completion_tokens"] == 2


def test_a_knowledge_base_chooses_its_language_model(service: Running, kb: Callable[..., None]) -> None:
    kb(llms={"answer": "quotes"})
    quoted = ask(service)
    assert quoted["model"] == "extractive (no language model)"
    assert "16 weeks" in quoted["answer"]
    kb(llms={"rewrite": "quotes"})
    assert ask(service)["model"].startswith("llama.cpp gemma")


def test_what_a_knowledge_base_could_not_answer_with_is_refused_when_it_is_set(service: Running) -> None:
    unknown = refusal(service, "/kbs/handbook", {"llms": {"answer": "big"}}, "PATCH")
    assert unknown["detail"] == "There is no language model named 'big' (answer)."
    assert unknown["hint"] == "There are: default, base, quotes."
    lacking = refusal(service, "/kbs", {"name": "x", "params": {"num_beams": 2}})
    assert "no parameter num_beams" in lacking["detail"]
    quoting = {"llms": {"answer": "quotes"}}
    assert (
        "needs a language model"
        in refusal(service, "/kbs/handbook", {**quoting, "answer_mode": "refine"}, "PATCH")["detail"]
    )
    assert (
        "base model"
        in refusal(service, "/kbs/handbook", {"llms": {"answer": "base"}, "answer_mode": "refine"}, "PATCH")[
            "detail"
        ]
    )
    assert service.client.get("/kbs/handbook").json()["llms"] == {}
    assert service.client.get("/kbs/x").status_code == 404


def test_a_knowledge_base_chooses_who_writes_its_summaries(service: Running) -> None:
    def summary(name: str) -> str:
        service.work()
        [document] = service.client.get(f"/kbs/{name}/documents").json()["items"]
        return str(document["summary"])

    def first_summary(name: str, **options: Any) -> str:
        service.client.post("/kbs", json={"name": name, **options}).raise_for_status()
        service.upload(name, {"handbook.md": HANDBOOK})
        return summary(name)

    # The settings leave it to sentence selection, as the only models here are embedded.
    selected = "Leave Parental leave is 16 weeks. The company pays for all of it."
    assert first_summary("open") == selected
    assert first_summary("quoting", llms={"summarise": "quotes"}) == selected
    assert first_summary("writing", llms={"summarise": "default"}) != selected
    service.client.patch("/kbs/open", json={"llms": {"summarise": "default"}}).raise_for_status()
    service.client.post("/kbs/open/reread").raise_for_status()
    assert summary("open") != selected


def test_a_base_model_is_refused_for_summaries(service: Running) -> None:
    problem = refusal(service, "/kbs", {"name": "x", "llms": {"summarise": "base"}})
    assert "is a base model and cannot be told to summarise" in problem["detail"]
    unknown = refusal(service, "/kbs", {"name": "x", "llms": {"summarise": "big"}})
    assert unknown["detail"] == "There is no language model named 'big' (summarise)."


def test_openais_parameters_are_used_and_those_that_the_engine_lacks_are_named(
    service: Running, kb: Callable[..., None]
) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    with OpenAI(base_url=service.url + "/v1", api_key=service.admin_key, max_retries=0) as client:

        def chat(**options: Any) -> Any:
            return client.chat.completions.create(model="kb:handbook", messages=messages, **options)

        assert chat(max_tokens=3, presence_penalty=0.1).usage.completion_tokens == 3
        assert chat(extra_body={"params": {"max_new_tokens": 5}}).usage.completion_tokens == 5
        with pytest.raises(UnprocessableEntityError, match="num_beams"):
            chat(extra_body={"params": {"num_beams": 5}})
        with pytest.raises(UnprocessableEntityError, match="temperature"):
            chat(temperature=3)
        kb(llms={"answer": "quotes"})
        [warning] = chat(temperature=0.5).warnings
        assert warning == "extractive (no language model) has no parameter temperature: it was not used."
        *_, last, _ = chat(temperature=0.5, stream=True, stream_options={"include_usage": True})
        assert last.warnings == [warning]


def test_passages_beyond_the_context_are_dropped_and_the_trace_says_so(service: Running) -> None:
    answer = ask(service, params={"max_new_tokens": 12}, top_k=5)
    [prompt], [compress] = stages(answer, "prompt"), stages(answer, "compress")
    assert prompt["notes"]["room"] == 756
    assert prompt["notes"]["counted_by"] == "tokenizer"
    # The engine read exactly what was counted.
    assert stages(answer, "generate")[0]["notes"]["prompt_tokens"] == prompt["notes"]["tokens"] <= 756
    assert compress["notes"]["dropped_characters"] > 100
    whole = ask(service, top_k=1)
    assert stages(whole, "compress")[0]["notes"] == {"dropped_passages": 0, "dropped_characters": 0}


def test_a_real_model_ranks_the_passages_and_says_which_sentences_stay(service: Running) -> None:
    """What a small model chooses is its own affair; that it can be asked and its answer be used is ours."""
    ranked = ask(service, top_k=3, ranking={"reranker": "llm"})
    assert (ranked["found"], ranked["degraded"]) == (True, [])
    assert stages(ranked, "rerank")[0]["outputs"] == 5
    cut = ask(service, top_k=3, ranking={"compression": "llm", "passage_tokens": 150})
    assert (cut["found"], cut["degraded"]) == (True, [])
    assert stages(cut, "compress")[0]["notes"]["dropped_characters"] > 100


def test_a_question_that_leaves_no_room_is_refused_with_the_numbers(service: Running) -> None:
    question = "How many weeks is parental leave? " + "It matters to me. " * 200
    problem = refusal(service, "/kbs/handbook/ask", {"question": question})
    assert "has room for 744" in problem["detail"]


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        ("stuff", ["answer"]),
        ("refine", ["answer", "refine", "refine", "refine", "refine"]),
        ("tree_summarize", ["summarise", "summarise", "answer"]),
        ("map_reduce", ["answer", "answer", "answer", "join"]),
    ],
)
def test_each_mode_asks_the_model_as_it_should_and_streams_what_it_says_in_the_end(
    service: Running, mode: str, parts: list[str]
) -> None:
    options: dict[str, Any] = {"answer_mode": mode, "top_k": 5, "params": {"max_new_tokens": 12}}
    plain = ask(service, **options)
    assert [stage["notes"]["part"] for stage in stages(plain, "prompt")] == parts
    assert len(stages(plain, "step")) == len(parts) - 1
    assert all(stage["notes"]["tokens"] <= stage["notes"]["room"] for stage in stages(plain, "prompt"))
    generate = stages(plain, "generate")
    assert len(generate) == 1
    assert (len(parts) > 1) == (plain["usage"]["prompt_tokens"] > generate[0]["notes"]["prompt_tokens"])

    body = {"question": QUESTION, "stream": True, **options}
    with service.client.stream("POST", "/kbs/handbook/ask", json=body) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    deltas = [data["text"] for data in events if set(data) == {"text"}]
    assert "".join(deltas) == events[-1]["answer"]
    assert len(deltas) > 1
    for citation in plain["citations"]:
        assert citation["quote"] in HANDBOOK + "".join(OTHERS.values())


def test_the_settings_may_name_another_mode(service: Running, kb: Callable[..., None]) -> None:
    kb(answer_mode="refine")
    assert len(stages(ask(service, top_k=2), "prompt")) == 2
    assert len(stages(ask(service, top_k=2, answer_mode="stuff"), "prompt")) == 1


@pytest.mark.parametrize("content", ["", " ", "\n\u3000\t", [{"type": "text", "text": "  "}]])
def test_a_blank_question_is_refused_under_v1_too(service: Running, content: Any) -> None:
    with (
        OpenAI(base_url=service.url + "/v1", api_key=service.admin_key, max_retries=0) as client,
        pytest.raises(UnprocessableEntityError, match="must be a user's question"),
    ):
        client.chat.completions.create(model="kb:handbook", messages=[{"role": "user", "content": content}])


def test_an_admin_sees_the_models_and_how_fast_they_are(service: Running) -> None:
    items = service.client.get("/models", params={"test": True}).json()["items"]
    models = {item["name"]: item for item in items}
    assert list(models) == ["default", "base", "quotes"]
    assert models["default"]["stages"] == ["answer", "rewrite", "judge", "rerank", "summarise"]
    assert all(item["reachable"] for item in items)
    assert models["default"]["tokens_per_s"] > 0
    assert models["quotes"]["tokens_per_s"] is None
    assert "top_k" in models["default"]["parameters"]
    assert service.client.get("/models").json()["items"][0]["first_token_ms"] is None
    key = service.client.post("/keys", json={"name": "reader"}).json()["key"]
    reader = {"Authorization": f"Bearer {key}"}
    assert service.client.get("/models", headers=reader).status_code == 403
