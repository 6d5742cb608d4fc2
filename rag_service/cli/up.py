"""`rag-service up`: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import typer

from core.settings import load_settings


def up() -> None:
    """Run database, API and worker on this machine until Ctrl-C."""
    from rag_service.local.supervisor import run  # noqa: PLC0415 (other commands do not need it)

    run(load_settings(), say=typer.echo)
