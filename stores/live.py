"""Which stores are open? Each of those that the settings name is opened when it is first used.

A store whose server is away does not keep the service from starting, nor the other stores from working.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Self

from core.errors import StoreError
from stores.base import VectorStore


class LiveStores:
    """Opens stores once and hands them out. `builders` has one for each store that the settings name."""

    def __init__(self, builders: Mapping[str, Callable[[], VectorStore]]) -> None:
        self._builders = builders
        self._open: dict[str, VectorStore] = {}
        self._opening = {kind: asyncio.Lock() for kind in builders}

    @classmethod
    def of(cls, *opened: VectorStore) -> Self:
        """These stores, which the caller has opened and will close."""
        stores = cls({})
        stores._open = {store.kind: store for store in opened}
        return stores

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._builders)

    async def get(self, kind: str) -> VectorStore:
        """The store, open.

        Raises `StoreError` if the settings do not name it, and what its `open` raises (`StoreUnavailable`
        if its server is away; the next call tries again).
        """
        if kind in self._open:
            return self._open[kind]
        if kind not in self._builders:
            raise StoreError(
                f"This knowledge base lies in {kind}, but the service is not connected to it.",
                hint=f"Set RAG_STORES__{kind.upper()}__URL.",
            )
        async with self._opening[kind]:
            if kind not in self._open:
                store = self._builders[kind]()
                try:
                    await store.open()
                except BaseException:
                    await store.close()
                    raise
                self._open[kind] = store
        return self._open[kind]

    async def close(self) -> None:
        """Close those that `get` opened."""
        for kind in self._builders:
            if store := self._open.pop(kind, None):
                await store.close()
