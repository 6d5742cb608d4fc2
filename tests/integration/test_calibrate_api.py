"""Calibrating a knowledge base over real HTTP and with the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running_service import Running

FACTS = {
    "laptop": "three years",
    "badge": "two weeks",
    "bicycle": "ninety days",
    "projector": "one afternoon",
    "umbrella": "a rainy day",
    "drill": "four hours",
    "ladder": "one morning",
    "camera": "five days",
    "van": "a weekend",
    "tent": "ten nights",
}
ANSWERABLE = [
    text.format(thing)
    for thing in FACTS
    for text in ("How long may the {} be borrowed?", "Where must the {} be returned to?")
]
UNANSWERABLE = ["What is the best pizza recipe?", "Who won the battle of Waterloo?", "红烧肉怎么做？"]
QUESTIONS = [
    *({"question": question} for question in ANSWERABLE),
    *({"question": question, "answerable": False} for question in UNANSWERABLE),
]


@pytest.fixture(scope="module")
def kb(service: Running) -> str:
    service.new_kb("lending")
    files = {
        f"{thing}.md": f"# The {thing}\n\nThe {thing} may be borrowed for {time}. It must be returned to desk {n}.\n"
        for n, (thing, time) in enumerate(FACTS.items())
    }
    service.upload("lending", files)
    service.work()
    return "lending"


def settings(service: Running, kb: str) -> dict[str, Any]:
    ((found,),) = service.rows("SELECT settings FROM knowledge_bases WHERE name = %s", kb)
    assert isinstance(found, dict)
    return found


def test_questions_give_a_threshold_and_nothing_is_changed(service: Running, kb: str) -> None:
    before = settings(service, kb)
    response = service.client.post(f"/kbs/{kb}/calibrate", json={"questions": QUESTIONS})
    assert response.status_code == 200, response.text
    result = response.json()
    assert (result["answerable"], result["unanswerable"]) == (20, 3)
    assert result["answerable_refused"] <= 5
    assert result["unanswerable_refused"] == 100
    assert result["auc"] == 100
    assert result["rule_answerable_refused"] == 0
    assert result["rule_unanswerable_refused"] == 66.7
    assert result["note"] is None
    strengths = [each["strength"] for each in result["weakest"]]
    assert len(strengths) == 10
    assert strengths == sorted(strengths)
    assert strengths[0] <= result["threshold"] <= strengths[1], "one of twenty may be lost"
    assert {each["question"] for each in result["weakest"]} <= set(ANSWERABLE)
    assert not result["saved"]
    assert settings(service, kb) == before


def test_a_saved_threshold_stands_beside_the_other_settings(service: Running, kb: str) -> None:
    service.client.patch(f"/kbs/{kb}", json={"structure": {"neighbours": False}}).raise_for_status()
    before = settings(service, kb)
    body = {"questions": QUESTIONS, "lose": 0, "save": True}
    result = service.client.post(f"/kbs/{kb}/calibrate", json=body).json()
    assert result["saved"]
    assert result["answerable_refused"] == 0
    assert settings(service, kb) == {**before, "ranking": {"least_strength": result["threshold"]}}


def test_a_question_that_is_repeated_counts_once(service: Running, kb: str) -> None:
    url = f"/kbs/{kb}/calibrate"
    repeated = [*QUESTIONS, {"question": f" {ANSWERABLE[0]}"}, QUESTIONS[-1]]
    once, twice = (service.client.post(url, json={"questions": q}).json() for q in (QUESTIONS, repeated))
    assert once == twice
    padded = [*QUESTIONS[1:], *QUESTIONS[1:]]
    assert service.client.post(url, json={"questions": padded}).status_code == 422
    both = [*QUESTIONS, {"question": ANSWERABLE[0], "answerable": False}]
    response = service.client.post(url, json={"questions": both})
    assert response.status_code == 422
    assert ANSWERABLE[0] in response.json()["detail"]


def test_what_calibration_says_of_the_rule_is_what_questions_get(service: Running, kb: str) -> None:
    service.client.patch(f"/kbs/{kb}", json={"ranking": {}}).raise_for_status()
    refused = sum(not service.ask(kb, question)["found"] for question in UNANSWERABLE)
    body = {"questions": QUESTIONS}
    result = service.client.post(f"/kbs/{kb}/calibrate", json=body).json()
    assert result["rule_unanswerable_refused"] == round(100 * refused / len(UNANSWERABLE), 1)


def test_too_few_answerable_questions_are_refused_in_words(service: Running, kb: str) -> None:
    response = service.client.post(f"/kbs/{kb}/calibrate", json={"questions": QUESTIONS[1:]})
    assert response.status_code == 422
    assert "at least 20 answerable questions; these are 19" in response.json()["detail"]
    assert response.json()["hint"]


def test_a_knowledge_base_without_documents_has_no_threshold(service: Running) -> None:
    service.new_kb("bare")
    response = service.client.post("/kbs/bare/calibrate", json={"questions": QUESTIONS})
    assert response.status_code == 422
    assert "Nothing was found" in response.json()["detail"]


def test_an_unknown_knowledge_base_is_not_there(service: Running) -> None:
    assert service.client.post("/kbs/absent/calibrate", json={"questions": QUESTIONS}).status_code == 404


def test_readers_may_not_calibrate(service: Running, kb: str) -> None:
    key = service.client.post("/keys", json={"name": "calibrating reader"}).json()["key"]
    with service.as_(key) as reader:
        assert reader.post(f"/kbs/{kb}/calibrate", json={"questions": QUESTIONS}).status_code == 403


def test_the_command_prints_threshold_and_weakest_questions(
    service: Running, kb: str, tmp_path: Path
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS), encoding="utf-8")
    result = service.command("kb", "calibrate", kb, str(file))
    assert result.exit_code == 0, result.output
    assert "100.0 % of 3 unanswerable ones (AUC 100.0)" in result.output
    assert "rule alone refuses 0.0 % of the answerable questions, 66.7 % of the unanswerable" in result.output
    assert "--save keeps it" in result.output
    saved = service.command("kb", "calibrate", kb, str(file), "--lose", "0", "--save", "--json")
    threshold = json.loads(saved.stdout)["threshold"]
    assert settings(service, kb)["ranking"]["least_strength"] == threshold


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"answerable": true}', '{"question": "a", "answerable": 1}']
)
def test_a_line_without_a_question_is_named(service: Running, kb: str, tmp_path: Path, line: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(f'{{"question": "a"}}\n{line}\n', encoding="utf-8")
    wrong = service.command("kb", "calibrate", kb, str(file))
    assert wrong.exit_code == 1
    assert "line 2" in wrong.output
