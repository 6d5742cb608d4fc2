"""SQL about jobs: how work is handed out so that each piece is done, and by one worker at a time.

The rows are the truth; a message from the broker only says "look now". A worker that stops extending its
lease loses the job to another; every write that matters checks the lease again (`hold`).
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from core.db import documents
from core.db.models import (
    BUILDS,
    OF_THE_API,
    OPEN,
    UNFINISHED,
    WHOLE_KB,
    Job,
    JobKind,
    JobStatus,
    KnowledgeBase,
)
from core.errors import NotFound, RagError

RESIGNAL_AFTER = timedelta(seconds=10)
# Until a job is due or its lease ends: what lies further ahead is mended.
LONGEST_WAIT = timedelta(minutes=10)
BUSY_DELAY = timedelta(seconds=1)
SWITCHING = "switching"  # the stage of a job that has built a generation and waits to show it


class LeaseLost(RagError):
    """Another worker has taken over this job."""


class CancelAsked(RagError):
    """Somebody called this job off."""


def _due() -> Any:
    """Waiting and ripe, or running under a lease that ran out."""
    now = func.clock_timestamp()
    return or_(
        and_(Job.status == JobStatus.QUEUED, Job.run_after <= now),
        and_(Job.status == JobStatus.RUNNING, Job.lease_until < now),
    )


def _somebody_works() -> Any:
    worker = aliased(Job)
    return exists().where(
        worker.status == JobStatus.RUNNING,
        worker.lease_until >= func.clock_timestamp(),
        worker.kind.not_in(OF_THE_API),
    )


async def somebody_works(session: AsyncSession) -> bool:
    """Whether any worker holds a job."""
    return bool((await session.execute(select(_somebody_works()))).scalar_one())


async def get(session: AsyncSession, job_id: str, *, lock: bool = False) -> Job:
    """Raises `NotFound`."""
    job = await session.get(Job, job_id, with_for_update=lock)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


async def page(
    session: AsyncSession, kb_id: str | None, *, limit: int, after: str | None, status: str | None
) -> list[Job]:
    """Jobs of a knowledge base or all, newest first, those older than the job `after`."""
    query = select(Job) if kb_id is None else select(Job).where(Job.kb_id == kb_id)
    if status is not None:
        query = query.where(Job.status == status)
    if after is not None:
        last = await get(session, after)
        query = query.where(
            or_(Job.created_at < last.created_at, and_(Job.created_at == last.created_at, Job.id < last.id))
        )
    return list(
        (await session.execute(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit))).scalars()
    )


async def lock_claims(session: AsyncSession, kb_id: str) -> None:
    """Until the transaction ends, no worker begins a job of the knowledge base."""
    await documents.lock_content(session, f"claim in {kb_id}")


async def claim(
    session: AsyncSession, job_id: str, *, owner: str, lease: timedelta, per_kb: int = 0
) -> Job | None:
    """Take the job if it is due; None if it is not to be had.

    Jobs of one document never run at the same time, and a job of a whole knowledge base runs alone in it;
    at most `per_kb` documents of one (0: any number) are read at a time, and none of one that is paused or about
    to switch to another generation.
    A job that has to wait for that becomes due again after `BUSY_DELAY`.
    """
    job = await session.get(Job, job_id)
    if job is None:
        return None
    await lock_claims(session, job.kb_id)
    now = func.clock_timestamp()
    query = (
        update(Job)
        .where(Job.id == job_id, _due(), await _may_begin(session, per_kb))
        .values(
            status=JobStatus.RUNNING,
            lease_owner=owner,
            lease_until=now + lease,
            started_at=now,
            attempts=Job.attempts + 1,
            error=None,
        )
        .returning(Job)
        .execution_options(populate_existing=True)
    )
    claimed = (await session.execute(query)).scalar_one_or_none()
    if claimed is None:
        postponed = {"run_after": now + BUSY_DELAY, "signalled_at": None}
        await session.execute(update(Job).where(Job.id == job_id, _due()).values(**postponed))
    return claimed


async def _may_begin(session: AsyncSession, per_kb: int) -> ColumnElement[bool]:
    """Whether a job may begin beside those that run now."""
    query = select(Job.kb_id, Job.kind, Job.document_id, Job.stage).where(
        Job.status == JobStatus.RUNNING, Job.lease_until >= func.clock_timestamp()
    )
    running = (await session.execute(query)).all()
    whole = {job.kb_id for job in running if job.kind in WHOLE_KB}
    switching = {job.kb_id for job in running if job.kind in BUILDS and job.stage == SWITCHING}
    read = Counter(job.kb_id for job in running if job.kind == JobKind.INGEST)
    full = {kb_id for kb_id, number in read.items() if per_kb and number >= per_kb}
    read_now = {job.document_id for job in running if job.document_id is not None}
    paused = select(KnowledgeBase.id).where(KnowledgeBase.paused)
    return and_(
        Job.kb_id.not_in(whole),
        or_(Job.document_id.is_(None), Job.document_id.not_in(read_now)),
        or_(Job.kind.not_in(WHOLE_KB), Job.kb_id.not_in({job.kb_id for job in running})),
        or_(
            Job.kind != JobKind.INGEST,
            Job.cancelling,
            and_(Job.kb_id.not_in(full), Job.kb_id.not_in(paused), Job.kb_id.not_in(switching)),
        ),
    )


async def whose_turn(session: AsyncSession, *, per_kb: int = 0) -> str | None:
    """The id of the job to take now, or None if none may begin.

    Those who upload into a knowledge base, and its other jobs, take turns: next are those for whom the fewest jobs
    run, then those who have waited longest for their turn. Among their own jobs deletions and those that are called
    off come first, then the oldest.
    """
    is_ingest = and_(Job.kind == JobKind.INGEST, ~Job.cancelling)
    first = (
        select(Job.id, Job.kb_id, Job.uploader, Job.created_at)
        .where(_due(), await _may_begin(session, per_kb))
        .ext(distinct_on(Job.kb_id, Job.uploader))
        .order_by(Job.kb_id, Job.uploader, is_ingest, Job.created_at, Job.id)
        .subquery()
    )
    other = aliased(Job)
    theirs = and_(other.kb_id == first.c.kb_id, other.uploader == first.c.uploader)
    runs = and_(other.status == JobStatus.RUNNING, other.lease_until >= func.clock_timestamp())
    number = select(func.count()).where(theirs, runs).scalar_subquery()
    turn = select(func.max(other.started_at)).where(theirs).scalar_subquery()
    query = select(first.c.id).order_by(number, turn.nulls_first(), first.c.created_at).limit(1)
    return (await session.execute(query)).scalar_one_or_none()


async def begin(session: AsyncSession, job: Job, *, owner: str, lease: timedelta) -> None:
    """Add a job of a whole knowledge base that is under way already: from now on no other can be claimed there."""
    await lock_claims(session, job.kb_id)
    job.status, job.lease_owner, job.attempts = JobStatus.RUNNING, owner, 1
    session.add(job)
    await session.flush()
    await extend(session, job.id, owner=owner, lease=lease)


async def others_run(session: AsyncSession, kb_id: str) -> bool:
    """Whether a worker holds a job of the knowledge base that changes what readers see.

    Those that build another generation do not, before they switch; and they do not switch while the API reads.
    """
    query = exists().where(
        Job.kb_id == kb_id,
        Job.kind.not_in([*OF_THE_API, *BUILDS]),
        Job.status == JobStatus.RUNNING,
        Job.lease_until >= func.clock_timestamp(),
    )
    return bool((await session.execute(select(query))).scalar_one())


async def forbids_switch(session: AsyncSession, kb_id: str) -> bool:
    """Whether a document is being read, or all of the knowledge base, in the generation that readers see.

    A job whose worker fell silent counts: until another has it, that worker may still be at it.
    """
    query = exists().where(
        Job.kb_id == kb_id, Job.kind.in_([JobKind.INGEST, *WHOLE_KB]), Job.status == JobStatus.RUNNING
    )
    return bool((await session.execute(select(query))).scalar_one())


async def others_wait(session: AsyncSession, job_id: str, *, per_kb: int) -> bool:
    """Whether another job could begin now."""
    query = exists().where(Job.id != job_id, _due(), await _may_begin(session, per_kb))
    return bool((await session.execute(select(query))).scalar_one())


async def give_back(session: AsyncSession, job_id: str, *, owner: str) -> None:
    """Let other jobs have their turn, as if this one had not been tried; raises `LeaseLost`."""
    await _update_held(
        session,
        job_id,
        owner,
        status=JobStatus.QUEUED,
        attempts=Job.attempts - 1,
        run_after=func.clock_timestamp(),
        signalled_at=None,
        lease_owner=None,
        lease_until=None,
    )


async def extend(session: AsyncSession, job_id: str, *, owner: str, lease: timedelta) -> None:
    """Keep the lease; raises `LeaseLost` if it is no longer ours."""
    await _update_held(session, job_id, owner, lease_until=func.clock_timestamp() + lease)


async def hold(session: AsyncSession, job_id: str, *, owner: str) -> None:
    """Make sure the job is ours until this transaction ends; raises `LeaseLost`."""
    await _update_held(session, job_id, owner, lease_owner=owner)


async def progress(
    session: AsyncSession,
    job_id: str,
    *,
    owner: str,
    stage: str,
    done: int,
    total: int,
    percent: int | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Tell how far the job is (`percent` of it, without: the share of `total` that is done), and keep `detail` (if
    given) for a successor; raises `LeaseLost`, or `CancelAsked` if it was called off."""
    if percent is None:
        percent = 99 * done // max(total, 1)  # 100 is for jobs that are over
    values: dict[str, Any] = {"stage": stage, "done": done, "total": total, "percent": percent}
    if detail is not None:
        values["detail"] = detail
    if await _update_held(session, job_id, owner, **values):
        raise CancelAsked


