"""Chunking over real HTTP: chosen when a knowledge base is made, previewed, changed, and applied by reading again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from running_service import Running

HANDBOOK = """# Leave

Annual leave is ten days. Sick leave needs a note. Parental leave is 16 weeks.

## Carry over

Five days may be carried over into March. The rest is lost.
"""


def made(service: Running, name: str, **chunking: Any) -> dict[str, Any]:
    response = service.client.post("/kbs", json={"name": name, "chunking": chunking})
    assert response.status_code == 201, response.text
    kb: dict[str, Any] = response.json()
    return kb


def previewed(service: Running, kb: str, **form: Any) -> dict[str, Any]:
    files = {"file": ("handbook.md", HANDBOOK.encode())} if "document_id" not in form else None
    response = service.client.post(f"/kbs/{kb}/preview-chunks", files=files, data=form)
    assert response.status_code == 200, response.text
    preview: dict[str, Any] = response.json()
    return preview


def document(service: Running, kb: str) -> dict[str, Any]:
    [only] = service.client.get(f"/kbs/{kb}/documents").json()["items"]
    found: dict[str, Any] = only
    return found


def test_a_preview_shows_the_chunks_that_an_upload_then_has(service: Running) -> None:
    kb = made(service, "previewed", strategy="parent-child", characters=60, child_characters=20)
    preview = previewed(service, "previewed")
    assert preview["chunking"] == kb["chunking"]
    assert document_count(service, "previewed") == 0
    for chunk in preview["chunks"]:
        assert HANDBOOK[chunk["start"] : chunk["end"]] == chunk["text"]
        assert chunk["parent_start"] <= chunk["start"] < chunk["end"] <= chunk["parent_end"]
        assert chunk["tokens"] > 0
    service.upload("previewed", {"handbook.md": HANDBOOK})
    service.work()
    assert document(service, "previewed")["chunks"] == preview["total"] == len(preview["chunks"])
    stored = previewed(service, "previewed", document_id=document(service, "previewed")["id"])
    assert stored["chunks"] == preview["chunks"]


def document_count(service: Running, kb: str) -> int:
    count: int = service.client.get(f"/kbs/{kb}").json()["documents"]
    return count


def test_a_preview_tries_another_strategy_and_returns_as_many_chunks_as_asked(service: Running) -> None:
    service.new_kb("tried")
    whole = previewed(service, "tried", chunking=json.dumps({"strategy": "heading-tree"}), limit="1")
    assert (whole["total"], len(whole["chunks"])) == (1, 1)
    by_sentence = previewed(service, "tried", chunking=json.dumps({"strategy": "sentence-window"}), limit="2")
    assert by_sentence["total"] > len(by_sentence["chunks"]) == 2
    assert by_sentence["name"].startswith("sentence-window-")


FILE = {"file": ("a.md", b"Text.")}


@pytest.mark.parametrize(
    ("form", "files", "word"),
    [
        ({"chunking": "{"}, FILE, "chunking"),
        ({"chunking": '{"strategy": "magic"}'}, FILE, "strategy"),
        ({"chunking": '{"overlap": 5}'}, FILE, "overlap"),
        ({"document_id": "x"}, FILE, "either"),
        ({"document_id": "x"}, None, "document x"),
        ({"limit": "5"}, None, "either"),
        ({}, {"file": ("a.exe", b"MZ")}, "a.exe"),
    ],
)
def test_a_preview_that_cannot_be_is_refused_in_words(
    service: Running, form: dict[str, str], files: Any, word: str
) -> None:
    response = service.client.post("/kbs/default/preview-chunks", files=files, data=form)
    assert response.status_code in (404, 422), response.text
    assert word in response.json()["detail"]


def test_a_change_of_chunking_is_for_later_uploads_and_reading_again_applies_it(service: Running) -> None:
    made(service, "changed", strategy="sentence")
    service.upload("changed", {"handbook.md": HANDBOOK})
    service.work()
    before = document(service, "changed")["chunks"]
    small = {"strategy": "parent-child", "characters": 100, "child_characters": 20}
    kb = service.client.patch("/kbs/changed", json={"chunking": small}).json()
    assert kb["chunking"]["strategy"] == "parent-child"
    assert document(service, "changed")["chunks"] == before
    assert service.search("changed", "How long is parental leave?")[0]["text"].startswith("# Leave")
    response = service.client.post("/kbs/changed/reread")
    assert (response.status_code, response.json()) == (202, {"documents": 1})
    assert document(service, "changed")["status"] == "queued"
    service.work()
    after = document(service, "changed")
    assert (after["status"], after["chunks"] > before) == ("ready", True)
    as_cut = {"parents": False, "neighbours": False}
    passages = service.search("changed", "parental leave", top_k=50, structure=as_cut)
    found = {passage["text"] for passage in passages}
    assert len(found) == after["chunks"], "chunks of the earlier reading are gone"


def test_a_reader_may_not_preview_nor_read_again(service: Running) -> None:
    service.new_kb("guarded")
    key = service.client.post("/keys", json={"name": "r", "role": "reader"}).json()["key"]
    with service.as_(key) as reader:
        assert reader.post("/kbs/guarded/reread").status_code == 403
        assert reader.post("/kbs/guarded/preview-chunks", data={"document_id": "x"}).status_code == 403


def test_a_child_is_found_and_its_parent_is_the_passage_unless_a_request_says_otherwise(
    service: Running,
) -> None:
    made(service, "parents", strategy="parent-child", characters=100, child_characters=20)
    service.upload("parents", {"handbook.md": HANDBOOK})
    service.work()
    question = "How long is parental leave?"
    whole = service.search("parents", question)
    assert whole[0]["text"] == HANDBOOK[whole[0]["start"] : whole[0]["end"]]
    assert "Annual leave is ten days." in whole[0]["text"]
    child = service.search("parents", question, structure={"parents": False, "neighbours": False})
    assert child[0]["text"] == "Parental leave is 16 weeks."
    service.client.patch("/kbs/parents", json={"structure": {"parents": False, "neighbours": False}})
    assert service.client.get("/kbs/parents").json()["structure"]["parents"] is False
    assert service.search("parents", question) == child
    assert service.search("parents", question, structure={"parents": True, "neighbours": True}) == whole
    answer = service.ask("parents", question, structure={"parents": True}, trace=True)
    assert answer["citations"][0]["quote"] == "Parental leave is 16 weeks."
    [expand] = [stage for stage in answer["trace"] if stage["stage"] == "expand"]
    assert expand["notes"]["parents"] > 0


def test_what_a_question_names_of_the_declared_fields_narrows_the_search(service: Running) -> None:
    fields = [{"name": "site"}, {"name": "year", "type": "number"}]
    response = service.client.post("/kbs", json={"name": "fields", "fields": fields})
    assert [field["name"] for field in response.json()["fields"]] == ["site", "year"]
    for site, year, days in (("Berlin", 2024, 20), ("Berlin", 2025, 25), ("Rome", 2025, 30)):
        text = f"Annual leave is {days} days.\n"
        service.upload(
            "fields", {f"{site}-{year}.txt": text}, attributes=json.dumps({"site": site, "year": year})
        )
    service.work()

    def found(question: str, **options: Any) -> list[str]:
        return sorted(p["document_name"] for p in service.search("fields", question, **options))

    assert found("How many days of leave in Berlin in 2025?") == ["Berlin-2025.txt"]
    assert found("How many days of leave in Rome?") == ["Rome-2025.txt"]
    assert len(found("How many days of leave?")) == 3
    assert len(found("How many days of leave in Rome?", structure={"fields": False})) == 3
    tree = {"and": [{"field": "year", "gte": 2025}, {"not": {"field": "site", "eq": "Rome"}}]}
    assert found("How many days of leave?", filter=tree) == ["Berlin-2025.txt"]
    assert found("How many days of leave?", filter=tree, filters={"site": "Rome"}) == []
    trace = service.ask("fields", "Days of leave in Rome?", trace=True)["trace"]
    [stage] = [stage for stage in trace if stage["stage"] == "filter"]
    assert stage["notes"] == {"recognised": {"site": ["Rome"]}, "documents": 1}
    wrong = service.client.post(
        "/kbs/fields/search", json={"query": "x", "filter": {"field": "a", "like": 1}}
    )
    assert (wrong.status_code, "`filter`" in wrong.json()["detail"]) == (422, True)


def test_questions_about_whole_documents_are_answered_from_summaries(service: Running) -> None:
    service.new_kb("whole")
    contract = "本合同由李华与王敏签订。租期为两年。押金为两千元，租期满后七日内退还。\n"
    manual = "The Atlas 9 makes espresso. Descaling is due every month with citric acid.\n"
    service.upload("whole", {"contract.md": contract}, attributes='{"language": "zh"}')
    service.upload("whole", {"atlas.md": manual, "handbook.md": HANDBOOK}, attributes='{"language": "en"}')
    service.work()
    about = service.ask("whole", "contract.md 讲什么？", trace=True)
    assert about["found"]
    assert about["unsupported"] == []
    assert {citation["document_name"] for citation in about["citations"]} == {"contract.md"}
    assert "押金为两千元，租期满后七日内退还。" in {citation["quote"] for citation in about["citations"]}
    [stage] = [stage for stage in about["trace"] if stage["stage"] == "overview"]
    assert stage["notes"]["kind"] == "about"
    which = service.ask("whole", "Which of the manuals cover descaling?")
    [citation] = which["citations"]
    assert citation["document_name"] == "atlas.md"
    assert citation["quote"] == "Descaling is due every month with citric acid."
    english = {"language": "en"}
    assert not service.ask("whole", "Which documents mention zzxqv blorptang?", filters=english)["found"]
    off = service.ask("whole", "contract.md 讲什么？", structure={"whole_document": False}, trace=True)
    assert "overview" not in {stage["stage"] for stage in off["trace"]}
    [whole, *_] = service.search("whole", "What is contract.md about?")
    assert "".join(contract[start:end] for start, end in whole["spans"]) == contract.strip()
