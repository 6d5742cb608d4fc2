"""`rag-service jobs`: what the workers do, did and failed to do."""

from __future__ import annotations

from typing import Annotated

import typer

from rag_service.api.schemas import Job
from rag_service.cli.client import kb_path, open_api
from rag_service.cli.output import print_json, print_table

app = typer.Typer(help="List and show jobs.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of the job, as `jobs list` shows it.")]


@app.command("list")
def list_(
    kb: Annotated[str, typer.Option(help="Knowledge base.")] = "default",
    status: Annotated[
        str | None, typer.Option(help="Only these: queued, running, done, failed or cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs shown.")] = 20,
) -> None:
    """List the newest jobs of a knowledge base."""
    with open_api() as api:
        page = api.get(kb_path(kb, "jobs"), status=status, limit=limit)
    jobs = [Job.model_validate(item) for item in page["items"]]
    print_table(
        ("id", "kind", "document", "status", "progress", "error"),
        [
            (job.id, job.kind, job.document_name, job.status, _progress(job), job.error and job.error.message)
            for job in jobs
        ],
    )


@app.command()
def show(job_id: Id) -> None:
    """Show a job as JSON."""
    with open_api() as api:
        print_json(api.get(f"/jobs/{job_id}"))


def _progress(job: Job) -> str:
    return f"{job.stage} {job.percent}%" if job.status == "running" else ""
