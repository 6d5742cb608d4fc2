"""The worker that is at a job is killed three times at random moments, and a store's server once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import httpx
from books import is_over
from running import StoreProcess
from up_service import UpService, eventually

KILLS = 3


def kill_again_and_again(
    service: UpService,
    server: StoreProcess | None,
    client: httpx.Client,
    job_id: str,
    moments: random.Random,
    *,
    longest_s: float,
    before_kill: Callable[[], None] = lambda: None,
) -> None:
    """`longest_s`: between the beginning of an attempt and its kill. `server` None: the service's own is spared."""
    for number in range(KILLS):
        eventually(lambda: works_at(service, job_id))
        time.sleep(moments.uniform(0, longest_s))
        if number == 1 and server is not None:
            server.kill()
            eventually(lambda: waits_for_store(client, job_id))
            server.start()
            eventually(lambda: works_at(service, job_id))
        before_kill()
        assert not is_over(client, job_id)
        service.part("worker").kill()


def works_at(service: UpService, job_id: str) -> bool:
    """Whether the worker that lives holds the job."""
    owners = service.rows("SELECT lease_owner FROM jobs WHERE status = 'running' AND id = %s", job_id)
    return any(owner.split(":")[1] == str(service.part("worker").pid) for (owner,) in owners)


def waits_for_store(client: httpx.Client, job_id: str) -> bool:
    job = client.get(f"/jobs/{job_id}").json()
    return job["status"] == "queued" and (job["error"] or {}).get("code") == "store-unavailable"
