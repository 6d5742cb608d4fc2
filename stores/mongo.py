"""How are records kept and searched in MongoDB? One collection for each index, named in a registry.

Where the server has vector search (Atlas, or a server with `mongot`; asked, never guessed from a version),
`$vectorSearch` answers dense searches, and a write returns when its records are found by it. Elsewhere, and
for filters with ranges, all matching vectors are streamed here and compared: exact, and as slow as there are
many, which suits the second stage of a search, whose candidates are few.

Text search lets an index on hashed terms find the candidates, those with the question's rarest terms, and
ranks them here by BM25, as every other store does. `$search` is not used: it lags behind writes, and Lucene
keeps the length of a record in one byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import json
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from core.errors import DimensionMismatch, InvalidValue, NotFound, RagError, StoreError, StoreUnavailable
from core.settings import StoreServer
from core.types import EmbeddedRecord, Hit, IndexName, Record, TermStats, Vector
from stores.base import K1, B, Capabilities, VectorStore, idf
from stores.bm25 import rarest_terms, scored_terms
from stores.checks import check_filter, check_ids, check_records, check_vector, plain_metadata
from stores.facts import facts
from stores.filters import And, Eq, Filter, Ne
from stores.mongo_filters import condition, is_native

try:
    from bson.binary import Binary, BinaryVectorDtype
    from pymongo import AsyncMongoClient, ReplaceOne, errors
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase
    from pymongo.operations import SearchIndexModel
except ModuleNotFoundError as error:
    raise StoreError(
        f"The mongo store needs its driver: {error}.", hint="Run: .venv/bin/pip install -e '.[mongo]'"
    ) from error

Document = dict[str, Any]
T = TypeVar("T")

REGISTRY = "rag_indexes"
VECTOR_INDEX = "vectors"
BATCH_RECORDS = 200  # written in one request
BATCH_READ = 1000  # vectors or counts, in one answer
WRITE_ATTEMPTS = 3
# BM25 scores at most about this many records, as in `stores.pgvector`.
CANDIDATE_ROWS = 4000
MAX_TERMS = 64  # distinct terms of a question that are scored: its rarest
STATISTICS_AGE_S = 10.0  # for which counts are used again; a write of our own ends it
NEIGHBOURS_PER_HIT, LEAST_NEIGHBOURS, MOST_NEIGHBOURS = 20, 200, 10_000  # of `$vectorSearch`
LONGEST_SELECTION_S = 5.0  # a server that is away shows within this
BUILD_S = 120.0  # for which a new vector index, and then each write, may take to be searchable
POLL_S = 0.1

# What servers without vector search say when they are asked for their search indexes.
_NO_SEARCH_CODES = frozenset({31082, 115, 59, 40324, 40234, 238})
_RECORD_FIELDS = tuple(Record.__dataclass_fields__)
_COUNT = np.dtype([("term", "<i8"), ("number", "<u4")])  # how often a term occurs in a record
_ID = {"_id": 1}
_PROJECTION = dict.fromkeys(("_id", *(name for name in _RECORD_FIELDS if name != "id")), 1)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,150}")


@dataclass(frozen=True, slots=True)
class _Index:
    """An entry of the registry. A dropped index and one of the same name made anew never share a collection."""

    collection: str
    dim: int
    native: bool  # has a vector index


@dataclass(slots=True)
class _Statistics:
    """What BM25 needs to know about an index. `expires` is a time of `time.monotonic`."""

    total: int
    average_length: float
    expires: float
    frequency: dict[int, int] = field(default_factory=dict)


class MongoStore(VectorStore):
    """Keeps indexes in the MongoDB (6 or later) at `url` (`mongodb[+srv]://[user:password@]host[/database]`).

    Without a name in the URL the database is `rag`. Writes are acknowledged by a majority, in the journal.
    `pool_size` bounds the connections, `timeout_s` each request, and with 5 s at most the wait for a server.
    """

    kind: ClassVar[str] = "mongo"
    capabilities = Capabilities(max_dimensions=8192)

    def __init__(self, url: str, *, pool_size: int = 10, timeout_s: float = 10.0) -> None:
        self._url = url
        self._options: dict[str, Any] = {
            "maxPoolSize": pool_size,
            "waitQueueTimeoutMS": int(timeout_s * 1000),
            "serverSelectionTimeoutMS": int(min(timeout_s, LONGEST_SELECTION_S) * 1000),
            "connectTimeoutMS": int(min(timeout_s, LONGEST_SELECTION_S) * 1000),
            "socketTimeoutMS": int(timeout_s * 1000),
            "w": "majority",
            "journal": True,
        }
        self._client: AsyncMongoClient[Document] | None = None
        self._statistics: dict[str, _Statistics] = {}

    @classmethod
    def at(cls, server: StoreServer) -> Self:
        return cls(server.url.get_secret_value(), pool_size=server.pool_size, timeout_s=server.timeout_s)

    async def open(self) -> None:
        with self._translated():
            self._client = AsyncMongoClient(self._url, **self._options)
        try:
            await self.ping()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def ping(self) -> None:
        with self._translated():
            await self._database.command("ping")

    async def ensure_index(self, index: IndexName, *, dim: int) -> None:
        self.refuse_dimension(dim)
        found = await self._find(index)
        if found is None:
            await self.drop_index(index)  # what is left of one whose removal was cut off
            found = await self._create(index, dim)
        if found.dim != dim:
            raise DimensionMismatch(
                f"Index {index} holds vectors of {found.dim} numbers, not {dim}.",
                hint="Rebuild the knowledge base: a new generation takes the new dimension.",
            )

    async def drop_index(self, index: IndexName) -> None:
        registry = {"_id": str(index)}
        with self._translated():
            # The entry goes last: who was cut off in between can begin again.
            gone = await self._database[REGISTRY].find_one_and_update(registry, {"$set": {"dropped": True}})
            if gone is not None:
                self._statistics.pop(gone["collection"], None)
                await self._database.drop_collection(gone["collection"])
                await self._database[REGISTRY].delete_one({**registry, "collection": gone["collection"]})

    async def indexes(self) -> list[IndexName]:
        with self._translated():
            entries = await self._database[REGISTRY].find({}, _ID).to_list()
        return [index for entry in entries if (index := IndexName.read(entry["_id"]))]

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        found = await self._index(index)
        check_records(records, found.dim)
        unique = list({embedded.record.id: embedded for embedded in records}.values())
        writes = [(uuid4().hex, part) for part in _batches(unique, MOST_NEIGHBOURS)]
        with self._translated():
            for write, part in writes:
                for batch in _batches(part, BATCH_RECORDS):
                    await self._write(found, [_document(embedded, write) for embedded in batch])
        self._statistics.pop(found.collection, None)
        if await self._find(index) != found:  # dropped meanwhile; the write has made the collection anew
            with self._translated():
                await self._database.drop_collection(found.collection)
            raise _absent(index)
        if found.native:
            for write, part in writes:
                await self._until_searchable(found, write, [embedded.record.id for embedded in part])

    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        check_ids(document_id, keep_revision or "")
        found = await self._index(index)
        where: Filter = Eq("document_id", document_id)
        if keep_revision is not None:
            where = And((where, Ne("revision", keep_revision)))
        with self._translated():
            gone = await self._collection(found).delete_many(condition(where))
        self._statistics.pop(found.collection, None)
        return int(gone.deleted_count)

    async def get(self, index: IndexName, ids: Sequence[str]) -> list[Record]:
        check_ids(*ids)
        found = await self._load(await self._index(index), ids)
        return [found[record_id] for record_id in ids if record_id in found]

    async def scan(
        self, index: IndexName, *, after: str = "", limit: int = 500
    ) -> list[tuple[Record, Vector]]:
        check_ids(after)
        found = await self._index(index)
        if limit <= 0:  # MongoDB's 0 is no limit
            return []
        with self._translated():
            cursor = self._collection(found).find({"_id": {"$gt": after}}, {**_PROJECTION, "vector": 1})
            documents = await cursor.sort("_id", 1).limit(limit).to_list()
        return [(_record(each), _unpacked([each["vector"]])[0].copy()) for each in documents]

    async def count(self, index: IndexName, *, where: Filter | None = None) -> int:
        check_filter(where)
        found = await self._index(index)
        with self._translated():
            return int(await self._collection(found).count_documents(condition(where)))

    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        found = await self._index(index)
        check_vector(vector, found.dim)
        check_filter(where)
        if k <= 0:
            return []
        if found.native and k <= MOST_NEIGHBOURS and is_native(where):
            return await self._vector_search(found, vector, k, where)
        best = _Best(k)
        with self._translated():
            async for batch in self._read(found, condition(where), ("vector",)):
                vectors = _unpacked([each["vector"] for each in batch])
                best.add([each["_id"] for each in batch], vectors @ vector)
        return await self._hits(
            found, [(name, _dense_score((1 + cosine) / 2)) for name, cosine in best.found()]
        )

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        found = await self._index(index)
        check_filter(where)
        hashes = [_hash(term) for term in dict.fromkeys(terms)]
        if k <= 0 or not hashes:
            return []
        statistics = await self._counted(found, hashes)
        chosen = scored_terms(hashes, statistics.frequency, MAX_TERMS)
        few = (
            where is not None and await self._count_up_to(found, where, CANDIDATE_ROWS + 1) <= CANDIDATE_ROWS
        )
        finding = chosen if few else rarest_terms(chosen, statistics.frequency, CANDIDATE_ROWS)
        weights = {term: idf(statistics.total, statistics.frequency[term]) for term in chosen}
        query = {"$and": [{"terms": {"$in": finding}}, condition(where)]}
        best = _Best(k)
        with self._translated():
            async for batch in self._read(found, query, ("length", "counts")):
                best.add([each["_id"] for each in batch], _bm25(batch, weights, statistics.average_length))
        return await self._hits(found, best.found())

    async def term_stats(self, index: IndexName, terms: Sequence[str]) -> TermStats:
        hashes = {term: _hash(term) for term in terms}
        statistics = await self._counted(await self._index(index), list(hashes.values()))
        return TermStats(
            statistics.total, {term: statistics.frequency[hashed] for term, hashed in hashes.items()}
        )

    # --- the registry

    @property
    def _database(self) -> AsyncDatabase[Document]:
        if self._client is None:
            raise StoreError("The mongo store is not open.", hint="Await its open() first.")
        return self._client.get_default_database("rag")

    def _collection(self, index: _Index) -> AsyncCollection[Document]:
        return self._database[index.collection]

    async def _find(self, index: IndexName) -> _Index | None:
        with self._translated():
            entry = await self._database[REGISTRY].find_one(
                {"_id": str(index), "dropped": {"$exists": False}}
            )
        return None if entry is None else _Index(entry["collection"], entry["dim"], entry["native"])

    async def _index(self, index: IndexName) -> _Index:
        found = await self._find(index)
        if found is None:
            raise _absent(index)
        return found

    async def _create(self, index: IndexName, dim: int) -> _Index:
        """Make a collection with its indexes and enter it into the registry. The first to do so wins."""
        name = f"{_plain(index)}_{uuid4().hex[:12]}"
        with self._translated():
            collection = await self._database.create_collection(name)
            for keys in ("facts", "terms", "length"):
                await collection.create_index(keys)
            made = _Index(name, dim, await self._has_search(collection))
            if made.native:
                await self._create_vector_index(collection, dim)
            entry = {"_id": str(index), "collection": name, "dim": dim, "native": made.native}
            try:
                await self._database[REGISTRY].insert_one(entry)
            except errors.DuplicateKeyError:
                await self._database.drop_collection(name)
                return await self._index(index)
        return made

    # --- writing

    async def _write(self, index: _Index, documents: Sequence[Document]) -> None:
        requests = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents]
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                await self._collection(index).bulk_write(requests, ordered=False)
                return
            except errors.BulkWriteError as error:
                # Two writers that both insert the same record: the loser replaces it when it tries again.
                codes = {each["code"] for each in error.details["writeErrors"]}
                if codes != {11000} or attempt == WRITE_ATTEMPTS:
                    raise

    # --- vector search of the server

    async def _has_search(self, collection: AsyncCollection[Document]) -> bool:
        try:
            await (await collection.list_search_indexes()).to_list()
        except errors.OperationFailure as error:
            if error.code in _NO_SEARCH_CODES:
                return False
            raise
        return True

    async def _create_vector_index(self, collection: AsyncCollection[Document], dim: int) -> None:
        fields = [
            {"type": "vector", "path": "vector", "numDimensions": dim, "similarity": "cosine"},
            {"type": "filter", "path": "facts"},
            {"type": "filter", "path": "write"},
        ]
        await collection.create_search_index(
            SearchIndexModel({"fields": fields}, name=VECTOR_INDEX, type="vectorSearch")
        )

        async def ready() -> bool:
            indexes = await (await collection.list_search_indexes(VECTOR_INDEX)).to_list()
            return any(index.get("queryable") for index in indexes)

        await _until(ready, "The vector index is not ready")

    async def _until_searchable(self, index: _Index, write: str, names: list[str]) -> None:
        """Return when `$vectorSearch` finds the records of this write: it lags behind by about a second.

        All but those that another writer has replaced or deleted meanwhile.
        """
        anything = np.zeros(index.dim, dtype=np.float32)
        anything[0] = 1
        written = {"_id": {"$in": names}, "write": write}
        search = _stage(
            anything, {"exact": True, "limit": MOST_NEIGHBOURS, "filter": {"write": {"$eq": write}}}
        )

        async def ready() -> bool:
            found = await (await self._collection(index).aggregate([search, {"$project": _ID}])).to_list()
            left = await self._collection(index).find(written, _ID).to_list()
            return {each["_id"] for each in left} <= {each["_id"] for each in found}

        with self._translated():
            await _until(ready, "The vector index does not show the records yet")

    async def _vector_search(self, index: _Index, vector: Vector, k: int, where: Filter | None) -> list[Hit]:
        neighbours = min(MOST_NEIGHBOURS, max(LEAST_NEIGHBOURS, NEIGHBOURS_PER_HIT * k))
        # Of records with the same score the server gives any: so it must give some more.
        options: Document = {"numCandidates": neighbours, "limit": neighbours}
        if where is not None:
            options["filter"] = condition(where)
        pipeline = [
            _stage(vector, options),
            {"$project": {"score": {"$meta": "vectorSearchScore"}}},
            {"$sort": {"score": -1, "_id": 1}},
            {"$limit": k},
        ]
        with self._translated():
            found = await (await self._collection(index).aggregate(pipeline)).to_list()
        return await self._hits(index, [(each["_id"], _dense_score(each["score"])) for each in found])

    # --- reading

    async def _read(
        self, index: _Index, query: Document, fields: Sequence[str]
    ) -> AsyncIterator[list[Document]]:
        """Id and these fields of all matching records, some at a time."""
        projection = dict.fromkeys(fields, 1)
        async with self._collection(index).find(query, projection, batch_size=BATCH_READ) as cursor:
            while batch := await cursor.to_list(BATCH_READ):
                yield batch

    async def _load(self, index: _Index, ids: Sequence[str]) -> dict[str, Record]:
        with self._translated():
            cursor = self._collection(index).find({"_id": {"$in": list(ids)}}, _PROJECTION)
            return {document["_id"]: _record(document) async for document in cursor}

    async def _hits(self, index: _Index, found: Sequence[tuple[str, float]]) -> list[Hit]:
        records = await self._load(index, [name for name, _ in found])
        # What another task has deleted meanwhile is no hit.
        return [Hit(records[name], score) for name, score in found if name in records]

    # --- counting

    async def _count_up_to(self, index: _Index, where: Filter, limit: int) -> int:
        with self._translated():
            return int(await self._collection(index).count_documents(condition(where), limit=limit))

    async def _counted(self, index: _Index, hashes: Sequence[int]) -> _Statistics:
        """Statistics of the index that know all `hashes` and are not too old."""
        known = self._statistics.get(index.collection)
        if known is None or known.expires <= time.monotonic():
            known = self._statistics[index.collection] = await self._count_lengths(index)
        missing = [hashed for hashed in dict.fromkeys(hashes) if hashed not in known.frequency]
        with self._translated():
            counts = await asyncio.gather(
                *(self._collection(index).count_documents({"terms": hashed}) for hashed in missing)
            )
        known.frequency.update(zip(missing, counts, strict=True))
        return known

    async def _count_lengths(self, index: _Index) -> _Statistics:
        # The condition is always true; by it the index on lengths alone answers.
        pipeline: list[Document] = [
            {"$match": {"length": {"$gte": 0}}},
            {"$group": {"_id": None, "total": {"$sum": 1}, "mean": {"$avg": "$length"}}},
        ]
        with self._translated():
            found = await (await self._collection(index).aggregate(pipeline)).to_list()
        total, mean = (found[0]["total"], found[0]["mean"]) if found else (0, 0.0)
        return _Statistics(total, mean, time.monotonic() + STATISTICS_AGE_S)

    # --- errors

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except errors.PyMongoError as error:
            raise _ours(error, self._place) from error

    @property
    def _place(self) -> str:
        return re.sub(r"//[^/@]*@", "//", self._url).partition("?")[0]  # without a password


class _Best:
    """The `k` ids with the largest numbers so far, ties by id."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._kept: list[tuple[float, str]] = []  # (-number, id), best first

    def add(self, names: Sequence[str], numbers: NDArray[Any]) -> None:
        least = -self._kept[-1][0] if len(self._kept) == self._k else -math.inf
        places = np.flatnonzero(numbers >= least).tolist()
        new = [(-float(numbers[place]), names[place]) for place in places]
        self._kept = heapq.nsmallest(self._k, [*self._kept, *new])

    def found(self) -> list[tuple[str, float]]:
        return [(name, -negative) for negative, name in self._kept]


