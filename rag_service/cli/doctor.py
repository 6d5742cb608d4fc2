"""`rag-service doctor`: one line for each thing the service needs, and what to do where one is missing."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Check settings, folders, database, store, queue and models."""
    from rag_service.cli.checks import examine  # noqa: PLC0415 (loads stores and models)

    healthy = True
    for finding in examine():
        typer.echo(f"{'✓' if finding.ok else '✗'} {finding.name}: {finding.detail}")
        if finding.hint:
            typer.echo(f"  → {finding.hint}")
        healthy = healthy and finding.ok
    if not healthy:
        raise typer.Exit(1)
