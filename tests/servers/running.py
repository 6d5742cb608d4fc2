"""Where does a test get the server of a store from?

    with running("redis") as server:
        server.url        # where it is
        server.lookalike  # what stands in for the real server, or None
        server.kill()     # as kill -9
        server.start()    # again: the same address, the same data
        server.freeze()   # the port is open and answers nothing, until server.thaw()

From Docker where an engine answers and has the image or can pull it, else as a local process.
RAG_TEST_SERVERS=docker or =local wants one of them, and what cannot be had fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol

from elasticsearch_server import running_node
from milvus_server import running_milvus
from mongo_server import running_mongo
from postgres_server import running_postgres
from redis_server import running_redis

WISHES = ("auto", "docker", "local")
# Taken out of the environment, where the service would refuse it as an unknown setting.
WISH = os.environ.pop("RAG_TEST_SERVERS", "auto")
if WISH not in WISHES:
    raise ValueError(f"RAG_TEST_SERVERS is {WISH!r}; it can be {', '.join(WISHES)}.")


class StoreProcess(Protocol):
    """A store's server, running. Start, kill, freeze and thaw from the thread that made it."""

    @property
    def url(self) -> str: ...
    @property
    def lookalike(self) -> str | None: ...
    @property
    def place(self) -> str: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


Starter = Callable[[], AbstractContextManager[StoreProcess]]

LOCAL: dict[str, Starter] = {
    "pgvector": running_postgres,
    "milvus": partial(running_milvus, "lite"),
    "redis": running_redis,
    "elasticsearch": running_node,
    "mongo": running_mongo,
}
used: dict[str, str] = {}  # where the servers of this run were; the end of the run tells


@contextmanager
def running(kind: str) -> Iterator[StoreProcess]:
    """An empty server for the store `kind`; it and its data are gone afterwards."""
    with starter(kind, WISH)() as server:
        used[kind] = f"{server.place}{f', a lookalike: {server.lookalike}' if server.lookalike else ''}"
        yield server


def starter(kind: str, wish: str) -> Starter:
    """What starts it. Raises `RuntimeError` if Docker is wanted and cannot run it."""
    if wish == "local":
        return LOCAL[kind]
    from containers import obstacle, running_container

    reason = obstacle(kind)
    if reason is None:
        return partial(running_container, kind)
    if wish == "docker":
        raise RuntimeError(f"RAG_TEST_SERVERS=docker, but {reason}. See tests/images/build.sh.")
    return LOCAL[kind]