def _stage(vector: Vector, options: Document) -> Document:
    query = Binary.from_vector(vector.tolist(), BinaryVectorDtype.FLOAT32)
    return {"$vectorSearch": {"index": VECTOR_INDEX, "path": "vector", "queryVector": query, **options}}


async def _until(ready: Callable[[], Any], problem: str) -> None:
    deadline = time.monotonic() + BUILD_S
    while not await ready():
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"{problem} after {BUILD_S:.0f} s.",
                hint="Check the search nodes of the MongoDB deployment, then try again.",
            )
        await asyncio.sleep(POLL_S)


def _document(embedded: EmbeddedRecord, write: str) -> Document:
    record, counted = embedded.record, Counter(map(_hash, embedded.terms))
    fields = {name: getattr(record, name) for name in _RECORD_FIELDS if name != "id"}
    # As text: names may hold dots and dollars, and integers any number of digits.
    fields["metadata"] = json.dumps(plain_metadata(record.metadata), ensure_ascii=False)
    return {
        "_id": record.id,
        **fields,
        "facts": facts(record),
        "terms": list(counted),
        "counts": np.array(sorted(counted.items()), dtype=_COUNT).tobytes(),
        "length": len(embedded.terms),
        "vector": Binary.from_vector(embedded.vector.tolist(), BinaryVectorDtype.FLOAT32),
        "write": write,
    }


