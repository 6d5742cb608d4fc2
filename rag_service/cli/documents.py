"""`rag-service documents`: what is in a knowledge base."""

from __future__ import annotations

from typing import Annotated

import typer

from core.errors import NotFound
from rag_service.api.schemas import Document, Job
from rag_service.cli.client import Api, kb_path, open_api
from rag_service.cli.output import print_json, print_table

app = typer.Typer(help="List, show and delete documents.", no_args_is_help=True)

Kb = Annotated[str, typer.Option(help="Knowledge base.")]
Name = Annotated[str, typer.Argument(help="Name of the document.")]


@app.command("list")
def list_(kb: Kb = "default") -> None:
    """List the documents of a knowledge base."""
    with open_api() as api:
        documents = [Document.model_validate(item) for item in api.pages(kb_path(kb, "documents"), limit=100)]
    print_table(
        ("name", "status", "pages", "chunks", "bytes"),
        [(each.name, each.status, each.pages, each.chunks, each.size) for each in documents],
    )


@app.command()
def show(name: Name, kb: Kb = "default") -> None:
    """Show a document, with its summary, as JSON."""
    with open_api() as api:
        print_json(_named(api, kb, name).model_dump(mode="json"))


@app.command()
def delete(
    name: Name,
    kb: Kb = "default",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a document."""
    if not yes:
        typer.confirm(f"Delete {name} for good?", abort=True)
    with open_api() as api:
        document = _named(api, kb, name)
        api.wait(Job.model_validate(api.delete(kb_path(kb, "documents", document.id))))
    typer.echo(f"Deleted {name}.")


def _named(api: Api, kb: str, name: str) -> Document:
    for item in api.pages(kb_path(kb, "documents"), name=name):
        document = Document.model_validate(item)
        if document.name == name:
            return document
    raise NotFound(
        f"There is no document named {name!r} in {kb}.",
        hint=f"`rag-service documents list --kb {kb}` lists all.",
    )
