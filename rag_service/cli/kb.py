"""`rag-service kb`: the knowledge bases of a running service."""

from __future__ import annotations

from typing import Annotated

import typer

from rag_service.api.schemas import Job, Kb
from rag_service.cli.client import kb_path, open_api
from rag_service.cli.output import print_json, print_table

app = typer.Typer(help="List, create, show and delete knowledge bases.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the knowledge base.")]


@app.command("list")
def list_() -> None:
    """List the knowledge bases."""
    with open_api() as api:
        kbs = [Kb.model_validate(item) for item in api.pages("/kbs")]
    print_table(
        ("name", "documents", "store", "embedder", "description"),
        [(kb.name, kb.documents, kb.store, kb.embedder, kb.description) for kb in kbs],
    )


@app.command()
def create(
    name: Name,
    description: Annotated[str, typer.Option(help="What it is about.")] = "",
    chunk_characters: Annotated[
        int | None, typer.Option(help="Longest chunk, in Chinese characters.")
    ] = None,
) -> None:
    """Create a knowledge base."""
    body = {"name": name, "description": description, "chunk_characters": chunk_characters}
    with open_api() as api:
        kb = Kb.model_validate(api.post("/kbs", body))
    typer.echo(f"Created {kb.name}. Add documents: rag-service ingest PATH --kb {kb.name}")


@app.command()
def show(name: Name) -> None:
    """Show a knowledge base as JSON."""
    with open_api() as api:
        print_json(api.get(kb_path(name)))


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a knowledge base with all its documents."""
    if not yes:
        typer.confirm(f"Delete {name} and all its documents for good?", abort=True)
    with open_api() as api:
        api.wait(Job.model_validate(api.delete(kb_path(name))))
    typer.echo(f"Deleted {name}.")
