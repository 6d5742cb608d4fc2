"""Is a reading session no transaction, a transaction still one after it on the same connection, and a dead one gone?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import text

from core.db.session import Database
from core.errors import DatabaseUnavailable


@pytest_asyncio.fixture
async def database(prepared_url: str) -> AsyncIterator[Database]:
    database = Database(prepared_url, pool_size=1, timeout_s=5)
    yield database
    await database.close()


async def state_of(database: Database, pid: int) -> str:
    """What the server says of the session `pid`, which does nothing now."""
    async with database.transaction() as session:
        query = text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
        return str((await session.execute(query, {"pid": pid})).scalar_one())


async def pid_of(session: AsyncSession) -> int:
    return int((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def test_reading_leaves_no_transaction_open(prepared_url: str, database: Database) -> None:
    watcher = Database(prepared_url, pool_size=1)
    async with database.reading() as session:
        assert await state_of(watcher, await pid_of(session)) == "idle"
    async with database.transaction() as session:
        assert await state_of(watcher, await pid_of(session)) == "idle in transaction"
    await watcher.close()


async def test_a_transaction_on_the_same_connection_is_undone_as_before(database: Database) -> None:
    async with database.reading() as session:
        reader = await pid_of(session)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as session:
            assert await pid_of(session) == reader
            await session.execute(text("CREATE TABLE left_over (n int)"))
            raise ZeroDivisionError
    async with database.reading() as session:
        assert (await session.execute(text("SELECT to_regclass('left_over')"))).scalar_one() is None


async def test_a_connection_that_the_server_has_closed_costs_no_request(
    prepared_url: str, database: Database
) -> None:
    async with database.reading() as session:
        pid = await pid_of(session)
    server = psutil.Process(pid)
    watcher = Database(prepared_url, pool_size=1)
    async with watcher.reading() as session:
        await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    await watcher.close()
    await asyncio.to_thread(server.wait, timeout=10)
    async with database.transaction() as session:
        assert await pid_of(session) != pid


@pytest.mark.parametrize("kind", ["reading", "transaction"])
async def test_a_server_that_is_too_slow_is_unavailable(prepared_url: str, kind: str) -> None:
    database = Database(prepared_url, timeout_s=0.5)
    with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.5 s"):
        async with getattr(database, kind)() as session:
            await session.execute(text("SELECT pg_sleep(30)"))
    await database.close()
