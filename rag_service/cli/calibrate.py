"""`rag-service kb calibrate`: how strong must a question be to have an answer in a knowledge base?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import InvalidValue
from rag_service.api.schemas import CalibrateResult
from rag_service.cli.client import kb_path, open_api
from rag_service.cli.output import print_json, print_table


def calibrate(
    name: Annotated[str, typer.Argument(help="Name of the knowledge base.")],
    questions: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="JSON lines with question and (false where the documents hold no answer) answerable.",
        ),
    ],
    lose: Annotated[
        float, typer.Option(min=0, max=50, help="Percent of the answerable questions that may be refused.")
    ] = 5,
    save: Annotated[bool, typer.Option("--save", help="Keep the threshold in the knowledge base.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")] = False,
) -> None:
    """Find out below which strength a question has no answer here, with at least 20 questions that have one."""
    body = {"questions": _read_questions(questions), "lose": lose, "save": save}
    with open_api() as api:
        answer = api.post(kb_path(name, "calibrate"), body)
    if as_json:
        print_json(answer)
        return
    _print_result(CalibrateResult.model_validate(answer))


def _print_result(result: CalibrateResult) -> None:
    typer.echo(f"Threshold: {result.threshold} (ranking.least_strength). With the rule for all it refuses")
    typer.echo(f"  {result.answerable_refused} % of {result.answerable} answerable questions")
    if result.unanswerable:
        typer.echo(
            f"  {result.unanswerable_refused} % of {result.unanswerable} unanswerable ones (AUC {result.auc})"
        )
    typer.echo(f"The rule alone refuses {_by_the_rule(result)}.")
    typer.echo("\nThe weakest answerable questions:")
    print_table(("strength", "question"), [(f"{w.strength:.4f}", w.question) for w in result.weakest])
    if result.note:
        typer.echo(f"\nNote: {result.note}")
    typer.echo("\nThe knowledge base keeps it." if result.saved else "\nNothing is changed; --save keeps it.")


def _by_the_rule(result: CalibrateResult) -> str:
    answerable = f"{result.rule_answerable_refused} % of the answerable questions"
    if result.rule_unanswerable_refused is None:
        return answerable
    return f"{answerable}, {result.rule_unanswerable_refused} % of the unanswerable ones"


def _read_questions(path: Path) -> list[dict[str, Any]]:
    lines = enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
    return [_question(path, number, line) for number, line in lines if line.strip()]


def _question(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        question, answerable = entry["question"], entry.get("answerable", True)
    except (ValueError, KeyError, AttributeError, TypeError):
        question, answerable = None, True
    if not isinstance(question, str) or not isinstance(answerable, bool):
        raise InvalidValue(
            f"{path}, line {number}: not a JSON object with a question and, if it has it, `answerable` true or false.",
            hint='As in {"question": "Who pays for parking?", "answerable": false}.',
        )
    return {"question": question, "answerable": answerable}
