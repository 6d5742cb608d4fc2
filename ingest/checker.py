"""When is a check due, and which worker runs it? One at a time, for all workers together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from core.db import checks
from core.db.models import Check
from core.db.session import Database
from core.errors import RagError
from ingest.fsck import Fsck, Report, as_json

log = logging.getLogger(__name__)
LEASE = timedelta(seconds=60)  # a check whose worker is silent for so long goes to another, which begins anew


class Checker:
    """Runs the checks that were asked for, and asks for one whenever none is younger than `every`."""

    def __init__(
        self,
        *,
        database: Database,
        make_fsck: Callable[[bool, bool], Fsck],
        owner: str,
        every: timedelta | None,
        mend: bool,
    ) -> None:
        self._database = database
        self._make_fsck = make_fsck
        self._owner = owner
        self._every = every
        self._mend = mend

    async def run_due(self) -> bool:
        """Run a check if one is due; whether one was."""
        async with self._database.transaction() as session:
            if self._every is not None:
                await checks.ask_if_due(session, every=self._every, mend=self._mend)
            check = await checks.take(session, owner=self._owner, lease=LEASE)
        if check is None:
            return False
        work = asyncio.create_task(self._run(check))
        beat = asyncio.create_task(self._keep_lease(check, work))
        try:
            await asyncio.wait([work])
        finally:
            beat.cancel()
            work.cancel()
        if not work.cancelled():
            work.result()  # raises what kept it from being written down
        return True

    async def stop(self) -> None:
        """Give back the check that was under way; call it when `run_due` was cancelled."""
        async with self._database.transaction() as session:
            await checks.release(session, owner=self._owner)

    async def _run(self, check: Check) -> None:
        report, error = None, None
        try:
            found = await self._make_fsck(check.mend, check.foreign).run()
            _tell(found)
            report = as_json(found)
        except RagError as failure:
            log.warning("The check broke off: %s", failure)
            error = failure.reason
        except Exception:
            log.exception("The check broke")
            error = {
                "code": "internal",
                "message": "The check broke.",
                "hint": "The worker's log has the details.",
            }
        async with self._database.transaction() as session:
            await checks.finish(session, check.id, owner=self._owner, report=report, error=error)

    async def _keep_lease(self, check: Check, work: asyncio.Task[None]) -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            try:
                async with self._database.transaction() as session:
                    if await checks.extend(session, check.id, owner=self._owner, lease=LEASE):
                        continue
            except RagError as error:
                log.warning("The check goes on without its database: %s", error)
                continue
            work.cancel()
            return


def _tell(report: Report) -> None:
    counts = ", ".join(
        f"{number} {trouble.value}" for trouble, number in sorted(report.found.items()) if number
    )
    level = logging.WARNING if report.problems or report.unchecked else logging.INFO
    log.log(
        level,
        "Rows, files and stores: %d problems (found: %s; mended: %d; not checked: %d).%s",
        report.problems,
        counts or "nothing",
        report.mended.total(),
        len(report.unchecked),
        " Mend them: rag-service fsck --mend" if report.problems else "",
    )
