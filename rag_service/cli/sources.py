"""`rag-service sources`: pages and sitemaps of the web that a knowledge base follows."""

from __future__ import annotations

from typing import Annotated

import typer

from rag_service.api.schemas import Job, Source
from rag_service.cli.client import kb_path, open_api
from rag_service.cli.output import print_table

app = typer.Typer(help="List, add, change, synchronise and remove sources of the web.", no_args_is_help=True)

Kb = Annotated[str, typer.Option(help="Knowledge base.")]
Id = Annotated[str, typer.Argument(help="Id of the source, as `sources list` shows it.")]
Every = Annotated[
    int | None,
    typer.Option(min=60, help="Seconds from one synchronisation to the next; without: when asked for."),
]


@app.command("list")
def list_(kb: Kb = "default") -> None:
    """List the sources of a knowledge base and what their last synchronisation came to."""
    with open_api() as api:
        sources = [Source.model_validate(item) for item in api.pages(kb_path(kb, "sources"))]
    print_table(
        ("id", "kind", "every", "synchronised", "result", "url"),
        [
            (
                each.id,
                each.kind,
                each.interval_s and f"{each.interval_s} s",
                each.synced_at and f"{each.synced_at:%Y-%m-%d %H:%M}",
                _result(each),
                each.url,
            )
            for each in sources
        ],
    )
    failed = [(each.id, error) for each in sources if each.result for error in each.result.errors]
    if failed:
        typer.echo()
        print_table(
            ("id", "failed", "reason"), [(source, error.url, error.message) for source, error in failed]
        )


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="Address of a page, or of a sitemap.")],
    kb: Kb = "default",
    sitemap: Annotated[
        bool, typer.Option("--sitemap", help="It is a sitemap: follow all pages in it.")
    ] = False,
    every: Every = None,
) -> None:
    """Follow an address. The service's settings must allow its host (RAG_SOURCES__HOSTS)."""
    body = {"url": url, "kind": "sitemap" if sitemap else "url", "interval_s": every}
    with open_api() as api:
        source = Source.model_validate(api.post(kb_path(kb, "sources"), body))
    typer.echo(f"Added {source.url} as {source.id}; rag-service sources list --kb {kb} shows how it goes.")


@app.command()
def change(source: Id, kb: Kb = "default", every: Every = None) -> None:
    """Change how often a source is synchronised."""
    with open_api() as api:
        api.patch(kb_path(kb, "sources", source), {"interval_s": every})
    typer.echo(f"{source} is synchronised {f'every {every} s' if every else 'only when asked for'}.")


@app.command()
def sync(source: Id, kb: Kb = "default") -> None:
    """Synchronise a source now: fetch what changed, remove what is gone."""
    with open_api() as api:
        api.wait(Job.model_validate(api.post(kb_path(kb, "sources", source, "sync"))))
        every = [Source.model_validate(item) for item in api.pages(kb_path(kb, "sources"))]
    (found,) = (each for each in every if each.id == source)
    typer.echo(_result(found))
    if found.result and found.result.errors:
        print_table(("failed", "reason"), [(each.url, each.message) for each in found.result.errors])
        raise typer.Exit(1)


@app.command()
def remove(
    source: Id,
    kb: Kb = "default",
    keep: Annotated[bool, typer.Option("--keep", help="Keep its documents.")] = False,
) -> None:
    """Follow an address no more, and delete its documents."""
    with open_api() as api:
        api.delete(kb_path(kb, "sources", source), keep=keep)
    typer.echo(f"Removed {source}.")


def _result(source: Source) -> str:
    if source.result is None:
        return ""
    counts = source.result.model_dump(exclude={"errors"})
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing"
