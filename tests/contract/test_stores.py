"""Do the exact store and pgvector do everything that a store must? The other stores are in `tests/stores`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from store_spec import StoreSpec, Subject

from stores.memory import MemoryStore
from stores.pgvector import PgVectorStore


class TestMemoryStore(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Subject:
        return Subject(MemoryStore, unreachable=MemoryStore, slow=True)  # it is compared with itself


class TestPgVectorStore(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Subject]:
        with new_database() as url:
            yield Subject(
                lambda: PgVectorStore(url, 3),
                unreachable=lambda: PgVectorStore("postgresql://nobody@127.0.0.1:1/none", 1, timeout_s=2),
            )


class TestPgVectorStoreWithHalfVectors(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Subject]:
        with new_database() as url:
            yield Subject(
                lambda: PgVectorStore(url, 3, half=True),
                unreachable=lambda: PgVectorStore(
                    "postgresql://nobody@127.0.0.1:1/none", 1, timeout_s=2, half=True
                ),
            )
