"""`rag-service kb tune`: which way of cutting suits the documents of a knowledge base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from core.errors import InvalidValue, Unavailable
from ingest.chunkers.base import Chunking
from rag_service.api.schemas import Problem, Tuned, TuneResult, TuneStart
from rag_service.cli.client import Refused, kb_path, open_api
from rag_service.cli.output import print_table

MADE = {
    "you": "yours",
    "model": "written by the language model about sentences of the documents",
    "cloze": "sentences of the documents without their rarest word: they flatter keyword search, and tell nothing of "
    "questions in other words; give your own with --questions",
}


def tune(
    name: Annotated[str, typer.Argument(help="Name of the knowledge base.")],
    questions: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON lines with question and evidence (or answer) or document."
        ),
    ] = None,
    candidate: Annotated[
        list[str] | None, typer.Option(help='What to try, as JSON: \'{"strategy": "page"}\'. Repeat it.')
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, max=1800, help="Longest time for all of it.")] = 300,
    sample_characters: Annotated[
        int, typer.Option(min=1000, max=200_000, help="Text that is tried, in Chinese characters.")
    ] = 20_000,
) -> None:
    """Try sizes and strategies of cutting on the documents, and say which is best; nothing is changed."""
    body = {
        "questions": _read_questions(questions) if questions else None,
        "candidates": [_candidate(text) for text in candidate] if candidate else None,
        "seconds": seconds,
        "sample_characters": sample_characters,
    }
    result: TuneResult | None = None
    with open_api() as api:
        for event, data in api.events("POST", kb_path(name, "tune"), body):
            if event == "start":
                start = TuneStart.model_validate(data)
                typer.echo(
                    f"{start.documents} documents, {start.questions} questions ({MADE[start.questions_by]})"
                )
            elif event == "measured":
                typer.echo(f"  {_said(Tuned.model_validate(data))}", err=True)
            elif event == "error":
                raise Refused(Problem.model_validate(data))
            elif event == "done":
                result = TuneResult.model_validate(data)
    if result is None:
        raise Unavailable("The result broke off.", hint="Try again.")
    _print_result(name, result)


def _print_result(name: str, result: TuneResult) -> None:
    rows = [
        (
            *_shares(c),
            c.chunks or "",
            f"{c.seconds:.0f} s",
            _words(c.chunking) + " (now)" * (c.chunking == result.current),
        )
        for c in result.candidates
    ]
    print_table(("support", "recall@5", "MRR", "chunks", "time", "chunking"), rows)
    if not any(c.finished for c in result.candidates):
        typer.echo("No candidate was finished: give it more --seconds or fewer --sample-characters.")
        return
    if result.best is None:
        typer.echo(
            "\nNo candidate finds what answers any question, so none is best. "
            "Does the evidence stand in the documents, word for word?"
        )
        return
    best = next(c for c in result.candidates if c.chunking == result.best)
    alike = sum(c.finished and _shares(c) == _shares(best) for c in result.candidates) - 1
    also = f" ({alike} more find as much)" if alike else ""
    if result.best == result.current:
        typer.echo(f"\nBest: {_words(result.best)}{also}, as it is now.")
        return
    typer.echo(f"\nBest: {_words(result.best)}{also}. To apply it:\n  {_command(name, result.best)}")


def _shares(tuned: Tuned) -> tuple[str, str, str]:
    if not tuned.finished:
        return "no time", "", ""
    return f"{tuned.support:.0%}", f"{tuned.recall_at_5:.0%}", f"{tuned.mrr:.2f}"


def _said(tuned: Tuned) -> str:
    return f"{_words(tuned.chunking)}: {', '.join(filter(None, _shares(tuned)))}"


def _more(chunking: Chunking) -> list[str]:
    given = chunking.model_dump(mode="json", exclude_defaults=True, exclude={"strategy", "characters"})
    return [f"{name}={value}" for name, value in given.items()]


def _words(chunking: Chunking) -> str:
    return " ".join([chunking.strategy.value, str(chunking.characters), *_more(chunking)])


def _command(name: str, chunking: Chunking) -> str:
    more = "".join(f" --with {option}" for option in _more(chunking))
    return (
        f"rag-service kb chunking {name} --strategy {chunking.strategy} --characters {chunking.characters}"
        f"{more} --reread"
    )


def _candidate(text: str) -> dict[str, Any]:
    try:
        return Chunking.model_validate_json(text).model_dump(mode="json")
    except ValidationError as error:
        raise InvalidValue(
            f"--candidate {text}: {error.errors()[0]['msg'].removeprefix('Value error, ')}."
        ) from None


def _read_questions(path: Path) -> list[dict[str, str]]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            question = {
                "question": entry["question"],
                "evidence": entry.get("evidence") or entry.get("answer") or "",
            }
        except (ValueError, KeyError, AttributeError, TypeError):
            raise InvalidValue(
                f"{path}, line {number}: not a JSON object with a question.",
                hint='As in {"question": "How long is leave?", "evidence": "16 weeks"}.',
            ) from None
        found.append({**question, "document": entry.get("document") or ""})
    return found
