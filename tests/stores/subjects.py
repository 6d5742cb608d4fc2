"""How does a test get a store of each kind? Built as the service builds it, on a server that all tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr
from store_spec import Subject

from core.settings import STORE_SERVERS, StoreServer
from rag_service.wiring import make_store
from stores.base import VectorStore
from stores.pgvector import PgVectorStore

AnyStore = TypeVar("AnyStore", bound=VectorStore)
KINDS = ("pgvector", *STORE_SERVERS)
MILVUS_23 = "milvus 2.3"  # the real server, where `milvus` is Milvus Lite
# Taken out of the environment, where the service would refuse them as unknown settings.
GIVEN = {kind: url for kind in KINDS if (url := os.environ.pop(f"RAG_TEST_{kind.upper()}_URL", None))}


def build(kind: str, url: str, *, timeout_s: float = 60) -> VectorStore:
    """Not open."""
    if kind == "pgvector":  # wired with the database
        return PgVectorStore(url, 3, timeout_s=timeout_s)
    return make_store(kind, StoreServer(url=SecretStr(url), pool_size=3, timeout_s=timeout_s))


def subject(kind: str, url: str, *, slow: bool = False) -> Subject:
    nowhere = urlunsplit(urlsplit(url)._replace(netloc="127.0.0.1:1", query=""))
    return Subject(lambda: build(kind, url), unreachable=lambda: build(kind, nowhere, timeout_s=2), slow=slow)


@asynccontextmanager
async def opened(store: AnyStore) -> AsyncIterator[AnyStore]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()
