"""`rag-service jobs`: what the workers do, did and failed to do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rag_service.api.schemas import Dismissed, Job, Retried
from rag_service.cli.client import kb_path, open_api
from rag_service.cli.output import print_json, print_table

app = typer.Typer(
    help="List, show and cancel jobs; try failed ones again, or dismiss them.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(help="Id of the job, as `jobs list` shows it.")]
MaybeId = Annotated[str | None, typer.Argument(help="Id of the job, as `jobs failed` shows it.")]
All = Annotated[bool, typer.Option("--all", help="All that failed.")]
OnlyKb = Annotated[str | None, typer.Option(help="Only those of this knowledge base.")]
Most = Annotated[int, typer.Option(min=1, help="Most jobs shown.")]


@app.command("list")
def list_(
    kb: OnlyKb = None,
    status: Annotated[
        str | None, typer.Option(help="Only these: queued, running, done, failed, cancelled or dismissed.")
    ] = None,
    limit: Most = 20,
) -> None:
    """List the newest jobs."""
    _print(kb, status=status, limit=limit)


@app.command()
def failed(kb: OnlyKb = None, limit: Most = 50) -> None:
    """List the jobs that failed and were neither tried again nor dismissed, with the reasons."""
    _print(kb, status="failed", limit=limit)


@app.command()
def show(job_id: Id) -> None:
    """Show a job as JSON."""
    with open_api() as api:
        print_json(api.get(f"/jobs/{job_id}"))


@app.command()
def retry(job_id: MaybeId = None, every: All = False, kb: OnlyKb = None) -> None:
    """Try a failed job again, or all of them: the files were kept."""
    _one_or_all(job_id, every=every)
    with open_api() as api:
        if job_id is not None:
            api.post(f"/jobs/{job_id}/retry")
            typer.echo("Queued again.")
            return
        retried = Retried.model_validate(api.post("/jobs/retry", {"kb": kb}))
    for reason in retried.refused:
        typer.echo(f"Not tried again: {reason}", err=True)
    typer.echo(f"Queued again: {retried.jobs}.")


@app.command()
def cancel(job_id: Id) -> None:
    """Call off a job that waits or runs, and undo what it did so far."""
    with open_api() as api:
        job = Job.model_validate(api.post(f"/jobs/{job_id}/cancel"))
        if job.cancelling:
            typer.echo(
                "Called off. Waiting for a worker to undo it (Ctrl-C: it will do so alone) …", err=True
            )
        for state in api.follow(job):
            job = state
    if job.status == "cancelled":
        typer.echo("Cancelled.")
        return
    typer.echo(f"It was too late: the job is {job.status}.", err=True)
    raise typer.Exit(1)


@app.command()
def dismiss(job_id: MaybeId = None, every: All = False, kb: OnlyKb = None) -> None:
    """Give up a failed job, or all of them, and delete the files."""
    _one_or_all(job_id, every=every)
    with open_api() as api:
        if job_id is not None:
            api.post(f"/jobs/{job_id}/dismiss")
            typer.echo("Dismissed.")
            return
        dismissed = Dismissed.model_validate(api.post("/jobs/dismiss", {"kb": kb}))
    typer.echo(f"Dismissed: {dismissed.jobs}.")


def _one_or_all(job_id: str | None, *, every: bool) -> None:
    if (job_id is None) != every:
        raise typer.BadParameter("Name a job, or say --all.")


def _print(kb: str | None, **query: Any) -> None:
    """Those of one knowledge base, or of all; one that is being deleted has no name any more."""
    with open_api() as api:
        page = api.get("/jobs" if kb is None else kb_path(kb, "jobs"), **query)
        names = {item["id"]: item["name"] for item in api.pages("/kbs")}
    jobs = [Job.model_validate(item) for item in page["items"]]
    print_table(
        ("id", "kb", "kind", "document", "status", "progress", "error"),
        [
            (
                job.id,
                names.get(job.kb_id, job.kb_id),
                job.kind,
                job.document_name,
                _status(job),
                _progress(job),
                job.error and job.error.message,
            )
            for job in jobs
        ],
    )


def _status(job: Job) -> str:
    return (
        f"{job.status}, cancelling" if job.cancelling and job.status in ("queued", "running") else job.status
    )


def _progress(job: Job) -> str:
    return f"{job.stage} {job.percent}%" if job.status == "running" else ""