def _record(document: Mapping[str, Any]) -> Record:
    fields = {name: document[name] for name in _RECORD_FIELDS if name != "id"}
    return Record(document["_id"], **fields | {"metadata": json.loads(document["metadata"])})


def _unpacked(vectors: Sequence[bytes]) -> Vector:
    """As rows of one matrix. Each begins with two bytes for type and padding."""
    packed = b"".join(vector[2:] for vector in vectors)
    return np.frombuffer(packed, dtype="<f4").astype(np.float32, copy=False).reshape(len(vectors), -1)


def _plain(index: IndexName) -> str:
    name = str(index)
    return name if _PLAIN_NAME.fullmatch(name) else f"kb_{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def _hash(term: str) -> int:
    """64 bits (signed) that stand for the term: its length does not matter."""
    digest = hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _bm25(
    batch: Sequence[Document], weights: Mapping[int, float], average_length: float
) -> NDArray[np.float64]:
    """The scores of the records (shape (len(batch),), float64).

    Rounded, because sums of the same numbers in another order are no ties otherwise.
    """
    terms = np.array(sorted(weights), dtype=np.int64)
    weight = np.array([weights[term] for term in terms.tolist()])
    counts = np.frombuffer(b"".join(each["counts"] for each in batch), dtype=_COUNT)
    owner = np.repeat(np.arange(len(batch)), [len(each["counts"]) // _COUNT.itemsize for each in batch])
    place = np.searchsorted(terms, counts["term"]).clip(max=len(terms) - 1)
    scored = terms[place] == counts["term"]
    owner, place, number = owner[scored], place[scored], counts["number"][scored].astype(np.float64)
    lengths = np.array([each["length"] for each in batch], dtype=np.float64)
    damping = K1 * (1 - B + B * lengths / max(average_length, 1e-9))
    scores = np.zeros(len(batch))
    np.add.at(scores, owner, weight[place] * (K1 + 1) * number / (number + damping[owner]))
    return scores.round(10)


def _dense_score(score: float) -> float:
    return min(1.0, max(0.0, score))


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _absent(index: IndexName) -> NotFound:
    return NotFound(f"Index {index} does not exist.", hint="Create it with ensure_index.")


_SERVER_HINT = "Check that MongoDB runs and that RAG_STORES__MONGO__URL names it; then try again."
_DENIED_CODES = frozenset({13, 18, 8000})
# The cursor or session that a search reads with is gone, the server is shutting down.
_RESTARTED_CODES = frozenset({43, 91, 206, 237, 11600, 11602})
_TOO_LARGE_CODES = frozenset({10334, 17419, 17420})


def _too_large(said: object) -> InvalidValue:
    return InvalidValue(f"MongoDB takes records of up to 16 MB: {said}", hint="Use smaller chunks.")


def _refused(error: errors.OperationFailure, place: str) -> RagError:
    # The error's own text may hold the records.
    details: Mapping[str, Any] = error.details or {}
    cause = next(iter([*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]), details)
    code, said = cause.get("code", error.code), str(cause.get("errmsg", ""))[:1000]
    if code in _TOO_LARGE_CODES:
        return _too_large(said)
    if code in _DENIED_CODES:
        return StoreError(
            f"MongoDB at {place} does not allow this: {said}",
            hint="Check the user and password in RAG_STORES__MONGO__URL; the user needs the role readWrite.",
        )
    if error.timeout or code in _RESTARTED_CODES or error.has_error_label("RetryableWriteError"):
        return StoreUnavailable(f"MongoDB at {place} cannot answer now: {said}", hint=_SERVER_HINT)
    return StoreError(f"MongoDB refused the request ({code}): {said}")


def _first_words(error: errors.ConnectionFailure) -> str:
    """Without the driver's timeouts and its description of all servers."""
    return re.split(r" \(configured timeouts|, Timeout: ", str(error), maxsplit=1)[0]


# The first class that fits decides.
_TRANSLATIONS: Sequence[tuple[type[BaseException], Callable[[Any, str], RagError]]] = (
    (errors.ConfigurationError, lambda error, place: StoreError(
        f"The URL of MongoDB cannot be used: {error}", hint="Check RAG_STORES__MONGO__URL.")),
    (errors.ConnectionFailure, lambda error, place: StoreUnavailable(
        f"MongoDB at {place} does not answer: {_first_words(error)}", hint=_SERVER_HINT)),
    (errors.DocumentTooLarge, lambda error, place: _too_large(error)),
    (errors.OperationFailure, _refused),
    (errors.PyMongoError, lambda error, place: StoreError(f"MongoDB refused the request: {error}")),
)  # fmt: skip


def _ours(error: errors.PyMongoError, place: str) -> RagError:
    return next(ours(error, place) for kind, ours in _TRANSLATIONS if isinstance(error, kind))
