"""How workers are told that there is work: Celery tasks that carry a job's id and nothing else.

The broker is only a signal. The default one is a queue in the service's own PostgreSQL (pgmq); a message
that is lost costs a few seconds until the sweeper sends it again, one that comes twice finds nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import psycopg
from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import pgmq
from pgmq.install import install_pgmq_from_sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core.db import jobs
from core.db.session import Database

log = logging.getLogger(__name__)

RUN_JOB = "rag.run_job"
QUEUE = "rag_jobs"
# A message that a killed worker had fetched but not begun comes back after this time.
VISIBILITY_TIMEOUT_S = 120
# PostgreSQL advisory lock that keeps two starting machines apart; any number, never changed.
INSTALL_LOCK = 7_246_171


class _Channel(pgmq.Channel):
    """kombu's (5.7), and a message that could not be acknowledged does not occupy the worker for ever.

    kombu counts it as being worked on until the connection is given up, which pgmq's pool never does. The message
    itself comes back after its visibility timeout and finds nothing to do.
    """

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        try:
            super().basic_ack(delivery_tag, multiple)  # type: ignore[no-untyped-call]
        except psycopg.Error:
            self.qos.ack(delivery_tag)
            raise


class Transport(pgmq.Transport):
    """Celery's way to the queue in PostgreSQL."""

    Channel = _Channel


def make_celery(*, database_url: str, broker_url: str | None) -> Celery:
    """The Celery app for sending and for working: results are not kept, the database has them."""
    transport: dict[str, Any] = {"visibility_timeout": VISIBILITY_TIMEOUT_S}
    if broker_url is None:
        transport |= {
            # key=value form: pgmq does not find a Unix socket in a URL
            "conn_string": make_conninfo("", **conninfo_to_dict(database_url)),
            "init_extension": False,  # the schema is made by `install_queue`
            "pool_size": 2,
            "wait_time_seconds": 5,
        }
    app = Celery("rag", broker=broker_url or "pgmq://localhost", set_as_current=False)
    app.conf.update(
        broker_transport=None if broker_url else f"{__name__}:{Transport.__name__}",
        broker_transport_options=transport,
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=False,  # the lease in the database, not the message, protects running work
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    return app


def install_queue(database_url: str) -> None:
    """Make pgmq's tables and functions in the database, unless they are there; concurrent calls wait for each other."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [INSTALL_LOCK])
        present = connection.execute("SELECT to_regnamespace('pgmq') IS NOT NULL").fetchone()
        if present is None or not present[0]:
            install_pgmq_from_sql(conn=connection)


class Signals:
    """Sends signals. A broker that is away is not an error: the sweeper tries again."""

    def __init__(self, app: Celery, database: Database, *, per_kb: int = 0) -> None:
        self._app = app
        self._per_kb = per_kb
        self._database = database

    async def sweep(self, *, limit: int = 100) -> int:
        """Send the signals that are missing; return how many jobs that were."""
        async with self._database.transaction() as session:
            await jobs.mend_times(session)
            job_ids = await jobs.take_unsignalled(session, limit=limit, per_kb=self._per_kb)
        if job_ids:
            await asyncio.to_thread(self._send, job_ids)
        return len(job_ids)

    def _send(self, job_ids: Sequence[str]) -> None:
        try:
            for job_id in job_ids:
                self._app.send_task(RUN_JOB, args=[job_id], retry=False)
        except (OperationalError, psycopg.Error) as error:
            log.warning("the broker does not answer, the sweeper will try again: %s", error)

    def close(self) -> None:
        self._app.close()
