"""How are records kept and searched in Milvus? One collection for each index, strongly consistent.

Dense search is HNSW by cosine. Filters are expressions over `facts` and `ordered` (see
`stores.milvus_filters`). Text search is BM25 in two steps: Milvus finds candidates by the inner product of
the question's sparse vector (weights of terms) with that of each record (how much each term counts there, by
the average length at the time of writing); the candidates are then ranked here by true counts and lengths.

Servers before 2.4 have no sparse vectors: with them, `capabilities` of the open store declare no text search.
The driver is synchronous, so its calls run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

import numpy as np

from core.errors import (
    DimensionMismatch,
    InvalidValue,
    NotFound,
    RagError,
    StoreError,
    StoreUnavailable,
    UnsupportedByStore,
)
from core.settings import StoreServer
from core.types import EmbeddedRecord, Hit, IndexName, Record, TermStats, Vector
from stores.base import K1, B, Capabilities, VectorStore, idf
from stores.bm25 import bm25
from stores.checks import (
    LONGEST_ID,
    check_filter,
    check_ids,
    check_records,
    check_vector,
    plain_metadata,
)
from stores.filters import And, Eq, Filter, Gt, Lte, Ne
from stores.milvus_filters import (
    ALL,
    HASH_CHARACTERS,
    expression,
    hashed_facts,
    hashed_order,
)

try:
    import grpc  # type: ignore[import-untyped]
    from pymilvus import DataType, MilvusClient, MilvusException  # type: ignore[import-untyped]
    from pymilvus.exceptions import ErrorCode  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise StoreError(
        f"The milvus store needs its driver: {error}.", hint="Run: .venv/bin/pip install -e '.[milvus]'"
    ) from error

P = ParamSpec("P")
T = TypeVar("T")

BATCH_RECORDS = 200  # in one request: at most 30 MB, where servers take 64 MB
BATCH_IDS = 1000
SCAN_IDS = 8192  # that a scan looks at
STATISTICS_ROWS = 4096  # read at a time
MOST_HITS = 16_384  # Milvus gives no more in one answer
MOST_BYTES = 65_535  # of a text field
MOST_ITEMS = 4096  # of an array field
# More than k are asked for: of records with the same score Milvus gives any.
MORE_NEIGHBOURS = 30
LEAST_EF = 400  # how many neighbours HNSW looks at; Milvus wants no fewer than it is asked for
CANDIDATES_PER_HIT, MORE_CANDIDATES = 4, 40  # for k hits of a text search
# Seconds for which counts are used again: they take long to get where they change little in proportion.
STATISTICS_AGE_S = 10.0
LONGEST_AGE_S = 600.0

_VECTOR_INDEX: Mapping[str, Any] = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}
# Milvus Lite loses results of HNSW under a filter, and records while it builds the graph.
_LITE_VECTOR_INDEX: Mapping[str, Any] = {"index_type": "FLAT", "params": {}}
# A server that is back is found again within this time; the default lets it wait for up to two minutes.
_CHANNEL: Mapping[str, Any] = {
    "grpc.initial_reconnect_backoff_ms": 500,
    "grpc.max_reconnect_backoff_ms": 2000,
}
_NO_WORD = 0  # a place in sparse vectors that no term has: they must not be empty


@dataclass(slots=True)
class _Statistics:
    """What BM25 needs to know about an index, and until when (`time.monotonic`); frequencies are by hash."""

    total: int
    average_length: float
    expires: float
    frequency: Counter[int] = field(default_factory=Counter)


class _NotLoaded(StoreUnavailable):
    """The collection is not in the server's memory."""


