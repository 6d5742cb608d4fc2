"""What is in a data set? Documents, questions, and which documents answer which question.

The layout is BEIR's with three more fields: `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`,
`text`, and maybe `answers`, `evidence`, `answerable`), `qrels.tsv` (query-id, corpus-id, score; tab-separated,
with or without a header line, also as `qrels/test.tsv`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import NotFound, UnreadableDocument

LAYOUT = "A data set is a folder with corpus.jsonl, queries.jsonl and qrels.tsv (benchmarks/dataset.py)."


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `gold` are the documents that answer it.

    Passages support the answer if they contain all of `evidence`, or, where that is empty, one of `answers`.
    """

    id: str
    text: str
    gold: frozenset[str]
    answers: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    answerable: bool = True


@dataclass(frozen=True, slots=True)
class Dataset:
    name: str
    documents: tuple[CorpusDocument, ...]
    questions: tuple[Question, ...]

    @property
    def measurable(self) -> list[Question]:
        """The questions that retrieval can be measured with: answerable, with a gold document."""
        return [question for question in self.questions if question.answerable and question.gold]

    @property
    def unanswerable(self) -> list[Question]:
        return [question for question in self.questions if not question.answerable]


def load(folder: Path, *, limit: int | None = None) -> Dataset:
    """Read a data set; with `limit` only so many questions that can be measured, evenly spread over the file
    (all documents stay).

    Raises `NotFound` for a missing file, `UnreadableDocument` for a line that cannot be read, each with its
    place.
    """
    gold: dict[str, set[str]] = {}
    for question_id, document_id in _qrels(folder):
        gold.setdefault(question_id, set()).add(document_id)
    documents = tuple(
        CorpusDocument(line["_id"], line.get("title") or "", line["text"])
        for line in _lines(folder / "corpus.jsonl", needed=("_id", "text"))
        if line["text"].strip()
    )
    questions = [
        Question(
            id=line["_id"],
            text=line["text"],
            gold=frozenset(gold.get(line["_id"], ())),
            answers=tuple(line.get("answers") or ()),
            evidence=tuple(line.get("evidence") or ()),
            answerable=line.get("answerable", True),
        )
        for line in _lines(folder / "queries.jsonl", needed=("_id", "text"))
    ]
    dataset = Dataset(folder.resolve().name, documents, tuple(questions))
    if limit is None:
        return dataset
    return Dataset(dataset.name, documents, tuple(_spread(dataset.measurable, limit)))


def _spread(questions: list[Question], limit: int) -> list[Question]:
    """At most `limit` of them, evenly spread: questions of a kind stand together in some sets."""
    if limit >= len(questions):
        return questions
    return [questions[number * len(questions) // limit] for number in range(limit)]


def _lines(path: Path, *, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise UnreadableDocument(f"{path}, line {number}: not JSON: {error}.", hint=LAYOUT) from None
        missing = [name for name in needed if name not in entry]
        if missing:
            raise UnreadableDocument(f"{path}, line {number}: no field {missing[0]}.", hint=LAYOUT)
        yield entry | {"_id": str(entry["_id"])}


def _qrels(folder: Path) -> Iterator[tuple[str, str]]:
    path = folder / "qrels.tsv"
    if not path.exists() and (folder / "qrels" / "test.tsv").exists():
        path = folder / "qrels" / "test.tsv"
    for number, line in enumerate(_read(path).splitlines(), start=1):
        fields = line.split("\t")
        if not line.strip() or (number == 1 and fields[0] == "query-id"):
            continue
        try:
            question_id, document_id, score = fields[0], fields[-2], float(fields[-1])
        except (IndexError, ValueError):
            if number == 1:  # a header in other words
                continue
            message = f"{path}, line {number}: not query-id, corpus-id and score with tabs between."
            raise UnreadableDocument(message, hint=LAYOUT) from None
        if score > 0:
            yield question_id, document_id


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist.", hint=LAYOUT) from None
