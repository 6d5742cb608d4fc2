"""`rag-service kb`: the knowledge bases of a running service."""

from __future__ import annotations

from typing import Annotated

import typer

from ingest.chunkers.base import Chunking
from rag_service.api.schemas import Job, Kb, Reread
from rag_service.cli.backup import backup, export, restore
from rag_service.cli.calibrate import calibrate
from rag_service.cli.chunks import CharactersOption, MoreOptions, StrategyOption, chunking_of
from rag_service.cli.client import Api, kb_path, open_api
from rag_service.cli.output import print_json, print_table
from rag_service.cli.tune import tune

app = typer.Typer(help="List, create, show, move, back up and delete knowledge bases.", no_args_is_help=True)

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
    store: Annotated[str | None, typer.Option(help="Vector store; without: the service's setting.")] = None,
    strategy: StrategyOption = None,
    characters: CharactersOption = None,
    more: MoreOptions = None,
) -> None:
    """Create a knowledge base."""
    chunking = chunking_of(strategy, characters, more)
    body = {
        "name": name,
        "description": description,
        "store": store,
        "chunking": chunking.model_dump(mode="json") if chunking else None,
    }
    with open_api() as api:
        kb = Kb.model_validate(api.post("/kbs", body))
    typer.echo(f"Created {kb.name}. Add documents: rag-service ingest PATH --kb {kb.name}")


@app.command()
def show(name: Name) -> None:
    """Show a knowledge base as JSON."""
    with open_api() as api:
        print_json(api.get(kb_path(name)))


@app.command()
def chunking(
    name: Name,
    strategy: StrategyOption = None,
    characters: CharactersOption = None,
    more: MoreOptions = None,
    reread: Annotated[bool, typer.Option(help="Read the documents that are there again.")] = False,
) -> None:
    """Change how documents are cut that are read from now on."""
    wanted = chunking_of(strategy, characters, more) or Chunking()
    with open_api() as api:
        api.patch(kb_path(name), {"chunking": wanted.model_dump(mode="json")})
        typer.echo(f"{name} now cuts documents by {wanted.strategy}, up to {wanted.characters} characters.")
        if reread:
            _reread(api, name)
        else:
            typer.echo(f"Those that are there stay as they are until: rag-service kb reread {name}")


@app.command()
def reread(name: Name) -> None:
    """Read all documents again, as after a change of chunking or of the service."""
    with open_api() as api:
        _reread(api, name)


@app.command()
def rebuild(
    name: Name,
    strategy: StrategyOption = None,
    characters: CharactersOption = None,
    more: MoreOptions = None,
) -> None:
    """Build a knowledge base anew with the service's embedder, and switch when it is whole."""
    chunking = chunking_of(strategy, characters, more)
    body = {"chunking": chunking.model_dump(mode="json") if chunking else None}
    with open_api() as api:
        before = Kb.model_validate(api.get(kb_path(name)))
        after = _switched(api, name, Job.model_validate(api.post(kb_path(name, "rebuild"), body)))
    if after.generation != before.generation and (after.embedder, after.chunking) == (
        before.embedder,
        before.chunking,
    ):
        typer.echo("Embedder and chunking are what they were.")


@app.command()
def rollback(name: Name) -> None:
    """Go back to the generation before the last rebuild; documents that changed since are read first."""
    with open_api() as api:
        _switched(api, name, Job.model_validate(api.post(kb_path(name, "rollback"), {})))


def _switched(api: Api, name: str, job: Job) -> Kb:
    if api.wait(job).status == "cancelled":
        typer.echo("It was called off.")
    kb = Kb.model_validate(api.get(kb_path(name)))
    typer.echo(
        f"{name} is in generation {kb.generation}: {kb.embedder}, {kb.chunking.strategy}, "
        f"up to {kb.chunking.characters} characters."
    )
    if kb.other_generation is not None:
        typer.echo(
            f"Generation {kb.other_generation.number} is kept. Back to it: rag-service kb rollback {name}; "
            f"delete it: rag-service kb drop-generation {name}"
        )
    return kb


@app.command()
def drop_generation(name: Name) -> None:
    """Delete the generation that readers do not see: the one before a rebuild, or one half built."""
    with open_api() as api:
        kb = Kb.model_validate(api.get(kb_path(name)))
        if kb.other_generation is None:
            typer.echo(f"{name} has no other generation.")
            return
        number = kb.other_generation.number
        api.wait(Job.model_validate(api.delete(kb_path(name, "generations", str(number)))))
    typer.echo(f"Deleted generation {number} of {name}.")


@app.command()
def pause(name: Name) -> None:
    """Read no more documents until `kb resume`; uploads are taken and wait."""
    with open_api() as api:
        api.post(kb_path(name, "pause"), {})
    typer.echo(f"{name} is paused. Go on: rag-service kb resume {name}")


@app.command()
def resume(name: Name) -> None:
    """Read the documents that waited."""
    with open_api() as api:
        api.post(kb_path(name, "resume"), {})
    typer.echo(f"{name} goes on.")


def _reread(api: Api, name: str) -> None:
    count = Reread.model_validate(api.post(kb_path(name, "reread"), {})).documents
    typer.echo(f"{count} documents are read again; rag-service jobs list --kb {name} shows how far.")


for command in (tune, calibrate, backup, restore, export):
    app.command()(command)


@app.command()
def move(name: Name, to: Annotated[str, typer.Option(help="Store to move to.")]) -> None:
    """Move a knowledge base to another store; the old store keeps its copy."""
    with open_api() as api:
        job = api.wait(Job.model_validate(api.post(kb_path(name, "move"), {"store": to})))
        kb = Kb.model_validate(api.get(kb_path(name)))
    typer.echo(f"Moved {job.done} records: {name} is in {kb.store}.")
    for store in kb.copies:
        typer.echo(f"{store} still has a copy. Delete it: rag-service kb drop-copy {name} --store {store}")


@app.command()
def drop_copy(
    name: Name, store: Annotated[str, typer.Option(help="Store that the knowledge base moved away from.")]
) -> None:
    """Delete what a move left in the store it came from."""
    with open_api() as api:
        api.wait(Job.model_validate(api.delete(kb_path(name, "copies", store))))
    typer.echo(f"Deleted the copy in {store}.")


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
