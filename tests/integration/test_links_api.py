"""Documents that the best passages name join the search, through the API: names come from the database as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from running_service import Running, running_service

SHIPS = {
    "ferries/heron.md": "# The ferry Heron\n\nIts crew is trained on the Blue Lighthouse, as winter-storms.txt says.\n",
    **{
        f"crew-{n}.md": f"# Rosters\n\nThe crew of boat {n} is trained on Mondays in hall {n}.\n"
        for n in range(9)
    },
}
TOWN = {
    "sights/1911.md": "# Blue Lighthouse (museum)\n\nIt was built by Ada Quill in 1911.\n",
    "rules/winter-storms.txt": "Everybody stays indoors from force nine on.\n",
    "trips.md": "# 出差\n\n出差前填写《差旅费报销单》，再交给部门主管。\n",
    "forms.md": "# 差旅费报销单\n\n财务部五个工作日内付款。\n",
}
TRAINING = "Who built the place where the crew of the ferry Heron is trained?"


@pytest.fixture(scope="module")
def service(
    new_database: Callable[[], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with new_database() as url, running_service(url, tmp_path_factory.mktemp("data")) as running:
        running.new_kb("town")
        for part, files in (("ships", SHIPS), ("town", TOWN)):
            running.upload("town", files, attributes=json.dumps({"part": part}))
        running.work()
        yield running


def search(service: Running, query: str, **options: Any) -> tuple[list[str], dict[str, Any]]:
    """The names of the three best documents, and the notes of the stages."""
    body = {"query": query, "trace": True, "top_k": 3, **options}
    response = service.client.post("/kbs/town/search", json=body)
    response.raise_for_status()
    found = response.json()
    return [p["document_name"] for p in found["passages"]], {s["stage"]: s["notes"] for s in found["trace"]}


def test_titles_and_file_names_in_the_best_passage_bring_their_documents(service: Running) -> None:
    names, stages = search(service, TRAINING)
    assert names[0] == "ferries/heron.md"
    assert set(names[1:]) == {"sights/1911.md", "rules/winter-storms.txt"}
    assert stages["links"] == {"named": names[1:]}


def test_chinese_titles_do_too(service: Running) -> None:
    names, _ = search(service, "出差前要填写什么？")
    assert names[:2] == ["trips.md", "forms.md"]


def test_a_request_or_a_knowledge_base_can_do_without(service: Running) -> None:
    names, stages = search(service, TRAINING, structure={"links": False})
    assert "sights/1911.md" not in names
    assert "links" not in stages
    service.client.patch("/kbs/town", json={"structure": {"links": False}}).raise_for_status()
    try:
        assert search(service, TRAINING)[0] == names
        assert "sights/1911.md" in search(service, TRAINING, structure={"links": True})[0]
    finally:
        service.client.patch("/kbs/town", json={"structure": {}}).raise_for_status()


def test_a_filter_keeps_named_documents_out(service: Running) -> None:
    names, stages = search(service, TRAINING, filter={"field": "part", "eq": "ships"})
    assert names[0] == "ferries/heron.md"
    assert set(names) < set(SHIPS)
    assert stages["links"] == {"named": []}


def test_every_name_is_what_texts_call_the_document(service: Running) -> None:
    rows = dict(service.rows("SELECT name, known_as FROM documents"))
    assert rows["sights/1911.md"] == "blue lighthouse"
    assert rows["rules/winter-storms.txt"] == "winter storms"
    assert rows["forms.md"] == "差旅费报销单"


def test_a_deleted_document_is_named_in_vain(service: Running) -> None:
    [document] = [
        d
        for d in service.client.get("/kbs/town/documents").json()["items"]
        if d["name"] == "rules/winter-storms.txt"
    ]
    service.client.delete(f"/kbs/town/documents/{document['id']}").raise_for_status()
    names, stages = search(service, TRAINING)
    assert stages["links"] == {"named": ["sights/1911.md"]}
    assert "rules/winter-storms.txt" not in names
