"""`/health` and `/ready`: does the process live, and can it do its work? Neither needs a key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from importlib.metadata import version

from fastapi import APIRouter, Response

from core.db import jobs, kbs
from core.errors import RagError
from rag_service.api import schemas
from rag_service.api.deps import Services
from rag_service.wiring import ApiServices

router = APIRouter(tags=["health"])
LONGEST_CHECK_S = 5.0
LONGEST_WAIT_S = 60.0  # a due job that waited longer, while nobody works, means that there is no worker


@router.get("/health")
async def health() -> schemas.Health:
    """The process lives."""
    return schemas.Health(status="ok", version=version("rag-service"))


@router.get("/ready", responses={503: {"model": schemas.Ready}})
async def ready(services: Services, response: Response) -> schemas.Ready:
    """Database and default store answer (else 503), and how the workers and other stores that hold something do."""
    checks = {"database": await _check(services.database.ping())}
    used = await _stores_in_use(services) if checks["database"] == "ok" else set()
    pings = {kind: _ping_store(services, kind) for kind in sorted(used | {services.settings.store.kind})}
    answers = await asyncio.gather(*map(_check, pings.values()))
    checks |= {f"store {kind}": answer for kind, answer in zip(pings, answers, strict=True)}
    needed = ("database", f"store {services.settings.store.kind}")
    is_ready = all(checks[name] == "ok" for name in needed)
    checks["worker"] = await _worker(services) if checks["database"] == "ok" else "unknown"
    if not is_ready:
        response.status_code = 503
    return schemas.Ready(status="ready" if is_ready else "not-ready", checks=checks)


async def _check(ping: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(LONGEST_CHECK_S):
            await ping
    except RagError as error:
        return error.message
    except TimeoutError:
        return f"does not answer within {LONGEST_CHECK_S:g} s"
    return "ok"


async def _stores_in_use(services: ApiServices) -> set[str]:
    async with services.database.transaction() as session:
        return await kbs.stores(session)


async def _ping_store(services: ApiServices, kind: str) -> None:
    await (await services.stores.get(kind)).ping()


async def _worker(services: ApiServices) -> str:
    async with services.database.transaction() as session:
        waiting = await jobs.oldest_waiting_s(session)
        busy = await jobs.somebody_works(session)
    if waiting is not None and waiting > LONGEST_WAIT_S and not busy:
        return f"jobs have waited for {waiting:.0f} s; start a worker (`rag-service worker`)"
    return "ok"
