"""What does a store's server keep? As the store of the service sees it, and as the server's own client does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import redis
from elasticsearch import Elasticsearch
from pymilvus import MilvusClient  # type: ignore[import-untyped]
from pymongo import MongoClient

from core.settings import STORE_SERVERS, StoreServer
from rag_service.wiring import make_store
from stores.base import VectorStore
from stores.pgvector import PgVectorStore

# The others take as long again: `make test-stores` runs them all.
EVERY = bool(os.environ.get("EVERY_STORE"))
KINDS = ("pgvector", *STORE_SERVERS) if EVERY else ("pgvector", "redis")


@asynccontextmanager
async def open_store(kind: str, url: str) -> AsyncIterator[VectorStore]:
    """The store as the service has it."""
    store = (
        PgVectorStore(url)
        if kind == "pgvector"
        else make_store(kind, StoreServer.model_validate({"url": url}))
    )
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def names_in(kind: str, url: str) -> list[str]:
    """The names of everything that the server keeps, as its own client lists them."""
    return _NAMES[kind](url)


def _postgres_names(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute("SELECT relname FROM pg_class")]


def _redis_names(url: str) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return [*client.keys(), *client.execute_command("FT._LIST")]


def _elasticsearch_names(url: str) -> list[str]:
    with Elasticsearch(url) as client:
        return list(client.indices.get(index="*"))


def _milvus_names(url: str) -> list[str]:
    client = MilvusClient(url)
    try:
        return list(client.list_collections())
    finally:
        client.close()


def _mongo_names(url: str) -> list[str]:
    with MongoClient[dict[str, Any]](url) as client:
        database = client["rag"]
        return [*database.list_collection_names(), *(each["_id"] for each in database["rag_indexes"].find())]


_NAMES: dict[str, Callable[[str], list[str]]] = {
    "pgvector": _postgres_names,
    "redis": _redis_names,
    "elasticsearch": _elasticsearch_names,
    "milvus": _milvus_names,
    "mongo": _mongo_names,
}
