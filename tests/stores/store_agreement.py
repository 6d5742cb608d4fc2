"""Does a store answer as the exact store does, on more data than the contract has, and on any filter?

A store inherits `StoreAgreement` and supplies the fixture `new_store`: it opens a store over an empty server
(or an empty part of it), the same one for all tests of a module, where data are written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_contract import (
    INDEX,
    OTHER,
    _needs_text,
    ids,
    make,
    oracle_of,
    same_ranking,
    unit,
    zipf_queries,
    zipf_records,
)
from test_store_agreement import FILTERS, METADATA

from core.types import EmbeddedRecord
from stores.base import VectorStore
from stores.filters import Filter, Lt
from stores.memory import MemoryStore

NewStore = Callable[[], AbstractAsyncContextManager[VectorStore]]

RECORDS = 5000
DIM = 32
WORDS = 2000
QUERIES = 200


@cache
def records() -> list[EmbeddedRecord]:
    return zipf_records(RECORDS, seed=21, dim=DIM, words=WORDS)


class StoreAgreement:
    """Inherit, and supply the fixture `new_store`."""

    @pytest.fixture
    async def filled(self, new_store: NewStore) -> AsyncIterator[VectorStore]:
        async with new_store() as store:
            await store.ensure_index(INDEX, dim=DIM)
            if await store.count(INDEX) == 0:
                await store.upsert(INDEX, records())
            yield store

    @pytest.fixture
    async def oracle(self) -> MemoryStore:
        return await oracle_of(records())

    async def test_text_rankings_agree(self, filled: VectorStore, oracle: MemoryStore) -> None:
        _needs_text(filled)
        agreed = 0
        for query in zipf_queries(QUERIES, seed=22, words=WORDS):
            ours = await filled.search_text(INDEX, query, k=10)
            agreed += same_ranking(ours, await oracle.search_text(INDEX, query, k=10))
        assert agreed >= 0.95 * QUERIES

    @pytest.mark.parametrize("percent", [1, 10, 50])
    async def test_filtered_text_rankings_agree(
        self, filled: VectorStore, oracle: MemoryStore, percent: int
    ) -> None:
        _needs_text(filled)
        agreed = 0
        for query in zipf_queries(50, seed=23, words=WORDS):
            ours = await filled.search_text(INDEX, query, k=10, where=Lt("percent", percent))
            best = await oracle.search_text(INDEX, query, k=10, where=Lt("percent", percent))
            agreed += same_ranking(ours, best)
        assert agreed >= 0.95 * 50

    @pytest.mark.parametrize("percent", [1, 10, 50, 100])
    async def test_dense_recall(self, filled: VectorStore, oracle: MemoryStore, percent: int) -> None:
        random = np.random.default_rng(24)
        where: Filter | None = Lt("percent", percent) if percent < 100 else None
        found = 0
        for _ in range(50):
            query = unit(*random.normal(size=DIM))
            best = ids(await oracle.search_dense(INDEX, query, k=10, where=where))
            found += len(set(best) & set(ids(await filled.search_dense(INDEX, query, k=10, where=where))))
        assert found >= 0.98 * 500

    async def test_term_stats_agree(self, filled: VectorStore, oracle: MemoryStore) -> None:
        _needs_text(filled)
        terms = [f"w{i}" for i in range(0, WORDS, 50)]
        assert await filled.term_stats(INDEX, terms) == await oracle.term_stats(INDEX, terms)

    async def test_every_filter_finds_the_same_records(self, new_store: NewStore) -> None:
        async with new_store() as store:
            await store.ensure_index(OTHER, dim=4)
            loop = asyncio.get_running_loop()

            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
            @given(
                metadatas=st.lists(METADATA, min_size=1, max_size=6),
                filters=st.lists(FILTERS, min_size=1, max_size=8),
                pages=st.integers(0, 3),
            )
            def check(metadatas: list[dict[str, object]], filters: list[Filter], pages: int) -> None:
                asyncio.run_coroutine_threadsafe(_same(store, metadatas, filters, pages), loop).result()

            await asyncio.to_thread(check)  # hypothesis itself is not asynchronous


async def _same(
    store: VectorStore, metadatas: list[dict[str, object]], filters: list[Filter], pages: int
) -> None:
    records = [
        make(
            f"r{i}",
            document="aB1"[i % 3],
            position=i - 1,
            page_start=i if i > pages else None,
            metadata=metadata,  # type: ignore[arg-type]
        )
        for i, metadata in enumerate(metadatas)
    ]
    oracle = await oracle_of(records)
    for document in "aB1":
        await store.delete_document(OTHER, document)
    await store.upsert(OTHER, records)
    everything = [embedded.record.id for embedded in records]
    assert await store.get(OTHER, everything) == await oracle.get(INDEX, everything)
    for where in filters:
        expected = set(ids(await oracle.search_dense(INDEX, records[0].vector, k=99, where=where)))
        assert set(ids(await store.search_dense(OTHER, records[0].vector, k=99, where=where))) == expected
        assert await store.count(OTHER, where=where) == len(expected)