class MilvusStore(VectorStore):
    """Keeps indexes in the Milvus server (2.5 or later; 2.3 without text search) at `url` (`http://host:19530`).

    `token` is an API key or `user:password`. Names of collections begin with `prefix`. `pool_size` bounds the
    calls at the same time, `timeout_s` each of them. A search gives at most 16,384 hits.

    Set `queryNode.segcore.interimIndex.enableIndex` of the server to false (as an environment variable of it:
    QUERYNODE_SEGCORE_INTERIMINDEX_ENABLEINDEX=false): else it searches new records, for minutes, by an
    approximation that may find a third of what it should.

    Milvus Lite has such a server too (`milvus-lite server`), good for a try: it takes one writer at a time.
    """

    kind: ClassVar[str] = "milvus"
    capabilities = Capabilities(max_dimensions=32_768)

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        database: str = "",
        prefix: str = "rag_",
        pool_size: int = 10,
        timeout_s: float = 10.0,
    ) -> None:
        self._url = url
        self._token = token or ""
        self._database = database
        self._prefix = prefix
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._client: MilvusClient | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._is_lite = False
        self._lite_writes = asyncio.Lock()
        self._creating = asyncio.Lock()
        self._dimensions: dict[IndexName, int] = {}
        self._statistics: dict[IndexName, _Statistics] = {}

    @classmethod
    def at(cls, server: StoreServer) -> Self:
        return cls(
            server.url.get_secret_value(),
            token=server.token.get_secret_value() if server.token else None,
            pool_size=server.pool_size,
            timeout_s=server.timeout_s,
        )

    async def open(self) -> None:
        if not re.match(r"https?://", self._url):
            raise StoreError(
                f"{self._url!r} is not the address of a Milvus server.",
                hint="RAG_STORES__MILVUS__URL is like http://host:19530. A file of Milvus Lite serves one process.",
            )
        # The driver writes a hundred lines for each call that fails; the errors are raised all the same.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._threads = ThreadPoolExecutor(self._pool_size, thread_name_prefix="milvus")
        try:
            self._client = await self._call(
                MilvusClient,
                self._url,
                token=self._token,
                db_name=self._database,
                timeout=self._timeout_s,
                dedicated=True,
                grpc_options=_CHANNEL,
            )
            version = str(await self._call(self._server.get_server_version, timeout=self._timeout_s))
        except BaseException:
            await self.close()
            raise
        self._is_lite = version.startswith("milvus_lite")
        if not _has_sparse_vectors(version):
            self.capabilities = replace(self.capabilities, full_text=False)

    async def close(self) -> None:
        if self._client is not None:
            await self._call(self._client.close)
            self._client = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def ping(self) -> None:
        await self._call(self._server.get_server_version, timeout=self._timeout_s)

    async def ensure_index(self, index: IndexName, *, dim: int) -> None:
        self.refuse_dimension(dim)
        self._dimensions.pop(index, None)
        async with self._creating:
            if not await self._ask(self._server.has_collection, index):
                await self._create(index, dim)
            await self._create_indexes(index)
        found = await self._dim(index)
        if found != dim:
            raise DimensionMismatch(
                f"Index {index} holds vectors of {found} numbers, not {dim}.",
                hint="Rebuild the knowledge base: a new generation takes the new dimension.",
            )

    async def drop_index(self, index: IndexName) -> None:
        self._forget(index)
        async with self._writing():
            if await self._ask(self._server.has_collection, index):
                await self._ask(self._server.drop_collection, index)

    async def indexes(self) -> list[IndexName]:
        names = await self._call(self._server.list_collections, timeout=self._timeout_s)
        ours = (name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))
        return [index for name in ours if (index := IndexName.read(name))]

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        check_records(records, await self._dim(index))
        last = {embedded.record.id: embedded for embedded in records}  # one request must not name an id twice
        average = await self._average_length(index, records) if self.capabilities.full_text else None
        rows = [_row(embedded, average) for embedded in last.values()]
        async with self._writing():
            for batch in _batches(rows, BATCH_RECORDS):
                await self._ask(self._server.upsert, index, data=list(batch))
        self._statistics.pop(index, None)

    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        check_ids(document_id, keep_revision or "")
        await self._dim(index)
        where: Filter = Eq("document_id", document_id)
        if keep_revision is not None:
            where = And((where, Ne("revision", keep_revision)))
        gone = 0
        async with self._writing():
            while found := await self._query(index, expression(where), ["key"], limit=BATCH_IDS):
                keys = [row["key"] for row in found]
                await self._ask(self._server.delete, index, filter=_one_of(keys))
                gone += len(keys)
        self._statistics.pop(index, None)
        return gone

    async def get(self, index: IndexName, ids: Sequence[str]) -> list[Record]:
        check_ids(*ids)
        await self._dim(index)
        found: dict[str, Record] = {}
        for batch in _batches(list(dict.fromkeys(ids)), BATCH_IDS):
            keys = [_key(record_id) for record_id in batch]
            for row in await self._query(index, _one_of(keys), list(_RECORD), limit=BATCH_IDS):
                record = _record(row)
                found[record.id] = record
        return [found[record_id] for record_id in ids if record_id in found]

    async def scan(
        self, index: IndexName, *, after: str = "", limit: int = 500
    ) -> list[tuple[Record, Vector]]:
        check_ids(after)
        await self._dim(index)
        chosen = await self._first_ids(index, after, min(limit, SCAN_IDS // 2))
        rows = []
        for batch in _batches([_key(record_id) for record_id in chosen], BATCH_IDS):
            fields = [*_RECORD, "vector"]
            rows += await self._query(index, _one_of(batch), fields, limit=BATCH_IDS)
        found = [(_record(row), np.asarray(row["vector"], dtype=np.float32)) for row in rows]
        return sorted(found, key=lambda each: each[0].id)

    async def count(self, index: IndexName, *, where: Filter | None = None) -> int:
        check_filter(where)
        await self._dim(index)
        return await self._count(index, expression(where))

    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        check_vector(vector, await self._dim(index))
        check_filter(where)
        if k <= 0:
            return []
        limit = min(MOST_HITS, k + MORE_NEIGHBOURS)
        found = await self._search(
            index,
            data=[vector.tolist()],
            anns_field="vector",
            limit=limit,
            filter="" if where is None else expression(where),
            output_fields=list(_RECORD),
            search_params={"metric_type": "COSINE", "params": {"ef": max(LEAST_EF, 2 * limit)}},
        )
        hits = [Hit(_record(row["entity"]), _dense_score(row["distance"])) for row in found]
        return _best(hits, k)

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        check_filter(where)
        await self._dim(index)
        self._refuse_text()
        hashes = [_hash(term) for term in dict.fromkeys(terms)]
        if k <= 0 or not hashes:
            return []
        statistics = await self._counted(index, hashes)
        weights = {hashed: idf(statistics.total, statistics.frequency[hashed]) for hashed in hashes}
        found = await self._search(
            index,
            data=[{_place(hashed): weight for hashed, weight in weights.items()}],
            anns_field="terms",
            limit=min(MOST_HITS, CANDIDATES_PER_HIT * k + MORE_CANDIDATES),
            filter="" if where is None else expression(where),
            output_fields=[*_RECORD, "words", "counts", "length"],
            search_params={"metric_type": "IP"},
        )
        rows = [row["entity"] for row in found]
        hits = [Hit(_record(row), _bm25(row, weights, statistics.average_length)) for row in rows]
        return _best([hit for hit in hits if hit.score > 0], k)  # two terms may share a place

    async def term_stats(self, index: IndexName, terms: Sequence[str]) -> TermStats:
        await self._dim(index)
        self._refuse_text()
        hashes = {term: _hash(term) for term in terms}
        statistics = await self._counted(index, list(hashes.values()))
        return TermStats(
            statistics.total, {term: statistics.frequency[hashed] for term, hashed in hashes.items()}
        )

    async def _first_ids(self, index: IndexName, after: str, limit: int) -> list[str]:
        """The first ids behind `after`. Milvus orders by keys at best, and those are hashes.

        It gives any `SCAN_IDS` of the ids asked for: unless these are all, the last of the `limit` first among
        them bounds the next question.
        """
        where: Filter = Gt("id", after)
        while limit > 0:
            rows = await self._query(index, expression(where), ["id"], limit=SCAN_IDS)
            ids = sorted(row["id"] for row in rows)
            if len(ids) < SCAN_IDS:
                return ids[:limit]
            where = And((Gt("id", after), Lte("id", ids[limit - 1])))
        return []

    # --- collections

    async def _create(self, index: IndexName, dim: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=HASH_CHARACTERS)
        schema.add_field("id", DataType.VARCHAR, max_length=4 * LONGEST_ID)
        schema.add_field("text", DataType.VARCHAR, max_length=MOST_BYTES)
        schema.add_field("record", DataType.VARCHAR, max_length=MOST_BYTES)
        schema.add_field(
            "facts",
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_length=HASH_CHARACTERS,
            max_capacity=MOST_ITEMS,
        )
        schema.add_field("ordered", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        if self.capabilities.full_text:
            for name in ("words", "counts"):
                schema.add_field(name, DataType.ARRAY, element_type=DataType.INT64, max_capacity=MOST_ITEMS)
            schema.add_field("length", DataType.INT64)
            schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
        await self._ask(self._server.create_collection, index, schema=schema, consistency_level="Strong")

    async def _create_indexes(self, index: IndexName) -> None:
        """Those that are not there: a creation may have been cut off before them."""
        wanted: dict[str, Mapping[str, Any]] = {
            "vector": {"metric_type": "COSINE", **(_LITE_VECTOR_INDEX if self._is_lite else _VECTOR_INDEX)}
        }
        if self.capabilities.full_text:
            wanted["terms"] = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"}
            if not self._is_lite:  # it scans arrays, as servers before 2.4 do
                wanted |= {name: {"index_type": "INVERTED"} for name in ("facts", "words")}
        missing = wanted.keys() - set(await self._ask(self._server.list_indexes, index))
        if not missing:
            return
        indexes = MilvusClient.prepare_index_params()
        for name in sorted(missing):
            indexes.add_index(name, **wanted[name])
        # Without waiting, for which the driver takes half a second each: there is nothing to build yet.
        await self._ask(self._server.create_index, index, index_params=indexes, sync=False)

    async def _dim(self, index: IndexName) -> int:
        """The dimension; the first time, the collection is also made ready for searches."""
        if index not in self._dimensions:
            if not await self._ask(self._server.has_collection, index):
                raise _absent(index)
            described = await self._ask(self._server.describe_collection, index)
            await self._ask(self._server.load_collection, index)
            (vector,) = (f for f in described["fields"] if f["name"] == "vector")
            self._dimensions[index] = int(vector["params"]["dim"])
        return self._dimensions[index]

    def _name(self, index: IndexName) -> str:
        name = str(index)
        if not re.fullmatch(r"[A-Za-z0-9_]{1,200}", name):
            name = f"kb_{hashlib.sha256(name.encode()).hexdigest()[:40]}"
        return self._prefix + name

    def _forget(self, index: IndexName) -> None:
        self._dimensions.pop(index, None)
        self._statistics.pop(index, None)

    # --- statistics

    def _refuse_text(self) -> None:
        if not self.capabilities.full_text:
            raise UnsupportedByStore(
                "This Milvus server has no sparse vectors, which text search needs.",
                hint="Use Milvus 2.5 or later.",
            )

    async def _totals(self, index: IndexName) -> _Statistics:
        """Statistics that know at least total and average length."""
        now = time.monotonic()
        known = self._statistics.get(index)
        if known is None or known.expires <= now:
            lengths, frequency = await self._guarded(index, self._read_terms, self._name(index))
            age = min(LONGEST_AGE_S, max(STATISTICS_AGE_S, len(lengths) / 100))
            known = _Statistics(len(lengths), sum(lengths) / max(1, len(lengths)), now + age, frequency)
            self._statistics[index] = known
        return known

    def _read_terms(self, name: str) -> tuple[list[int], Counter[int]]:
        """In a thread: the length of every record (Milvus has no sums), and with Lite how many hold each term.

        Lite reads all its records to count those that hold one term.
        """
        lengths: list[int] = []
        frequency: Counter[int] = Counter()
        fields = ["length", "words"] if self._is_lite else ["length"]
        pages = self._server.query_iterator(
            name, batch_size=STATISTICS_ROWS, filter=ALL, output_fields=fields, timeout=self._timeout_s
        )
        try:
            for page in iter(pages.next, []):
                lengths += (row["length"] for row in page)
                for row in page:
                    frequency.update(row.get("words", ()))
        finally:
            pages.close()
        return lengths, frequency

    async def _counted(self, index: IndexName, hashes: Sequence[int]) -> _Statistics:
        """Statistics that also know how many records hold each of the terms."""
        statistics = await self._totals(index)
        if self._is_lite:
            return statistics  # what it does not list, no record held
        missing = [hashed for hashed in dict.fromkeys(hashes) if hashed not in statistics.frequency]
        counts = await asyncio.gather(
            *(self._count(index, f"array_contains(words, {hashed})") for hashed in missing)
        )
        for hashed, count in zip(missing, counts, strict=True):
            statistics.frequency[hashed] = count
        return statistics

    async def _average_length(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> float:
        """The average length when the records will have been written."""
        statistics = await self._totals(index)
        written = sum(len(embedded.terms) for embedded in records)
        total = statistics.total + len(records)
        return (statistics.total * statistics.average_length + written) / max(1, total)

    # --- the driver

    @property
    def _server(self) -> MilvusClient:
        if self._client is None:
            raise StoreError("The milvus store is not open.", hint="Await its open() first.")
        return self._client

    async def _count(self, index: IndexName, filter_: str) -> int:
        (row,) = await self._query(index, filter_, ["count(*)"])
        return int(row["count(*)"])

    async def _query(
        self, index: IndexName, filter_: str, fields: list[str], **options: Any
    ) -> list[dict[str, Any]]:
        return list(
            await self._ask(
                self._server.query,
                index,
                filter=filter_,
                output_fields=fields,
                consistency_level="Strong",
                **options,
            )
        )

    async def _search(self, index: IndexName, **options: Any) -> list[dict[str, Any]]:
        (found,) = await self._ask(self._server.search, index, consistency_level="Strong", **options)
        return list(found)

    async def _ask(self, method: Callable[..., T], index: IndexName, **options: Any) -> T:
        """Call a method of the client about the index."""
        return await self._guarded(
            index, functools.partial(method, self._name(index), timeout=self._timeout_s, **options)
        )

    async def _guarded(
        self, index: IndexName, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run it in a thread; what is cached about an index that went away is forgotten."""
        try:
            try:
                return await self._call(function, *args, **kwargs)
            except _NotLoaded:  # Milvus Lite was started anew
                await self._call(self._server.load_collection, self._name(index), timeout=self._timeout_s)
                return await self._call(function, *args, **kwargs)
        except NotFound:
            self._forget(index)
            raise _absent(index) from None

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in a thread; errors of the driver become ours."""
        if self._threads is None:
            raise StoreError("The milvus store is not open.", hint="Await its open() first.")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, functools.partial(function, *args, **kwargs))
        except (MilvusException, grpc.RpcError) as error:
            raise _ours(error, self._url) from error

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Milvus Lite loses deletes among concurrent writes; servers need no lock."""
        if not self._is_lite:
            yield
            return
        async with self._lite_writes:
            yield


_SERVER_HINT = "Check that Milvus runs and that RAG_STORES__MILVUS__URL names it; then try again."
_CONNECT_FAILED = 2  # a code of the driver
_COLLECTION_NOT_LOADED = 101
_NOT_ALLOWED = frozenset({1400, 1401})  # not authenticated, lacking a privilege
_AWAY = frozenset(
    {
        _CONNECT_FAILED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)
_BUSY = frozenset({ErrorCode.RATE_LIMIT, ErrorCode.FORCE_DENY, _COLLECTION_NOT_LOADED})


def _ours(error: MilvusException | grpc.RpcError, url: str) -> RagError:
    code = error.code() if isinstance(error, grpc.RpcError) else error.code
    said = str(error.details()) if isinstance(error, grpc.RpcError) else str(error.message)
    if code == ErrorCode.COLLECTION_NOT_FOUND:
        return NotFound(said)
    if code in _NOT_ALLOWED or code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return StoreError(f"Milvus does not allow this: {said}", hint="Check RAG_STORES__MILVUS__TOKEN.")
    gave_up = (
        code == ErrorCode.UNEXPECTED_ERROR and "timeout" in said
    )  # the driver itself, waiting for a load
    if code in _AWAY or gave_up:
        return StoreUnavailable(f"Milvus at {url} does not answer: {said}", hint=_SERVER_HINT)
    if code in _BUSY or getattr(error, "retriable", False):
        kind = _NotLoaded if code == _COLLECTION_NOT_LOADED else StoreUnavailable
        return kind(f"Milvus cannot answer now: {said}", hint=_SERVER_HINT)
    if re.search(r"\bdim\b", said):
        return DimensionMismatch(f"Milvus refused a vector: {said}")
    return StoreError(f"Milvus refused the request ({code}): {said}")


def _absent(index: IndexName) -> NotFound:
    return NotFound(f"Index {index} does not exist.", hint="Create it with ensure_index.")


def _has_sparse_vectors(version: str) -> bool:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return found is None or (int(found[1]), int(found[2])) >= (2, 4)


def _key(record_id: str) -> str:
    """Ids may be of any length and hold anything; keys are 32 hex digits."""
    encoded = record_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=HASH_CHARACTERS // 2).hexdigest()


def _one_of(keys: Sequence[str]) -> str:
    return f"key in [{', '.join(f'{chr(34)}{key}{chr(34)}' for key in keys)}]"


def _row(embedded: EmbeddedRecord, average_length: float | None) -> dict[str, Any]:
    """`average_length` is None for a server without text search."""
    record = embedded.record
    fields = {name: getattr(record, name) for name in _KEPT_AS_JSON}
    fields["metadata"] = plain_metadata(record.metadata)
    row: dict[str, Any] = {
        "key": _key(record.id),
        "id": record.id,
        "text": record.text,
        "record": json.dumps(fields, ensure_ascii=False),
        "facts": hashed_facts(record),
        "ordered": hashed_order(record),
        "vector": embedded.vector.tolist(),
    }
    if average_length is not None:
        row |= _text_fields(embedded.terms, average_length)
    _refuse_long(record, row)
    return row


def _text_fields(terms: Sequence[str], average_length: float) -> dict[str, Any]:
    counts = Counter(_hash(term) for term in terms)
    damping = _damping(len(terms), average_length)
    sparse = {_place(hashed): (K1 + 1) * n / (n + damping) for hashed, n in counts.items()}
    return {
        "words": list(counts),
        "counts": list(counts.values()),
        "length": len(terms),
        "terms": sparse or {_NO_WORD: 1.0},
    }


def _refuse_long(record: Record, row: Mapping[str, Any]) -> None:
    texts = {
        "text": row["text"],
        "header and metadata": row["record"],
        "metadata to compare": json.dumps(row["ordered"]),
    }
    for name, text in texts.items():
        if (size := len(text.encode())) > MOST_BYTES:
            raise InvalidValue(
                f"Record {record.id!r} has {size} bytes of {name}; Milvus keeps {MOST_BYTES} at most.",
                hint="Use smaller chunks, or less metadata.",
            )
    for name in ("facts", "words"):
        if (items := len(row.get(name, ()))) > MOST_ITEMS:
            raise InvalidValue(
                f"Record {record.id!r} has {items} {name}; Milvus keeps {MOST_ITEMS} at most.",
                hint="Use smaller chunks, or less metadata.",
            )


_RECORD = ("id", "text", "record")  # fields that hold a record
_KEPT_AS_JSON = tuple(name for name in Record.__dataclass_fields__ if name not in _RECORD)


def _record(row: Mapping[str, Any]) -> Record:
    return Record(id=row["id"], text=row["text"], **json.loads(row["record"]))


def _hash(term: str) -> int:
    """63 bits that stand for the term: expressions take no negative numbers everywhere."""
    digest = hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _place(hashed: int) -> int:
    """The term's place in sparse vectors, which have 2**32 - 1. Sharing one costs a useless candidate."""
    return hashed % (2**32 - 2) + 1


def _damping(length: int, average_length: float) -> float:
    return K1 * (1 - B + B * length / max(average_length, 1e-9))


def _bm25(row: Mapping[str, Any], weights: Mapping[int, float], average_length: float) -> float:
    counts = zip(row["words"], row["counts"], strict=True)
    return bm25(((weights[h], n) for h, n in counts if h in weights), row["length"], average_length)


def _best(hits: list[Hit], k: int) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]


def _dense_score(cosine: float) -> float:
    return min(1.0, max(0.0, (1 + cosine) / 2))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
