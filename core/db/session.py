"""How the service reaches its database: one engine for a process, one transaction for a request or step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.sql import text

from core.connections import is_closed
from core.errors import DatabaseUnavailable, InvalidValue


def driver_url(url: str) -> str:
    """`postgresql://…` with the driver that SQLAlchemy is to use."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace(
        "postgres://", "postgresql+psycopg://", 1
    )


class Database:
    """Opens sessions on one PostgreSQL database. A transaction may last `timeout_s` seconds: most are short."""

    def __init__(self, url: str, *, pool_size: int = 5, timeout_s: float = 30.0) -> None:
        self._timeout_s = timeout_s
        self._engine: AsyncEngine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,  # seconds
            connect_args={"connect_timeout": 10},
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_closed)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._readers = async_sessionmaker(self._engine.execution_options(isolation_level="AUTOCOMMIT"))

    @asynccontextmanager
    async def transaction(self, *, timeout_s: float | None = None) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed at the end of the block, or rolled back if the block raises.

        Raises what `reading` does; the block may take `timeout_s` (default: the database's).
        """
        async with self._in_words(timeout_s), self._sessions.begin() as session:
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads. Each statement sees what is committed when it begins, as in a transaction, but is
        not put between BEGIN and COMMIT, which would be two more messages to the server.

        Raises `DatabaseUnavailable` (retryable) when the server does not answer or the block takes longer than
        the database's time-out, `InvalidValue` for a value that no column can hold.
        """
        async with self._in_words(None), self._readers() as session:
            yield session

    @asynccontextmanager
    async def _in_words(self, timeout_s: float | None) -> AsyncIterator[None]:
        """The time for a block, and its errors as ours."""
        longest = self._timeout_s if timeout_s is None else timeout_s
        limit = asyncio.timeout(longest)
        try:
            async with limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise unavailable(TimeoutError(f"no answer within {longest:g} s")) from error
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise unavailable(error) from error
        except DataError as error:
            raise InvalidValue(
                f"The database cannot keep a value ({_first_line(error)}).",
                hint="Is there a NUL character in it?",
            ) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise unavailable(error) from error
            raise

    async def ping(self) -> None:
        async with self.transaction() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self._engine.dispose()


def _refuse_closed(connection: Any, _record: Any, _checked_out: Any) -> None:
    """A connection that the server has closed is exchanged for a new one: its restart costs no request.

    SQLAlchemy's `pool_pre_ping` would ask the server, once more for each statement.
    """
    if is_closed(connection.driver_connection.fileno()):
        raise DisconnectionError("The server has closed the connection.")


def unavailable(error: Exception) -> DatabaseUnavailable:
    """The error of ours for a driver's `error`, whose first line it quotes."""
    return DatabaseUnavailable(
        f"The database does not answer ({_first_line(error)}).",
        hint="Check RAG_DATABASE__URL and that PostgreSQL is running.",
    )


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
