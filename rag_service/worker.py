"""The worker process: a Celery worker whose tasks run jobs on one event loop, and a sweeper beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from celery.platforms import SecurityWarning
from celery.signals import worker_shutting_down

from core.errors import RagError
from core.settings import Settings
from ingest.queue import QUEUE, RUN_JOB, make_celery
from rag_service.wiring import WorkerServices, celery_broker, database_url, open_worker

log = logging.getLogger(__name__)
T = TypeVar("T")
SWEEP_EVERY_S = 2.0
CHECK_EVERY_S = 2.0  # between two looks whether a check is due


class _Loop:
    """An event loop in a thread of its own: the one place where Celery's threads meet our coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.submit(coroutine).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; jobs under way are given back, to be taken up by the next worker."""
    loop = _Loop()
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    opened = open_worker(settings, owner=owner)
    services = loop.run(opened.__aenter__())
    beside = [
        loop.submit(_for_ever(partial(_sweep, services), every_s=SWEEP_EVERY_S, what="sweeping")),
        loop.submit(_for_ever(partial(_check, services), every_s=CHECK_EVERY_S, what="checking")),
    ]
    try:
        _serve(settings, services, loop)
    finally:
        for each in beside:
            each.cancel()
        loop.run(services.runner.stop())
        loop.run(services.checker.stop())
        loop.run(opened.__aexit__(None, None, None))
        loop.close()


def _serve(settings: Settings, services: WorkerServices, loop: _Loop) -> None:
    app = make_celery(database_url=database_url(settings), broker_url=celery_broker(settings))

    @app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        loop.run(services.runner.work())

    def stop(**_: object) -> None:
        loop.submit(services.runner.stop())  # else Celery would wait for long jobs to end

    worker_shutting_down.connect(stop, weak=False)
    # Celery warns of root because of pickled messages; ours are JSON with a job's id.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = app.Worker(
        pool="threads",
        concurrency=settings.worker.concurrency,
        queues=[QUEUE],
        loglevel=settings.log_level.upper(),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()


async def _sweep(services: WorkerServices) -> None:
    """Queue what is due and send signals that are missing: after a crash of anything, work goes on."""
    await services.syncer.queue_due()
    await services.signals.sweep()


async def _check(services: WorkerServices) -> None:
    """Forget what failed long ago; compare rows, files and stores if that is due."""
    await services.forget_failed()
    await services.checker.run_due()


async def _for_ever(step: Callable[[], Awaitable[None]], *, every_s: float, what: str) -> None:
    """One after the other, so that one that takes long is not joined by others."""
    while True:
        try:
            await step()
        except RagError as error:
            log.warning("%s again soon: %s", what, error)
        await asyncio.sleep(every_s)
