"""Which stores are open? Each of those that the settings name is opened when it is first used.

A store whose server is away does not keep the service from starting, nor the other stores from working.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Self

from core.errors import InvalidValue, StoreError
from core.settings import STORE_SERVERS
from stores.base import VectorStore

log = logging.getLogger(__name__)

LONGEST_GOODBYE_S = 3.0


class LiveStores:
    """Opens stores once and hands them out. `builders` has one for each store that the settings name."""

    def __init__(self, builders: Mapping[str, Callable[[], VectorStore]]) -> None:
        self._builders = builders
        self._open: dict[str, VectorStore] = {}
        self._opening: dict[str, asyncio.Task[VectorStore]] = {}

    @classmethod
    def of(cls, *opened: VectorStore) -> Self:
        """These stores, which the caller has opened and will close."""
        stores = cls({})
        stores._open = {store.kind: store for store in opened}
        return stores

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._builders, *self._open)))

    async def get(self, kind: str) -> VectorStore:
        """The store, open.

        Raises `StoreError` if the settings do not name it, and what its `open` raises (`StoreUnavailable`
        if its server is away; the next call tries again).
        """
        if kind in self._open:
            return self._open[kind]
        if kind not in self.kinds:
            raise StoreError(
                f"This knowledge base lies in {kind}, but the service is not connected to it.",
                hint=f"Set RAG_STORES__{kind.upper()}__URL.",
            )
        if kind not in self._opening:
            self._opening[kind] = asyncio.create_task(self._start(kind))
            self._opening[kind].add_done_callback(_heed)
        # Shared by all who ask meanwhile: one after another they would each wait for a server that is away.
        return await asyncio.shield(self._opening[kind])

    async def chosen(self, kind: str) -> VectorStore:
        """As `get`, of a store that a request names: raises `InvalidValue` if the settings do not."""
        if kind not in self.kinds:
            raise InvalidValue(
                f"This service is connected to no store {kind!r}; it has {', '.join(self.kinds)}.",
                hint=f"RAG_STORES__{kind.upper()}__URL connects it (and a restart)."
                if kind in STORE_SERVERS
                else f"Others that it could be connected to: {', '.join(STORE_SERVERS)}.",
            )
        return await self.get(kind)

    async def _start(self, kind: str) -> VectorStore:
        store = self._builders[kind]()
        try:
            await store.open()
        except BaseException:
            await store.close()
            raise
        else:
            self._open[kind] = store
            return store
        finally:
            del self._opening[kind]

    async def close(self) -> None:
        """Close those that `get` opened."""
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        ours = [self._open.pop(kind) for kind in self._builders if kind in self._open]
        await asyncio.gather(*map(_close, ours))


async def _close(store: VectorStore) -> None:
    """Drivers say goodbye to their servers; one that is away does not hold up the end of the service."""
    try:
        async with asyncio.timeout(LONGEST_GOODBYE_S):
            await store.close()
    except TimeoutError:
        log.warning("%s does not answer: its connections are left as they are", store.kind)


def _heed(task: asyncio.Task[VectorStore]) -> None:
    """Those who asked may have gone; asyncio would complain that nobody saw the error."""
    if not task.cancelled():
        task.exception()
