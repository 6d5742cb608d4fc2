"""SQL about checks: which are asked for, which one is due, and who is at it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import documents
from core.db.jobs import LONGEST_WAIT
from core.db.models import Check, CheckStatus
from core.errors import NotFound

KEPT = 30  # checks whose reports are kept


async def ask(session: AsyncSession, *, mend: bool, foreign: bool) -> Check:
    """Queue a check."""
    check = Check(id=uuid.uuid4().hex, mend=mend, foreign=foreign)
    session.add(check)
    await session.flush()
    await session.refresh(check)
    return check


async def get(session: AsyncSession, check_id: str) -> Check:
    """Raises `NotFound`."""
    check = await session.get(Check, check_id)
    if check is None:
        raise NotFound(f"There is no check {check_id}.", hint=f"The newest {KEPT} are kept.")
    return check


async def newest(session: AsyncSession, *, limit: int) -> list[Check]:
    query = select(Check).order_by(Check.created_at.desc(), Check.id.desc()).limit(limit)
    return list((await session.execute(query)).scalars())


async def last_report(session: AsyncSession) -> Check | None:
    """The newest check that came to its end, or None."""
    query = select(Check).where(Check.status == CheckStatus.DONE).order_by(Check.finished_at.desc()).limit(1)
    return (await session.execute(query)).scalar_one_or_none()


async def ask_if_due(session: AsyncSession, *, every: timedelta, mend: bool) -> None:
    """Queue a check unless there is one that is younger than `every`."""
    await documents.lock_content(session, "checks")
    now = func.clock_timestamp()
    # Not one that lies ahead: the clock may have gone back.
    young = exists().where(Check.created_at.between(now - every, now))
    if not (await session.execute(select(young))).scalar_one():
        await ask(session, mend=mend, foreign=False)


async def take(session: AsyncSession, *, owner: str, lease: timedelta) -> Check | None:
    """The oldest check that waits, or whose worker fell silent; None if there is none or one is under way."""
    await documents.lock_content(session, "checks")
    now = func.clock_timestamp()
    # Further ahead than any lease the clock went back, and the worker may be long gone.
    is_held = Check.lease_until.between(now, now + LONGEST_WAIT)
    under_way = exists().where(Check.status == CheckStatus.RUNNING, is_held)
    if (await session.execute(select(under_way))).scalar_one():
        return None
    waiting = Check.status.in_([CheckStatus.QUEUED, CheckStatus.RUNNING])
    query = select(Check).where(waiting).order_by(Check.created_at).limit(1)
    check = (await session.execute(query)).scalar_one_or_none()
    if check is not None:
        await session.execute(
            update(Check)
            .where(Check.id == check.id)
            .values(status=CheckStatus.RUNNING, lease_owner=owner, lease_until=now + lease)
        )
    return check


async def extend(session: AsyncSession, check_id: str, *, owner: str, lease: timedelta) -> bool:
    """Whether the check is still ours; if so the lease is kept."""
    return await _update_held(session, check_id, owner, lease_until=func.clock_timestamp() + lease)


async def finish(
    session: AsyncSession,
    check_id: str,
    *,
    owner: str,
    report: dict[str, Any] | None,
    error: dict[str, Any] | None,
) -> None:
    """Keep what came out (one of the two), and forget the oldest checks."""
    status = CheckStatus.FAILED if error else CheckStatus.DONE
    over = {"status": status, "finished_at": func.clock_timestamp(), "lease_owner": None, "lease_until": None}
    await _update_held(session, check_id, owner, report=report, error=error, **over)
    newest_ids = select(Check.id).order_by(Check.created_at.desc()).limit(KEPT)
    await session.execute(delete(Check).where(Check.id.not_in(newest_ids)))


async def release(session: AsyncSession, *, owner: str) -> None:
    """Give back the check that this worker is at: it is stopping in order."""
    await session.execute(
        update(Check)
        .where(Check.lease_owner == owner, Check.status == CheckStatus.RUNNING)
        .values(status=CheckStatus.QUEUED, lease_owner=None, lease_until=None)
    )


async def _update_held(session: AsyncSession, check_id: str, owner: str, **values: Any) -> bool:
    held = (Check.id == check_id, Check.lease_owner == owner, Check.status == CheckStatus.RUNNING)
    result = await session.execute(update(Check).where(*held).values(**values))
    return bool(result.rowcount)  # type: ignore[attr-defined]
