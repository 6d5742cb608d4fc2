"""How does a knowledge base keep still while the API reads all of it, for a backup or an export?

By a job of the API's own that is under way already: no other job of the knowledge base begins beside it, and those
that run are waited for. Uploads are taken meanwhile and wait. The lease is extended as the reader takes what it gets,
so one that has gone, or is stuck, holds up nobody for long: a worker then ends the job.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from core.db import jobs
from core.db.models import Job, JobKind, JobStatus
from core.db.session import Database
from core.errors import RagError, Unavailable

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # a reader that takes nothing for so long is given up
TELL_EVERY_S = 5.0  # how often the lease is extended and the progress written down
LOOK_EVERY_S = 0.3
LONGEST_WAIT_S = 120.0  # for jobs that run already


class StillBusy(Unavailable):
    """Documents of this knowledge base are being read."""

    code = "still-busy"
    retry_after_s = 30.0


class Hold:
    """A knowledge base that keeps still.

    Call `tell` often and, before the result counts, with `done` equal to `total`: it raises `LeaseLost` if the time ran
    out, after which the knowledge base may have changed.
    """

    def __init__(self, database: Database, job_id: str, owner: str) -> None:
        self._database = database
        self._job_id = job_id
        self._owner = owner
        self._told = time.monotonic()

    async def tell(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._told < TELL_EVERY_S and done < total:
            return
        async with self._database.transaction() as session:
            await jobs.extend(session, self._job_id, owner=self._owner, lease=LEASE)
            await jobs.progress(session, self._job_id, owner=self._owner, stage=stage, done=done, total=total)
        self._told = time.monotonic()


@asynccontextmanager
async def holding(database: Database, kb_id: str, kind: JobKind) -> AsyncGenerator[Hold, None]:
    """The knowledge base keeps still in the block. Raises `StillBusy` if what runs there takes too long."""
    job, owner = Job(id=uuid.uuid4().hex, kb_id=kb_id, kind=kind), f"api:{uuid.uuid4().hex}"
    async with database.transaction() as session:
        await jobs.begin(session, job, owner=owner, lease=timedelta(seconds=LONGEST_WAIT_S) + LEASE)
    status, reason = JobStatus.CANCELLED, None
    try:
        await _wait_for_others(database, kb_id)
        yield Hold(database, job.id, owner)
        status = JobStatus.DONE
    except RagError as error:
        status = JobStatus.FAILED
        reason = error.reason
        raise
    finally:
        # In a task of its own: a reader that leaves cancels everything here, again and again.
        await asyncio.shield(asyncio.create_task(_end(database, job.id, owner, status, reason)))


async def _wait_for_others(database: Database, kb_id: str) -> None:
    until = time.monotonic() + LONGEST_WAIT_S
    while True:
        async with database.transaction() as session:
            if not await jobs.others_run(session, kb_id):
                return
        if time.monotonic() > until:
            raise StillBusy(hint="Try again when its jobs are done: `rag-service jobs list` shows them.")
        await asyncio.sleep(LOOK_EVERY_S)


async def _end(
    database: Database, job_id: str, owner: str, status: JobStatus, reason: dict[str, str | None] | None
) -> None:
    try:
        async with database.transaction() as session:
            await jobs.finish(session, job_id, owner=owner, status=status, error=reason)
    except RagError as error:  # a worker ends the job when its lease has run out
        log.warning("job %s: %s", job_id, error)