async def cancel(session: AsyncSession, job: Job) -> None:
    """Have a worker end the job: the one that runs it at its next step, or the next that is free."""
    job.cancelling = True
    if job.status == JobStatus.QUEUED:
        job.run_after, job.signalled_at = datetime.now(UTC), None
    await session.flush()
    await session.refresh(job)


async def finish(
    session: AsyncSession,
    job_id: str,
    *,
    owner: str,
    status: JobStatus,
    error: dict[str, Any] | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """End the job, and keep `detail` (if given) for who tries it again; raises `LeaseLost`."""
    values: dict[str, Any] = {"status": status, "error": error, "finished_at": func.clock_timestamp()}
    if detail is not None:
        values["detail"] = detail
    if status == JobStatus.DONE:
        values |= {"stage": "finished", "percent": 100}
    await _update_held(session, job_id, owner, lease_owner=None, lease_until=None, **values)


async def retry_later(
    session: AsyncSession, job_id: str, *, owner: str, after: timedelta, error: dict[str, Any], counts: bool
) -> None:
    """Give the job back, to be tried again after a while; raises `LeaseLost`.

    `after` is at most `LONGEST_WAIT`. `counts`: whether this try counts among those a job has.
    """
    await _update_held(
        session,
        job_id,
        owner,
        status=JobStatus.QUEUED,
        attempts=Job.attempts - (0 if counts else 1),
        run_after=func.clock_timestamp() + after,
        signalled_at=None,
        lease_owner=None,
        lease_until=None,
        error=error,
    )


async def postpone(session: AsyncSession, kb_id: str, *, after: timedelta, error: dict[str, Any]) -> None:
    """Let the waiting jobs of the knowledge base wait this long, and say why."""
    until = func.clock_timestamp() + after
    await session.execute(
        update(Job)
        .where(Job.kb_id == kb_id, Job.status == JobStatus.QUEUED, Job.run_after < until)
        .values(run_after=until, signalled_at=None, error=error)
        .execution_options(synchronize_session=False)
    )


async def wait_no_longer(session: AsyncSession, kb_id: str) -> None:
    """What waiting jobs of the knowledge base waited for is no longer needed: they are due, and say nothing of it."""
    await session.execute(
        update(Job)
        .where(Job.kb_id == kb_id, Job.status == JobStatus.QUEUED)
        .values(run_after=func.least(Job.run_after, func.clock_timestamp()), signalled_at=None, error=None)
        .execution_options(synchronize_session=False)
    )


async def release(session: AsyncSession, *, owner: str) -> None:
    """Give back everything this worker holds, as if it had not been tried: it is stopping in order."""
    await session.execute(
        update(Job)
        .where(Job.lease_owner == owner, Job.status == JobStatus.RUNNING)
        .values(
            status=JobStatus.QUEUED,
            attempts=Job.attempts - 1,
            signalled_at=None,
            lease_owner=None,
            lease_until=None,
        )
    )


async def _update_held(session: AsyncSession, job_id: str, owner: str, **values: Any) -> bool:
    """Whether the job is called off; raises `LeaseLost`."""
    query = (
        update(Job)
        .where(Job.id == job_id, Job.lease_owner == owner, Job.status == JobStatus.RUNNING)
        .values(**values)
        .returning(Job.cancelling)
        .execution_options(synchronize_session=False)
    )
    cancelling = (await session.execute(query)).scalar_one_or_none()
    if cancelling is None:
        raise LeaseLost
    return cancelling


async def mend_times(session: AsyncSession) -> None:
    """Free what has times that the database's clock will not reach for long: somebody has put it back since.

    A job that waits is due; one that runs is its worker's if that worker extends the lease within a minute.
    """
    now = func.clock_timestamp()
    late = or_(Job.run_after > now + LONGEST_WAIT, Job.signalled_at > now + LONGEST_WAIT)
    await session.execute(
        update(Job)
        .where(Job.status == JobStatus.QUEUED, late)
        .values(run_after=func.least(Job.run_after, now), signalled_at=None)
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(Job)
        .where(Job.status == JobStatus.RUNNING, Job.lease_until > now + LONGEST_WAIT)
        .values(lease_until=now + timedelta(minutes=1), signalled_at=None)
        .execution_options(synchronize_session=False)
    )


async def take_unsignalled(session: AsyncSession, *, limit: int, per_kb: int = 0) -> list[str]:
    """Ids of due jobs whose signal is missing, oldest first; marks them as signalled.

    A signal is missing when none was sent (the API died before, or a retry became due), when the worker it
    went to let its lease run out, or when nobody works although jobs have waited for `RESIGNAL_AFTER`.
    Jobs that may not begin now are left out: who ends what they wait for takes them.
    Any number of sweepers may run: each row goes to one of them.
    """
    now = func.clock_timestamp()
    idle = ~_somebody_works()
    missing = or_(
        Job.signalled_at.is_(None),
        and_(Job.status == JobStatus.RUNNING, Job.signalled_at < Job.lease_until),
        and_(Job.signalled_at < now - RESIGNAL_AFTER, idle),
    )
    chosen = (
        select(Job.id)
        .where(_due(), missing, await _may_begin(session, per_kb))
        .order_by(Job.run_after, Job.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    query = (
        update(Job)
        .where(Job.id.in_(chosen))
        .values(signalled_at=now)
        .returning(Job.id, Job.created_at)
        .execution_options(synchronize_session=False)
    )
    rows = (await session.execute(query)).all()
    return [row.id for row in sorted(rows, key=lambda row: row.created_at)]


async def cancel_waiting(session: AsyncSession, kb_id: str, document_id: str | None = None) -> None:
    """Cancel jobs that no worker has started, of one document or all: a newer one makes them pointless."""
    chosen = Job.kb_id == kb_id if document_id is None else Job.document_id == document_id
    await session.execute(
        update(Job)
        .where(chosen, Job.status == JobStatus.QUEUED)
        .values(status=JobStatus.CANCELLED, finished_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


async def signal_again(session: AsyncSession, kb_id: str) -> None:
    """Signals of waiting jobs may have come while none of them could begin."""
    await session.execute(
        update(Job)
        .where(Job.kb_id == kb_id, Job.status == JobStatus.QUEUED)
        .values(signalled_at=None)
        .execution_options(synchronize_session=False)
    )


async def dismiss_failed(session: AsyncSession, kb_id: str, document_id: str | None = None) -> None:
    """Nobody will try again the failed jobs, of one document or all: a newer one makes them pointless."""
    chosen = Job.kb_id == kb_id if document_id is None else Job.document_id == document_id
    await session.execute(
        update(Job)
        .where(chosen, Job.status == JobStatus.FAILED)
        .values(status=JobStatus.DISMISSED)
        .execution_options(synchronize_session=False)
    )


async def failed_ids(
    session: AsyncSession, kb_id: str | None = None, *, older_than: timedelta = timedelta(0)
) -> list[str]:
    """Failed jobs, of one knowledge base or all, oldest first."""
    query = select(Job.id).where(
        Job.status == JobStatus.FAILED, Job.finished_at <= func.clock_timestamp() - older_than
    )
    if kb_id is not None:
        query = query.where(Job.kb_id == kb_id)
    return list((await session.execute(query.order_by(Job.finished_at))).scalars())


async def is_superseded(session: AsyncSession, job: Job) -> bool:
    """Whether a later job of its document was not in vain."""
    query = exists().where(
        Job.document_id == job.document_id,
        Job.created_at > job.created_at,
        Job.status.in_([*OPEN, JobStatus.DONE]),
    )
    return bool((await session.execute(select(query))).scalar_one())


def queue_again(job: Job) -> None:
    """As if it had never been tried."""
    job.status, job.stage, job.attempts, job.error = JobStatus.QUEUED, "waiting", 0, None
    job.done = job.total = job.percent = 0
    job.cancelling = False
    job.signalled_at = job.finished_at = None
    job.run_after = datetime.now(UTC)


async def targets_of_unfinished_moves(session: AsyncSession, kb_id: str) -> set[str]:
    """The stores that moves of the knowledge base began, perhaps, to copy to."""
    query = select(Job.detail).where(
        Job.kb_id == kb_id, Job.kind == JobKind.MOVE_KB, Job.status != JobStatus.DONE
    )
    return {detail["to"] for detail in (await session.execute(query)).scalars() if detail}


async def oldest_waiting_s(session: AsyncSession) -> float | None:
    """Seconds that the longest-waiting due job has waited; None if none is due."""
    query = select(func.extract("epoch", func.clock_timestamp() - func.min(Job.run_after))).where(_due())
    age = (await session.execute(query)).scalar_one()
    return None if age is None else float(age)


async def counts(session: AsyncSession) -> dict[tuple[str, str], int]:
    """How many jobs of each kind wait, run or failed, by kind and status; those that are over are not counted."""
    query = (
        select(Job.kind, Job.status, func.count())
        .where(Job.status.in_(UNFINISHED))
        .group_by(Job.kind, Job.status)
    )
    return {(kind, status): number for kind, status, number in (await session.execute(query)).all()}


async def newest_open(session: AsyncSession, document_id: str) -> Job | None:
    """The newest job of the document that is not over, or None."""
    return await _newest_open(session, Job.document_id == document_id)


async def is_any_open(session: AsyncSession, kb_id: str, document_id: str | None = None) -> bool:
    """Whether a job of the knowledge base waits or runs; with `document_id`: one of the document or of the whole."""
    chosen = Job.kb_id == kb_id
    if document_id is not None:
        chosen = and_(chosen, or_(Job.document_id == document_id, Job.kind.in_(WHOLE_KB)))
    query = exists().where(chosen, Job.status.in_(OPEN))
    return bool((await session.execute(select(query))).scalar_one())


async def is_whole_kb_open(session: AsyncSession, kb_id: str) -> bool:
    """Whether a job of the knowledge base as a whole waits or runs."""
    query = exists().where(
        Job.kb_id == kb_id,
        Job.kind.in_(WHOLE_KB),
        Job.status.in_(OPEN),
    )
    return bool((await session.execute(select(query))).scalar_one())


async def open_of_kb(session: AsyncSession, kb_id: str, *kinds: str) -> Job | None:
    """The newest job of these kinds that waits or runs for the knowledge base, or None."""
    return await _newest_open(session, Job.kb_id == kb_id, Job.kind.in_(kinds))


async def _newest_open(session: AsyncSession, *chosen: ColumnElement[bool]) -> Job | None:
    query = select(Job).where(*chosen, Job.status.in_(OPEN)).order_by(Job.created_at.desc()).limit(1)
    return (await session.execute(query)).scalar_one_or_none()
