"""Tuning a knowledge base over real HTTP and with the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running_service import Running
from typer.testing import CliRunner

from rag_service.cli import app

HANDBOOK = """# Leave

Annual leave is ten days for every employee of the company. Sick leave needs a note of a doctor on the third day.

# Travel

Trips are booked by the travel desk, and flights go in economy class only. Receipts are handed in within thirty days.
"""


def events(service: Running, kb: str, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    found, name = [], ""
    with service.client.stream("POST", f"/kbs/{kb}/tune", json=body) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


@pytest.fixture(scope="module")
def kb(service: Running) -> str:
    service.new_kb("tuned")
    service.upload("tuned", {"handbook.md": HANDBOOK})
    service.work()
    return "tuned"


SMALL = {"strategy": "parent-child", "characters": 100, "child_characters": 30}


def test_candidates_are_measured_one_by_one_and_ranked(service: Running, kb: str) -> None:
    before = service.client.get(f"/kbs/{kb}").json()
    (start, first), *measured, (done, result) = events(service, kb, candidates=[{}, SMALL], seconds=120)
    assert (start, first) == ("start", {"documents": 1, "questions": 4, "questions_by": "cloze"})
    assert [name for name, _ in measured] == ["measured", "measured"]
    assert done == "done"
    assert result["best"] == result["candidates"][0]["chunking"]
    assert result["current"] == before["chunking"]
    assert result["candidates"][0]["support"] >= result["candidates"][1]["support"]
    assert service.client.get(f"/kbs/{kb}").json() == before, "nothing is changed"


def test_questions_of_one_s_own_are_used(service: Running, kb: str) -> None:
    questions = [{"question": "How long is leave?", "evidence": "ten days"}]
    (_, start), (_, measured), _ = events(service, kb, questions=questions, candidates=[{}], seconds=60)
    assert (start["questions"], start["questions_by"]) == (1, "you")
    assert (measured["support"], measured["mrr"]) == (1.0, 1.0)


def test_of_candidates_that_find_nothing_none_is_best(service: Running, kb: str) -> None:
    questions = [{"question": "How long is leave?", "evidence": "stands nowhere"}]
    *_, (_, result) = events(service, kb, questions=questions, candidates=[{}], seconds=60)
    assert result["best"] is None


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("tuned", {"questions": [{"question": "What?"}]}, 422),
        ("tuned", {"candidates": [{"strategy": "magic"}]}, 422),
        ("tuned", {"seconds": 1}, 422),
        ("default", {}, 422),
        ("absent", {}, 404),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_any_work(
    service: Running, kb: str, name: str, body: dict[str, Any], status: int
) -> None:
    assert service.client.post(f"/kbs/{name}/tune", json=body).status_code == status


def test_the_command_prints_a_table_and_how_to_apply_the_best(
    service: Running, kb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_URL", service.url)
    monkeypatch.setenv("RAG_API_KEY", service.admin_key)
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "How long is leave?", "answer": "ten days"}\n', encoding="utf-8")
    arguments = ["kb", "tune", kb, "--questions", str(questions), "--candidate", json.dumps(SMALL)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 documents, 1 questions (yours)" in result.output
    apply = "--strategy parent-child --characters 100 --with child_characters=30 --reread"
    assert f"rag-service kb chunking tuned {apply}" in result.output
    questions.write_text('{"question": "a", "evidence": "b"}\nnonsense\n', encoding="utf-8")
    wrong = CliRunner().invoke(app, arguments)
    assert wrong.exit_code == 1
    assert "line 2" in wrong.output
