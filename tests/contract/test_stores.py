"""Does each store fulfil the contract? One class and one fixture for each store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
from store_contract import StoreContract

from stores.base import VectorStore
from stores.memory import MemoryStore
from stores.pgvector import PgVectorStore


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> VectorStore:
        store = MemoryStore()
        await store.open()
        return store

    @pytest.fixture
    def unreachable_store(self) -> None:
        return None


@pytest.fixture(scope="module")
def shared_database_url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """One database for all tests here: making one for each would take longer than the tests."""
    with new_database() as url:
        yield url


class TestPgVectorStore(StoreContract):
    @pytest.fixture
    async def store(self, shared_database_url: str) -> AsyncIterator[VectorStore]:
        store = PgVectorStore(shared_database_url, 3)
        await store.open()
        yield store
        await store.close()
        await drop_everything(shared_database_url)

    @pytest.fixture
    def unreachable_store(self) -> VectorStore:
        return PgVectorStore("postgresql://nobody@127.0.0.1:1/none", 1, timeout_s=2)


async def drop_everything(url: str) -> None:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        await connection.execute("DROP SCHEMA vectors CASCADE")
