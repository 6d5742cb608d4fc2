"""`rag-service migrate | api | worker`: the parts of the service, for `up`, containers and clusters."""

from __future__ import annotations

import asyncio

from core.settings import load_settings


def migrate() -> None:
    """Bring the database to this version; on the first start make the admin key."""
    from rag_service.first_start import prepare  # noqa: PLC0415 (commands import what they need)

    asyncio.run(prepare(load_settings()))


def api() -> None:
    """Run the API in this process."""
    import uvicorn  # noqa: PLC0415

    from rag_service.app import create_app  # noqa: PLC0415

    settings = load_settings()
    uvicorn.run(
        create_app(settings),
        host=settings.server.host,
        port=settings.server.port,
        log_level=settings.log_level,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def worker() -> None:
    """Run one worker in this process."""
    from rag_service.local.processes import step_back  # noqa: PLC0415

    settings = load_settings()
    if settings.worker.nice:
        step_back(settings.worker.nice)  # before the imports below: libraries start threads
    from rag_service.worker import run_worker  # noqa: PLC0415

    run_worker(settings)
