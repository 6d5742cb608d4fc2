"""`rag-service fsck`: do rows, files and stores of a running service agree?"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from core.errors import RagError
from rag_service.api.schemas import Check, CheckReport
from rag_service.cli.client import Api, open_api
from rag_service.cli.output import print_json, print_table

LOOK_EVERY_S = 0.5
PATIENCE_S = 60.0  # for a worker to begin


def fsck(
    mend: Annotated[
        bool, typer.Option("--mend", help="Delete orphans, and read again what is not all there.")
    ] = False,
    foreign: Annotated[
        bool,
        typer.Option(
            "--foreign",
            help="With --mend: drop indexes that this database never knew. Are they another service's?",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare rows, files and stores. Exit status 1 if something is wrong and was not mended."""
    if foreign and not mend:
        raise typer.BadParameter("--foreign drops indexes, so it goes with --mend.")
    with open_api() as api:
        check = _wait(api, Check.model_validate(api.post("/fsck", {"mend": mend, "foreign": foreign})))
    if check.report is None:
        reason = check.error
        raise RagError(reason.message if reason else None, hint=reason.hint if reason else None)
    if as_json:
        print_json(check.report.model_dump())
    else:
        _print(check.report, mend=mend)
    if check.report.problems or check.report.unchecked:
        raise typer.Exit(1)


def _wait(api: Api, check: Check) -> Check:
    asked = time.monotonic()
    while check.status in ("queued", "running"):
        if check.status == "queued" and time.monotonic() - asked > PATIENCE_S:
            raise RagError(
                f"No worker has begun within {PATIENCE_S:.0f} s.", hint="Is one running? `rag-service doctor`"
            )
        time.sleep(LOOK_EVERY_S)
        check = Check.model_validate(api.get(f"/fsck/{check.id}"))
    return check


def _print(report: CheckReport, *, mend: bool) -> None:
    if report.findings:
        print_table(
            ("trouble", "kb", "document", "mended", "what"),
            [
                (f.trouble, f.kb, f.document or f.document_id, f.mended or "no", f.what)
                for f in report.findings
            ],
        )
    for line in report.unchecked:
        typer.echo(f"Not checked: {line}")
    looked = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in report.checked.items())
    typer.echo(f"Looked at {looked}; {report.busy} left alone, as they are being written.")
    typer.echo(f"{sum(report.found.values())} found, {sum(report.mended.values())} mended.")
    if report.problems and not mend:
        typer.echo("Mend them: rag-service fsck --mend")
