"""`rag-service COMMAND`: what each command does, in one short file each.

Commands import what they need when they run, so that `rag-service up` stays small.
"""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

import typer
from typer.core import TyperGroup

from core.errors import RagError
from rag_service.cli import documents, jobs, kb, models, sources
from rag_service.cli.ask import ask, search
from rag_service.cli.chunks import chunks
from rag_service.cli.demo import demo
from rag_service.cli.doctor import doctor
from rag_service.cli.fsck import fsck
from rag_service.cli.ingest import ingest
from rag_service.cli.serve import api, migrate, worker
from rag_service.cli.sync import sync
from rag_service.cli.up import up


class InWords(TyperGroup):
    """Shows a `RagError` as its message and hint, with exit status 1, and never as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RagError as error:
            typer.echo(f"rag-service: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="rag-service",
    cls=InWords,
    help="A self-hosted RAG knowledge base: documents in, cited answers out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("rag-service"))


app.command()(up)
for command in (demo, doctor, ingest, sync, search, ask, chunks, fsck, migrate, api, worker):
    app.command()(command)
app.add_typer(kb.app, name="kb")
app.add_typer(documents.app, name="documents")
app.add_typer(jobs.app, name="jobs")
app.add_typer(sources.app, name="sources")
app.add_typer(models.app, name="models")
