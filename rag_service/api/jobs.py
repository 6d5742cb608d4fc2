"""`/jobs`: what workers do, with live progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Query
from sse_starlette import EventSourceResponse

from core.db import jobs, kbs
from core.db.models import Job
from core.errors import RagError
from rag_service.api import schemas
from rag_service.api.deps import AdminKey, AnyKey, Cursor, Limit, Services, encode_cursor
from rag_service.wiring import ApiServices

router = APIRouter(tags=["jobs"])
Status = Annotated[Literal["queued", "running", "done", "failed", "cancelled", "dismissed"] | None, Query()]
LOOK_EVERY_S = 0.3  # how often a progress stream reads the job


def job_schema(job: Job) -> schemas.Job:
    return schemas.Job.model_validate(job, from_attributes=True)


@router.get("/kbs/{kb}/jobs")
async def list_jobs(
    services: Services,
    _: AnyKey,
    kb: str,
    cursor: Cursor,
    limit: Limit = 50,
    status: Status = None,
) -> schemas.Page[schemas.Job]:
    """Jobs of a knowledge base, newest first."""
    async with services.database.transaction() as session:
        found_kb = await kbs.by_name(session, kb)
        found = await jobs.page(session, found_kb.id, limit=limit + 1, after=cursor, status=status)
    return _page(found, limit)


@router.get("/jobs")
async def list_all_jobs(
    services: Services, _: AnyKey, cursor: Cursor, limit: Limit = 50, status: Status = None
) -> schemas.Page[schemas.Job]:
    """Jobs of all knowledge bases, newest first. `status=failed` are those that wait for somebody to look."""
    async with services.database.transaction() as session:
        found = await jobs.page(session, None, limit=limit + 1, after=cursor, status=status)
    return _page(found, limit)


def _page(found: list[Job], limit: int) -> schemas.Page[schemas.Job]:
    items = [job_schema(job) for job in found[:limit]]
    return schemas.Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(found) > limit else None)


@router.post("/jobs/retry", status_code=202)
async def retry_jobs(
    services: Services, _: AdminKey, body: schemas.FailedJobs, after: BackgroundTasks
) -> schemas.Retried:
    """Queue all failed jobs again. Those that cannot be are left as they are, with the reasons."""
    results = await services.intake.retry_all(await _kb_id(services, body))
    after.add_task(services.signals.sweep)
    refused = [str(result) for result in results if isinstance(result, RagError)]
    return schemas.Retried(jobs=len(results) - len(refused), refused=refused)


@router.post("/jobs/dismiss")
async def dismiss_jobs(services: Services, _: AdminKey, body: schemas.FailedJobs) -> schemas.Dismissed:
    """Give up all failed jobs, and delete their files."""
    return schemas.Dismissed(jobs=await services.intake.dismiss_all(await _kb_id(services, body)))


@router.post("/jobs/{job_id}/retry", status_code=202)
async def retry_job(services: Services, _: AdminKey, job_id: str, after: BackgroundTasks) -> schemas.Job:
    """Queue a failed job again: its file was kept."""
    job = await services.intake.retry(job_id)
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.post("/jobs/{job_id}/cancel", status_code=202)
async def cancel_job(services: Services, _: AdminKey, job_id: str, after: BackgroundTasks) -> schemas.Job:
    """Call a job off that waits or runs. A worker undoes what was done so far, then the job is `cancelled`: of a
    document the version before stays, if there is one; of a move the knowledge base stays where it is."""
    job = await services.intake.cancel(job_id)
    after.add_task(services.signals.sweep)
    return job_schema(job)


@router.post("/jobs/{job_id}/dismiss")
async def dismiss_job(services: Services, _: AdminKey, job_id: str) -> schemas.Job:
    """Give up a failed job, and delete its file."""
    return job_schema(await services.intake.dismiss(job_id))


async def _kb_id(services: ApiServices, body: schemas.FailedJobs) -> str | None:
    if body.kb is None:
        return None
    async with services.database.transaction() as session:
        return (await kbs.by_name(session, body.kb)).id


@router.get("/jobs/{job_id}")
async def get_job(services: Services, _: AnyKey, job_id: str) -> schemas.Job:
    """One job: stage, counts, percent, and the error in words if it failed."""
    return await _read(services, job_id)


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
async def job_events(services: Services, _: AnyKey, job_id: str) -> EventSourceResponse:
    """Progress as server-sent events `progress` (data: the job), until the job is over."""
    first = await _read(services, job_id)
    return EventSourceResponse(_progress(services, first), ping=15)


async def _read(services: ApiServices, job_id: str) -> schemas.Job:
    async with services.database.transaction() as session:
        return job_schema(await jobs.get(session, job_id))


async def _progress(services: ApiServices, job: schemas.Job) -> AsyncIterator[dict[str, Any]]:
    yield {"event": "progress", "data": job.model_dump_json()}
    while job.status not in schemas.FINAL:
        await asyncio.sleep(LOOK_EVERY_S)
        now = await _read(services, job.id)
        if now != job:
            job = now
            yield {"event": "progress", "data": job.model_dump_json()}
