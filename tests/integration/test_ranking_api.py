"""What becomes of what was found, through the API: who ranks it, what is left out, cut, ordered and refused.

The language model is a fake server whose words are laid down; everything else is real.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from fake_engine import FakeEngine, fake_engine
from running_service import Running, running_service

QUESTION = "How long is parental leave?"
LEAVE = "Parental leave is 16 weeks long and is paid in full. It can be taken until the child is three years old.\n"
DOCUMENTS = {
    "leave.md": f"# Leave\n\n{LEAVE}",
    "leave-again.md": f"# Leave\n\n{LEAVE.replace(' paid ', chr(10) + 'paid ')}",
    "leave-2019.md": f"# Leave\n\n{LEAVE.replace('16', '12')}",
    "sabbatical.md": "# Sabbatical\n\nA sabbatical is six months long. It is leave without pay.\n",
    "parking.md": "# Parking\n\nThe garage opens at seven in the morning.\n",
}


@pytest.fixture(scope="module")
def service(
    new_database: Callable[[], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with (
        fake_engine() as engine,
        new_database() as url,
        running_service(
            url,
            tmp_path_factory.mktemp("data"),
            RAG_LLM__KIND="openai",
            RAG_LLM__URL=engine,
            RAG_LLM__MODEL="fake",
            RAG_LLMS__QUOTES__KIND="extractive",
        ) as running,
    ):
        running.new_kb("rules")
        running.upload("rules", DOCUMENTS)
        running.work()
        yield running


@pytest.fixture(autouse=True)
def silence(service: Running) -> Iterator[None]:
    FakeEngine.forget()
    yield
    everything = {"ranking": {}, "llms": {}}
    service.client.patch("/kbs/rules", json=everything).raise_for_status()


def search(service: Running, query: str = QUESTION, **ranking: Any) -> dict[str, Any]:
    body = {"query": query, "trace": True, "structure": {"neighbours": False}, "ranking": ranking}
    response = service.client.post("/kbs/rules/search", json=body)
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def ask(service: Running, question: str = QUESTION, **ranking: Any) -> dict[str, Any]:
    return service.ask("rules", question, trace=True, ranking=ranking)


def names(found: dict[str, Any]) -> list[str]:
    return [passage["document_name"] for passage in found["passages"]]


def stage(answer: dict[str, Any], name: str) -> dict[str, Any]:
    [only] = [stage for stage in answer["trace"] if stage["stage"] == name]
    return dict(only)


def test_a_passage_that_repeats_a_better_one_is_left_out_but_not_one_with_another_number(
    service: Running,
) -> None:
    answer = ask(service)
    assert FakeEngine.prompts[-1].count("16 weeks") == FakeEngine.prompts[-1].count("12 weeks") == 1
    assert stage(answer, "select")["notes"] == {"repeated": 1}
    ask(service, distinct=False)
    assert FakeEngine.prompts[-1].count("16 weeks") == 2


def test_a_search_shows_every_place_unless_it_is_told_not_to(service: Running) -> None:
    assert {"leave.md", "leave-again.md"} < set(names(search(service)))
    found = search(service, distinct=True)
    assert len({"leave.md", "leave-again.md"} & set(names(found))) == 1
    assert "leave-2019.md" in names(found)


def test_a_language_model_may_rank_what_was_found(service: Running) -> None:
    as_usual = names(search(service))
    FakeEngine.words = {"numbers": [3, 99, 3]}
    found = search(service, reranker="llm")
    assert FakeEngine.asked == ["numbers"]
    shown = FakeEngine.prompts[0].index("[3]\n")
    third = next(
        name for name in DOCUMENTS if DOCUMENTS[name].splitlines()[2] in FakeEngine.prompts[0][shown:]
    )
    assert DOCUMENTS[names(found)[0]].splitlines()[2] == DOCUMENTS[third].splitlines()[2]
    assert sorted(names(found)) == sorted(as_usual)


def test_a_reranker_that_is_not_there_is_named_and_the_default_ranks(service: Running) -> None:
    as_usual = names(search(service))
    response = service.client.post(
        "/kbs/rules/ask", json={"question": QUESTION, "ranking": {"reranker": "model"}}
    )
    assert response.json()["degraded"] == ["rerank: model needs a rerank model (reranker.kind)"]
    service.client.patch("/kbs/rules", json={"llms": {"rerank": "quotes"}}).raise_for_status()
    assert ask(service, reranker="llm")["degraded"] == [
        "rerank: llm needs a language model that follows instructions (stages.rerank)"
    ]
    assert names(search(service, reranker="llm")) == as_usual


def test_a_search_names_the_reranker_that_is_not_there(service: Running) -> None:
    missing = "rerank: model needs a rerank model (reranker.kind)"
    assert search(service)["degraded"] == []
    assert search(service, reranker="model")["degraded"] == [missing]
    body = {"query": QUESTION, "kbs": ["rules"], "ranking": {"reranker": "model"}}
    assert service.client.post("/search", json=body).json()["degraded"] == [missing]
    service.client.patch("/kbs/rules", json={"ranking": {"reranker": "model"}}).raise_for_status()
    assert f"Searched without {missing}" in service.command("search", "--kb", "rules", QUESTION).output


def test_null_takes_a_knowledge_base_back_to_the_defaults(service: Running) -> None:
    before = service.client.get("/kbs/rules").json()
    service.client.patch("/kbs/rules", json={"ranking": {"diversity": 0.5}, "structure": {"links": False}})
    assert service.client.get("/kbs/rules").json() != before
    service.client.patch("/kbs/rules", json={"description": ""}).raise_for_status()
    assert service.client.get("/kbs/rules").json() != before  # what is not said stays
    service.client.patch("/kbs/rules", json={"ranking": None, "structure": None}).raise_for_status()
    assert service.client.get("/kbs/rules").json() == before


def test_without_a_reranker_the_order_is_that_of_the_search(service: Running) -> None:
    scores = [passage["score"] for passage in search(service, reranker="none")["passages"]]
    assert scores == sorted(scores, reverse=True)
    assert scores != [passage["score"] for passage in search(service)["passages"]]


def test_the_model_reads_the_best_at_both_ends_or_first(service: Running) -> None:
    ranked = [passage["text"] for passage in search(service, distinct=True)["passages"]]

    def read(order: str) -> list[int]:
        FakeEngine.forget()
        ask(service, order=order)
        places = [FakeEngine.prompts[0].index(text) for text in ranked]
        return [places.index(place) for place in sorted(places)]

    assert read("best_first") == list(range(len(ranked)))
    ends = read("ends")
    assert (ends[0], ends[-1]) == (0, 1)


def test_passages_have_at_most_the_tokens_that_are_given_to_them(service: Running) -> None:
    whole, short = ask(service), ask(service, passage_tokens=60)
    assert stage(whole, "compress")["notes"] == {"dropped_passages": 0, "dropped_characters": 0}
    assert stage(short, "compress")["notes"]["dropped_characters"] > 50
    saved = stage(whole, "prompt")["notes"]["tokens"] - stage(short, "prompt")["notes"]["tokens"]
    assert saved > 30
    assert "16 weeks" in FakeEngine.prompts[1]


def test_a_language_model_may_say_which_sentences_stay(service: Running) -> None:
    unrelated = "The garage opens at seven in the morning."
    ask(service, passage_tokens=60)
    assert unrelated not in FakeEngine.prompts[-1]
    FakeEngine.words = {
        "numbers": lambda prompt: [int(n) for n in re.findall(rf"\[(\d+)\] {unrelated}", prompt)]
    }
    answer = ask(service, passage_tokens=60, compression="llm")
    assert FakeEngine.asked == ["answer", "numbers", "answer"]
    assert unrelated in FakeEngine.prompts[-1]
    assert answer["degraded"] == []


def test_whole_passages_go_where_nothing_may_be_cut(service: Running) -> None:
    answer = ask(service, passage_tokens=60, compression="none")
    assert stage(answer, "compress")["outputs"] < len(search(service)["passages"])
    assert "…" not in FakeEngine.prompts[-1]


def test_a_question_about_something_else_is_refused_unless_refusal_is_off(service: Running) -> None:
    question = "Which quarterback won the Super Bowl in 2015?"
    assert ask(service, question)["found"] is False
    assert FakeEngine.asked == []
    ask(service, question, refuse=False)
    assert FakeEngine.asked == ["answer"]


def test_a_knowledge_base_may_ask_for_more_strength(service: Running) -> None:
    service.client.patch("/kbs/rules", json={"ranking": {"least_strength": 1.0}}).raise_for_status()
    assert service.client.get("/kbs/rules").json()["ranking"]["least_strength"] == 1.0
    assert ask(service)["found"] is False
    assert ask(service, least_strength=-1.0)["found"] is True


def test_a_chinese_question_is_compared_with_english_sentences_unless_that_is_off(service: Running) -> None:
    question = "育儿假有多长？"
    assert stage(search(service, question), "sentences")["outputs"] >= 6
    assert not [s for s in search(service, question, sentences=False)["trace"] if s["stage"] == "sentences"]
    assert not [s for s in search(service)["trace"] if s["stage"] == "sentences"]


@pytest.mark.parametrize(
    "wrong", [{"reranker": "best"}, {"diversity": 1.5}, {"passage_tokens": 10}, {"mmr": 0.3}]
)
def test_what_is_no_ranking_is_refused(service: Running, wrong: dict[str, Any]) -> None:
    for method, path, body in (
        ("POST", "/kbs/rules/search", {"query": QUESTION, "ranking": wrong}),
        ("PATCH", "/kbs/rules", {"ranking": wrong}),
    ):
        assert service.client.request(method, path, json=body).status_code == 422


def test_the_document_in_the_other_language_is_found_among_many_in_the_question_s(service: Running) -> None:
    service.new_kb("both")
    chinese = {
        f"制度{n}.md": f"# {what}\n\n{what}由行政部负责，每年{n + 1}月更新一次，全体员工应当遵守。\n"
        for n, what in enumerate(
            ("考勤", "报销", "采购", "印章", "档案", "车辆", "宿舍", "食堂", "会议", "培训", "招聘", "安全")
        )
    }
    english = {
        "leave.md": DOCUMENTS["leave.md"],
        "parking.md": DOCUMENTS["parking.md"],
        "boiler.md": "# Boiler\n\nThe boiler is inspected by the engineer every second spring.\n",
    }
    service.upload("both", chinese | english)
    service.work()
    for question, name in (
        ("育儿假有多少周？", "leave.md"),
        ("车库几点开门？", "parking.md"),
        ("锅炉多久检查一次？", "boiler.md"),
        ("宿舍由谁负责？", "制度6.md"),
        ("When does the garage open?", "parking.md"),
        ("Who is responsible for the dormitory?", "制度6.md"),
    ):
        response = service.client.post("/kbs/both/search", json={"query": question, "top_k": 3})
        assert name in names(response.json()), question


def test_passages_of_every_knowledge_base_are_ranked_whoever_ranks(service: Running) -> None:
    service.new_kb("garage")
    service.upload(
        "garage", {"hours.md": "# Garage\n\nThe garage of the annex opens at nine in the morning.\n"}
    )
    service.work()
    body = {"query": "When does the garage open?", "kbs": ["rules", "garage"], "top_k": 3}
    for reranker in ("coverage", "none"):
        found = service.client.post("/search", json={**body, "ranking": {"reranker": reranker}}).json()
        assert {passage["kb"] for passage in found["passages"]} == {"rules", "garage"}, reranker


def test_modes_that_summarise_do_so_within_the_tokens_that_are_given(service: Running) -> None:
    answer = service.ask(
        "rules", QUESTION, trace=True, answer_mode="tree_summarize", ranking={"passage_tokens": 60}
    )
    assert len([s for s in answer["trace"] if s["stage"] == "step"]) >= 2
