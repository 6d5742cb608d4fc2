"""Documents that the best passages name join the search, through the API: names come from the database as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest
from running_service import Running, running_service

from core.db.models import KNOWN_AS

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
    "guides/hours.md": "# Hours\n\nWhen anything opens is shown in ../sights/1911.md beside the door.\n",
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
    """The names of the six best documents, and the notes of the stages."""
    body = {"query": query, "trace": True, "top_k": 6, **options}
    response = service.client.post("/kbs/town/search", json=body)
    response.raise_for_status()
    found = response.json()
    return [p["document_name"] for p in found["passages"]], {s["stage"]: s["notes"] for s in found["trace"]}


def test_titles_and_file_names_in_the_best_passage_bring_their_documents(service: Running) -> None:
    names, stages = search(service, TRAINING)
    assert names[0] == "ferries/heron.md"
    assert set(names[1:3]) == {"sights/1911.md", "rules/winter-storms.txt"}
    assert stages["links"] == {"named": names[1:3]}


def test_chinese_titles_do_too(service: Running) -> None:
    names, _ = search(service, "出差前要填写什么？")
    assert names[:2] == ["trips.md", "forms.md"]


def test_a_document_with_a_title_is_also_named_by_its_file(service: Running) -> None:
    names, _ = search(service, "Where is shown when anything opens?")
    assert names[:2] == ["guides/hours.md", "sights/1911.md"]


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


@pytest.mark.parametrize(
    ("title", "name", "known_as"),
    [
        ("Travel_Policy - 2024", "x.md", "travel policy 2024"),
        ("《差旅费报销单》", "x.md", "差旅费报销单"),
        ("Ship Song [internal]", "x.md", "ship song"),
        ("Handbook（2024版）", "x.md", "handbook"),
        ("§ 12 Travel Rules", "x.md", "travel rules"),
        ("📘 Team‑Handbook", "x.md", "team handbook"),
        ('The "Night Ferry" Rules', "x.md", 'night ferry" rules'),
        ("1. (draft) Rules", "x.md", "draft) rules"),
        ("员工 手册_细则", "x.md", "员工手册细则"),
        ("여행 경비 규정", "x.md", "여행경비규정"),
        ("C++", "x.md", "c"),
        ("„Reiher“ – «Boot»", "x.md", 'reiher" "boot'),
        ("(draft)", "x.md", "draft"),
        ("The Who (band) (1964)", "x.md", "who (band"),
        ("1. Mast Rules:", "x.md", "mast rules"),
        ("Porter’s “Guide”", "x.md", "porter's \"guide"),
        ("ÄRZTE ÜBER KÖLN", "x.md", "ärzte über köln"),
        ("100 % \\ of it", "x.md", "100 % \\ of it"),
        ("!?", "x.md", ""),
        ("  ", "folder.d/01-stove-card.tar.gz", "stove card.tar"),
        (None, "README", "readme"),
        (None, ".hidden", ""),
        ("x" * 5000, "x.md", "x" * 200),
        ("\ufdfa" * 5000, "x.md", None),  # each of them becomes 18 characters
    ],
)
def test_names_are_folded_by_the_database(
    service: Running, title: str | None, name: str, known_as: str | None
) -> None:
    select = f"SELECT {KNOWN_AS} FROM (VALUES (%s::text, %s::text)) AS documents (title, name)"
    with psycopg.connect(service.database_url) as connection:
        [row] = connection.execute(select.replace("%'", "%%'"), [title, name]).fetchall()
    assert row[0] == known_as if known_as is not None else len(row[0]) == 200 * 18


def test_links_never_make_an_answer_not_found(service: Running) -> None:
    """What they push out is counted when it is decided whether there is an answer."""
    for top_k in range(1, 9):
        plain = service.ask("town", TRAINING, top_k=top_k, structure={"links": False})
        assert plain["found"]
        assert service.ask("town", TRAINING, top_k=top_k)["found"]


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
