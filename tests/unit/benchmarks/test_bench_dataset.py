"""Data sets are read as they come, and a broken one is named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.dataset import load
from core.errors import NotFound, UnreadableDocument

QRELS = "q1\td1\t1\nq1\td2\t1\nq2\td2\t0\nq3\td1\t1\n"


def write(folder: Path, qrels: str = QRELS) -> Path:
    documents = [{"_id": "d1", "title": "One", "text": "first"}, {"_id": "d2", "text": "second"}]
    questions = [
        {"_id": "q1", "text": "first?", "answers": ["first"], "evidence": []},
        {"_id": "q2", "text": "second?"},
        {"_id": "q3", "text": "third?", "answerable": False},
    ]
    for name, lines in (("corpus.jsonl", documents), ("queries.jsonl", questions)):
        (folder / name).write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
    (folder / "qrels.tsv").write_text(qrels, encoding="utf-8")
    return folder


def test_only_answerable_questions_with_a_relevant_document_are_measurable(tmp_path: Path) -> None:
    dataset = load(write(tmp_path))
    assert [question.id for question in dataset.measurable] == ["q1"]
    assert dataset.measurable[0].gold == {"d1", "d2"}
    assert [question.id for question in dataset.unanswerable] == ["q3"]
    assert [document.title for document in dataset.documents] == ["One", ""]


@pytest.mark.parametrize("header", ["query-id\tcorpus-id\tscore\n", "qid\tdocid\trelevance\n"])
def test_qrels_may_begin_with_a_header(tmp_path: Path, header: str) -> None:
    assert load(write(tmp_path, header + QRELS)) == load(write(tmp_path))


def test_qrels_may_have_the_four_columns_of_trec(tmp_path: Path) -> None:
    assert load(write(tmp_path, QRELS.replace("\td", "\t0\td"))) == load(write(tmp_path))


def test_a_limit_keeps_all_documents_and_questions_from_the_whole_file(tmp_path: Path) -> None:
    qrels = "".join(f"q{number}\td1\t1\n" for number in range(10))
    questions = [{"_id": f"q{number}", "text": "?"} for number in range(10)]
    lines = "\n".join(map(json.dumps, questions))
    (write(tmp_path, qrels) / "queries.jsonl").write_text(lines, encoding="utf-8")
    dataset = load(tmp_path, limit=3)
    assert [question.id for question in dataset.questions] == ["q0", "q3", "q6"]
    assert len(dataset.documents) == 2
    assert len(load(tmp_path, limit=99).questions) == 10


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "queries.jsonl").unlink()
    with pytest.raises(NotFound, match=r"queries\.jsonl"):
        load(tmp_path)


@pytest.mark.parametrize(("line", "reason"), [('{"text": "x"}', "no field _id"), ("{", "not JSON")])
def test_a_broken_line_is_named_with_its_place(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path) / "corpus.jsonl"
    path.write_text(path.read_text(encoding="utf-8").strip() + "\n" + line, encoding="utf-8")
    with pytest.raises(UnreadableDocument, match=rf"corpus\.jsonl, line 3: {reason}"):
        load(tmp_path)


def test_a_qrels_line_without_score_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match=r"qrels\.tsv, line 5"):
        load(write(tmp_path, QRELS + "q1 d1 1\n"))
