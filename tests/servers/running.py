"""Where does a test get the server of a store from?

    with running("redis") as server:
        server.url        # where it is
        server.lookalike  # what stands in for the real server, or None
        server.kill()     # as kill -9
        server.start()    # again: the same address, the same data
        server.freeze()   # the port is open and answers nothing, until server.thaw()

Each is a local process; its file here says where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol

from elasticsearch_server import running_node
from milvus_server import running_milvus
from mongo_server import running_mongo
from postgres_server import running_postgres
from redis_server import running_redis


class StoreProcess(Protocol):
    """A store's server, running. Start, kill, freeze and thaw from the thread that made it."""

    @property
    def url(self) -> str: ...
    @property
    def lookalike(self) -> str | None: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


LOCAL: dict[str, Callable[[], AbstractContextManager[StoreProcess]]] = {
    "pgvector": running_postgres,
    "milvus": partial(running_milvus, "lite"),
    "redis": running_redis,
    "elasticsearch": running_node,
    "mongo": running_mongo,
}


@contextmanager
def running(kind: str) -> Iterator[StoreProcess]:
    """An empty server for the store `kind`; it and its data are gone afterwards."""
    with LOCAL[kind]() as server:
        yield server
