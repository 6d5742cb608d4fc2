"""The program measures every recipe on a small data set, from files to JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.dataset import load
from benchmarks.retrieval import percentile, run
from core.errors import InvalidValue

DOCUMENTS = {
    "leave": ("Parental leave", "Parents of a newborn child may take sixteen weeks of paid leave."),
    "travel": ("Travel", "Train tickets of the first class are paid for journeys of over three hours."),
    "kitchen": ("Kitchen", "The dishwasher is emptied by whoever comes first in the morning."),
}
QUESTIONS = {
    "leave": ("How many weeks can new parents stay at home?", "sixteen weeks"),
    "travel": ("When may I go by train in the first class?", "over three hours"),
    "kitchen": ("Who empties the dishwasher?", "whoever comes first"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpus = [{"_id": name, "title": title, "text": text} for name, (title, text) in DOCUMENTS.items()]
    queries = [{"_id": name, "text": text, "answers": [answer]} for name, (text, answer) in QUESTIONS.items()]
    for name, lines in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (tmp_path / "qrels.tsv").write_text("\n".join(f"{n}\t{n}\t1" for n in DOCUMENTS), encoding="utf-8")
    return tmp_path


async def test_every_recipe_finds_the_documents_of_a_small_set(folder: Path) -> None:
    results = [line async for line in run(load(folder), folder / "cache")]
    assert {line["recipe"]: line["peer"] for line in results} == {
        "seed-flat": True,
        "ours": False,
        "ours, no reranker": False,
        "ours, no sentences": False,
        "ours, no links": False,
        "ours, no summary stage": False,
        "ours, strict": False,
    }
    for line in results:
        assert line["recall@5"] == line["support_sent"] == line["support@1200"] == 100
        assert (line["documents"], line["chunks"], line["queries"]) == (3, 3, 3)
        assert 0 < line["query_ms_p50"] <= line["query_ms_p95"]
        assert line["index_s"] > 0
        if not line["peer"]:
            stages = {"embed", "retrieve", "sentences", "rerank", "select", "expand", "compress", "order"}
            linked = set() if line["recipe"] == "ours, no links" else {"links"}
            assert line["stage_ms"].keys() == stages | linked
            assert line["tokens_half"] < line["tokens_sent"]
        json.dumps(line)


async def test_a_set_without_a_measurable_question_is_refused(folder: Path) -> None:
    (folder / "qrels.tsv").write_text("leave\tleave\t0\n", encoding="utf-8")
    with pytest.raises(InvalidValue, match="no answerable question"):
        await anext(run(load(folder), folder / "cache"))


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 95) == 95
    assert percentile([7.0], 95) == 7
    assert percentile([3.0, 1.0], 50) == 1
