"""What does a store's server take without us? For each store its bare driver, which asks what our store asks.

A raw client finds the index that our store has filled. It makes a `Request` ready, which is not measured, and
sending it is: one connection, the same query with the same parameters, the same fields fetched, and no code of
ours between the driver and the rows it gives. Where our store ranks candidates once more, the raw client
fetches as many and ranks nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import psycopg
from elasticsearch import AsyncElasticsearch
from pgvector import Vector as PgVector
from pgvector.psycopg import register_vector_async
from pymilvus import MilvusClient  # type: ignore[import-untyped]
from pymongo import AsyncMongoClient
from redis import asyncio as redis

from core.types import IndexName, Vector
from stores import elasticsearch as es
from stores import milvus, mongo, pgvector
from stores import redis as ours_redis
from stores.base import VectorStore, idf
from stores.bm25 import rarest_terms, scored_terms
from stores.elasticsearch_filters import condition as es_condition
from stores.filters import Filter
from stores.milvus_filters import expression
from stores.mongo_filters import condition as mongo_condition
from stores.pgvector_filters import Params
from stores.pgvector_filters import condition as sql_condition

# Sends what was made ready; gives the ids that came back, in the server's order.
Request = Callable[[], Awaitable[list[str]]]


class RawClient(ABC):
    """Over the index that `store` has filled. `matching` is the number of records that a filter leaves."""

    def __init__(self, url: str, store: VectorStore, index: IndexName) -> None:
        self._url, self._store, self._index = url, store, index

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def dense(self, vector: Vector, k: int, where: Filter | None, matching: int) -> Request: ...

    @abstractmethod
    async def text(self, terms: Sequence[str], k: int) -> Request: ...


class RawPgVector(RawClient):
    async def open(self) -> None:
        self._connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, prepare_threshold=None
        )
        await register_vector_async(self._connection)
        await self._connection.execute("SET hnsw.iterative_scan = 'relaxed_order'")
        await self._connection.execute("SET hnsw.max_scan_tuples = 40000")
        await self._connection.execute(f"SET hnsw.ef_search = {pgvector.NEIGHBOURS}")
        await self._connection.execute("SET jit = off")

    async def close(self) -> None:
        await self._connection.close()

    async def dense(self, vector: Vector, k: int, where: Filter | None, matching: int) -> Request:
        params: Params = {"vector": PgVector(vector), "k": k}
        way = pgvector._Way.EXACT if matching <= pgvector.EXACT_ROWS else pgvector._Way.HNSW
        shape = pgvector._Shape(vector.size, half=False)
        return self._sends(
            pgvector._dense_query(self._index, sql_condition(where, params), way, shape), params
        )

    async def text(self, terms: Sequence[str], k: int) -> Request:
        hashes = [pgvector._hash(term) for term in terms]
        found = await self._store.term_stats(self._index, terms)
        frequency = dict(zip(hashes, found.document_frequency.values(), strict=True))
        row = await (
            await self._connection.execute(
                pgvector.sql.SQL("SELECT avg(length)::float8 FROM {}").format(pgvector._table(self._index))
            )
        ).fetchone()
        assert row is not None
        statistics = pgvector._Statistics(found.total, row[0], 0.0, frequency)
        chosen = scored_terms(hashes, frequency, pgvector.MAX_TERMS)
        params: Params = {"k": k, "terms": chosen}
        params["rarest"] = rarest_terms(chosen, frequency, pgvector.CANDIDATE_ROWS)
        candidates = pgvector.sql.SQL("terms && %(rarest)s::bigint[] AND TRUE")
        await self._connection.execute("SET enable_seqscan = off")
        return self._sends(pgvector._text_query(self._index, chosen, statistics, candidates, params), params)

    def _sends(self, statement: Any, params: Params) -> Request:
        async def send() -> list[str]:
            cursor = await self._connection.execute(statement, params)
            return [row[0] for row in await cursor.fetchall()]

        return send


class RawRedis(RawClient):
    async def open(self) -> None:
        self._client = redis.Redis.from_url(self._url, protocol=2)
        assert isinstance(self._store, ours_redis.RedisStore)
        self._key = self._store._key(self._index)

    async def close(self) -> None:
        await self._client.aclose()

    async def dense(self, vector: Vector, k: int, where: Filter | None, matching: int) -> Request:
        assert isinstance(self._store, ours_redis.RedisStore)
        query = "*" if where is None else await self._store._condition(self._index, where)
        how = f"EF_RUNTIME {ours_redis.LEAST_NEIGHBOURS}"
        fields = (*ours_redis._FIELDS, "distance")
        command = (
            *("FT.SEARCH", self._key, f"({query})=>[KNN {k} @vector $vector {how} AS distance]"),
            *("PARAMS", 2, "vector", vector.tobytes(), "SORTBY", "distance", "ASC"),
            *("RETURN", len(fields), *fields, "LIMIT", 0, k, "DIALECT", 2),
        )

        async def send() -> list[str]:
            _, *found = await self._client.execute_command(*command)
            return [row[row.index(b"id") + 1].decode() for row in found[1::2]]

        return send

    async def text(self, terms: Sequence[str], k: int) -> Request:
        number = max(ours_redis.LEAST_CANDIDATES, ours_redis.CANDIDATES_PER_HIT * k)
        words = "|".join(map(ours_redis._word, terms))
        command = (
            *("FT.SEARCH", self._key, f"@terms:({words})", "VERBATIM", "SCORER", "BM25STD", "WITHSCORES"),
            *("RETURN", 1, "terms", "LIMIT", 0, number, "DIALECT", 2),
        )

        async def send() -> list[str]:
            _, *found = await self._client.execute_command(*command)
            ids = [name.decode().rpartition(":r:")[2] for name in found[: 3 * k : 3]]
            async with self._client.pipeline(transaction=False) as pipeline:
                for each in ids:
                    pipeline.execute_command("HMGET", f"{self._key}:r:{each}", *ours_redis._FIELDS)
                await pipeline.execute()
            return ids

        return send


class RawElasticsearch(RawClient):
    async def open(self) -> None:
        self._client = AsyncElasticsearch(self._url, request_timeout=60)
        assert isinstance(self._store, es.ElasticsearchStore)
        self._name = self._store._name(self._index)

    async def close(self) -> None:
        await self._client.close()

    async def dense(self, vector: Vector, k: int, where: Filter | None, matching: int) -> Request:
        knn: dict[str, Any] = {
            "field": "vector",
            "query_vector": vector.tolist(),
            "k": es.LEAST_NEIGHBOURS,
            "num_candidates": es.LEAST_NEIGHBOURS,
            "rescore_vector": {"oversample": 1.0},
        }
        if where is not None:
            knn["filter"] = es_condition(where)
        return self._sends(list(es._RECORD_FIELDS), knn=knn, size=k)

    async def text(self, terms: Sequence[str], k: int) -> Request:
        query = {"match": {"terms": {"query": " ".join(map(es._word, terms))}}}
        size = max(es.LEAST_CANDIDATES, es.CANDIDATES_PER_HIT * k)
        return self._sends([*es._RECORD_FIELDS, "terms"], query=query, size=size)

    def _sends(self, source: list[str], **body: Any) -> Request:
        async def send() -> list[str]:
            answer = await self._client.search(
                index=self._name,
                source={"includes": source},
                sort=[{"_score": "desc"}, {"id": "asc"}],
                track_total_hits=False,
                **body,
            )
            return [hit["_source"]["id"] for hit in answer["hits"]["hits"]]

        return send


class RawMilvus(RawClient):
    async def open(self) -> None:
        self._client = MilvusClient(self._url, dedicated=True)
        assert isinstance(self._store, milvus.MilvusStore)
        self._name = self._store._name(self._index)

    async def close(self) -> None:
        self._client.close()

    async def dense(self, vector: Vector, k: int, where: Filter | None, matching: int) -> Request:
        limit = k + milvus.MORE_NEIGHBOURS
        return self._sends(
            data=[vector.tolist()],
            anns_field="vector",
            limit=limit,
            filter="" if where is None else expression(where),
            output_fields=list(milvus._RECORD),
            search_params={"metric_type": "COSINE", "params": {"ef": max(milvus.LEAST_EF, 2 * limit)}},
        )

    async def text(self, terms: Sequence[str], k: int) -> Request:
        found = await self._store.term_stats(self._index, terms)
        weights = {term: idf(found.total, n) for term, n in found.document_frequency.items()}
        return self._sends(
            data=[{milvus._place(milvus._hash(term)): weight for term, weight in weights.items()}],
            anns_field="terms",
            limit=milvus.CANDIDATES_PER_HIT * k + milvus.MORE_CANDIDATES,
            output_fields=[*milvus._RECORD, "words", "counts", "length"],
            search_params={"metric_type": "IP"},
        )

    def _sends(self, **options: Any) -> Request:
        async def send() -> list[str]:
            (found,) = self._client.search(self._name, consistency_level="Strong", timeout=60, **options)
            return [row["entity"]["id"] for row in found]

        return send


class RawMongo(RawClient):
    async def open(self) -> None:
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(self._url)
        assert isinstance(self._store, mongo.MongoStore)
        entry = await self._store._index(self._index)
        self._collection = self._client.get_default_database("rag")[entry.collection]

    async def close(self) -> None:
        await self._client.close()

    async def dense(self, vector: Vector, k: int, where: Filter | None, matching: int) -> Request:
        query = mongo_condition(where)

        async def send() -> list[str]:
            ids: list[str] = []
            cosines: list[Any] = []
            async with self._collection.find(query, {"vector": 1}, batch_size=mongo.BATCH_READ) as cursor:
                while batch := await cursor.to_list(mongo.BATCH_READ):
                    ids += [each["_id"] for each in batch]
                    packed = b"".join(each["vector"][2:] for each in batch)
                    cosines.append(np.frombuffer(packed, dtype="<f4").reshape(len(batch), -1) @ vector)
            best = np.argsort(-np.concatenate(cosines))[:k]
            return await self._fetched([ids[place] for place in best])

        return send

    async def text(self, terms: Sequence[str], k: int) -> Request:
        hashes = [mongo._hash(term) for term in terms]
        found = await self._store.term_stats(self._index, terms)
        frequency = dict(zip(hashes, found.document_frequency.values(), strict=True))
        chosen = scored_terms(hashes, frequency, mongo.MAX_TERMS)
        query = {"terms": {"$in": rarest_terms(chosen, frequency, mongo.CANDIDATE_ROWS)}}
        projection = {"length": 1, "counts": 1}

        async def send() -> list[str]:
            ids: list[str] = []
            async with self._collection.find(query, projection, batch_size=mongo.BATCH_READ) as cursor:
                while batch := await cursor.to_list(mongo.BATCH_READ):
                    ids += [each["_id"] for each in batch]
            return await self._fetched(ids[:k])

        return send

    async def _fetched(self, ids: list[str]) -> list[str]:
        await self._collection.find({"_id": {"$in": ids}}, mongo._PROJECTION).to_list()
        return ids


RAW_CLIENTS: dict[str, type[RawClient]] = {
    "pgvector": RawPgVector,
    "redis": RawRedis,
    "elasticsearch": RawElasticsearch,
    "milvus": RawMilvus,
    "mongo": RawMongo,
}
