"""How are records kept and searched in Elasticsearch 8 and 9? One index of the server for each of ours.

Dense search is HNSW over vectors of one byte for each number (a quarter of the memory); the server then compares
those it has found by the vectors as they were written, so that scores are exact. Before 8.18 it could not, so there
HNSW is over these. Lucene itself compares all records where a filter leaves few. Filters are answered by the field
`facts` (see `stores.facts`).

Text search lets the server find candidates and ranks them here. Lucene keeps a record's length in one byte,
rounding lengths above 40 by up to an eighth, and counts deleted records until it merges them away; our BM25
uses true lengths and counts, so that rankings are those of every other store.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from core.errors import DimensionMismatch, NotFound, RagError, StoreError, StoreUnavailable
from core.settings import StoreServer
from core.types import EmbeddedRecord, Hit, IndexName, Record, TermStats, Vector
from stores.base import K1, B, Capabilities, VectorStore, idf
from stores.bm25 import bm25
from stores.checks import check_filter, check_ids, check_records, check_vector, plain_metadata
from stores.elasticsearch_filters import condition
from stores.facts import facts
from stores.filters import And, Eq, Filter, Ne

try:
    import elasticsearch
    from elasticsearch import AsyncElasticsearch
except ModuleNotFoundError as error:
    raise StoreError(
        f"The elasticsearch store needs its driver: {error}.",
        hint="Run: .venv/bin/pip install -e '.[elasticsearch]'",
    ) from error

BATCH_RECORDS = 200  # in one bulk request: at most 20 MB, where servers take 100 MB
BATCH_IDS = 1000
MOST_HITS = 10_000  # Elasticsearch gives no more in one answer
MAX_TERMS = 1000  # of a question; Elasticsearch takes at least 1,024 clauses
# Candidates for k hits of a text search. The server's scores are off by a few percent, and by more in a small
# index whose documents were often replaced: it counts thousands of deleted records there.
CANDIDATES_PER_HIT, LEAST_CANDIDATES = 4, 100
STATISTICS_AGE_S = 10.0  # for which the average length is used again; a write of our own ends it
# Neighbours that HNSW looks at for k hits.
NEIGHBOURS_PER_HIT, LEAST_NEIGHBOURS = 3, 200
RESCORING = (8, 18)  # the first version that compares what it found by the vectors as they were written

T = TypeVar("T")
_RECORD_FIELDS = tuple(Record.__dataclass_fields__)
_MAPPINGS: Mapping[str, Any] = {
    "dynamic": False,  # fields that are not listed here are kept, but nothing is searched in them
    "properties": {
        "id": {"type": "keyword"},  # for order
        "facts": {"type": "keyword", "doc_values": False},
        "length": {"type": "integer"},
        "terms": {"type": "text", "analyzer": "whitespace", "similarity": "bm25", "index_options": "freqs"},
    },
}
_SETTINGS: Mapping[str, Any] = {
    "number_of_shards": 1,  # one set of term statistics, one HNSW graph
    "auto_expand_replicas": "0-1",
    "similarity": {"bm25": {"type": "BM25", "k1": K1, "b": B}},
}
_PLAIN_TERM = re.compile(r"[^\W_]{1,60}")
_PLAIN_NAME = re.compile(r"[a-z0-9_]{1,150}")


@dataclass(frozen=True, slots=True)
class _Statistics:
    total: int
    average_length: float
    frequency: Mapping[str, int]

    def weight(self, term: str) -> float:
        return idf(self.total, self.frequency[term])


@dataclass(frozen=True, slots=True)
class _Length:
    """Of an index's records, in terms. `expires` is a time of `time.monotonic`."""

    average: float
    expires: float


_UNKNOWN = _Length(0.0, 0.0)


class ElasticsearchStore(VectorStore):
    """Keeps indexes in the Elasticsearch (8.12 or later) at `url` (`https://[user:password@]host:9200`).

    `api_key` is a key as Elasticsearch encodes it, `ca_file` the certificate (PEM) that signs the server's.
    Names of indexes begin with `prefix`. `pool_size` bounds the connections, `timeout_s` each request.
    A search gives at most 10,000 hits.
    """

    kind: ClassVar[str] = "elasticsearch"
    capabilities = Capabilities(max_dimensions=4096)

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        ca_file: str | None = None,
        prefix: str = "rag-",
        pool_size: int = 10,
        timeout_s: float = 10.0,
    ) -> None:
        self._url = url
        self._options: dict[str, Any] = {
            "api_key": api_key,
            "connections_per_node": pool_size,
            "request_timeout": timeout_s,
            "max_retries": 1,  # every request here may be sent twice
        }
        if ca_file is not None:
            self._options["ca_certs"] = ca_file
        self._prefix = prefix
        self._client: AsyncElasticsearch | None = None
        self._dimensions: dict[IndexName, int] = {}
        self._lengths: dict[IndexName, _Length] = {}
        self._quantises = False

    @classmethod
    def at(cls, server: StoreServer) -> Self:
        return cls(
            server.url.get_secret_value(),
            api_key=server.token.get_secret_value() if server.token else None,
            ca_file=str(server.ca_file) if server.ca_file else None,
            pool_size=server.pool_size,
            timeout_s=server.timeout_s,
        )

    async def open(self) -> None:
        self._client = AsyncElasticsearch(self._url, **self._options)
        try:
            async with self._server() as server:
                found = str((await server.info())["version"]["number"])
        except BaseException:
            await self.close()
            raise
        version = tuple(int(part) for part in found.split(".")[:2])
        self._quantises = version >= RESCORING
        if version < (8, 12):
            await self.close()
            raise StoreError(
                f"The server at {self._place} is Elasticsearch {found}; 8.12 or later is needed.",
                hint="Upgrade it, or choose another store.",
            )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def ping(self) -> None:
        async with self._server() as server:
            await server.info()

    async def ensure_index(self, index: IndexName, *, dim: int) -> None:
        self.refuse_dimension(dim)
        async with self._server(index) as server:
            if not await server.indices.exists_alias(name=self._name(index)):
                await self._create(server, index, dim)
            # Another task may be creating it just now.
            await server.cluster.health(index=self._name(index), wait_for_status="yellow")
        self._dimensions.pop(index, None)
        found = await self._dim(index)
        if found != dim:
            raise DimensionMismatch(
                f"Index {index} holds vectors of {found} numbers, not {dim}.",
                hint="Rebuild the knowledge base: a new generation takes the new dimension.",
            )

    async def drop_index(self, index: IndexName) -> None:
        self._dimensions.pop(index, None)
        self._lengths.pop(index, None)
        async with self._server(index) as server:
            await server.indices.delete(index=self._concrete_name(index), ignore_unavailable=True)

    async def indexes(self) -> list[IndexName]:
        async with self._server() as server:
            found = await server.indices.get_alias(name=f"{self._prefix}kb_*")
        names = {alias.removeprefix(self._prefix) for each in found.values() for alias in each["aliases"]}
        return [index for name in names if (index := IndexName.read(name))]

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        check_records(records, await self._dim(index))
        for batch in _batches(records, BATCH_RECORDS):
            operations: list[Mapping[str, Any]] = []
            for embedded in batch:
                operations += ({"index": {"_id": _document_id(embedded.record.id)}}, _document(embedded))
            await self._bulk(index, operations)
        await self._refresh(index)

    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        check_ids(document_id, keep_revision or "")
        where: Filter = Eq("document_id", document_id)
        if keep_revision is not None:
            where = And((where, Ne("revision", keep_revision)))
        # Records of a write that was cut off may not be visible yet.
        await self._refresh(index)
        gone = 0
        while found := await self._search(index, query=condition(where), size=BATCH_IDS, source=()):
            gone += await self._bulk(index, [{"delete": {"_id": hit["_id"]}} for hit in found])
            await self._refresh(index)
        return gone

    async def get(self, index: IndexName, ids: Sequence[str]) -> list[Record]:
        check_ids(*ids)
        await self._dim(index)  # an absent index raises, whatever is asked for
        found: dict[str, Record] = {}
        async with self._server(index) as server:
            for batch in _batches(list(dict.fromkeys(ids)), BATCH_IDS):
                answer = await server.mget(
                    index=self._name(index),
                    ids=[_document_id(record_id) for record_id in batch],
                    source_includes=list(_RECORD_FIELDS),
                )
                for item in answer["docs"]:
                    if "error" in item:
                        raise _refused(item["error"], index)
                    if item["found"]:
                        record = _record(item["_source"])
                        found[record.id] = record
        return [found[record_id] for record_id in ids if record_id in found]

    async def scan(
        self, index: IndexName, *, after: str = "", limit: int = 500
    ) -> list[tuple[Record, Vector]]:
        check_ids(after)
        found = await self._search(
            index,
            query={"range": {"id": {"gt": after}}},
            size=max(0, min(limit, MOST_HITS)),
            sort=[{"id": "asc"}],
            fields=["vector"],  # since 9.0 it is no part of the source
        )
        return [
            (_record(hit["_source"]), np.asarray(hit["fields"]["vector"], dtype=np.float32)) for hit in found
        ]

    async def count(self, index: IndexName, *, where: Filter | None = None) -> int:
        check_filter(where)
        async with self._server(index) as server:
            answer = await server.count(index=self._name(index), query=condition(where))
        return int(answer["count"])

    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        check_vector(vector, await self._dim(index))
        check_filter(where)
        if k <= 0:
            return []
        neighbours = min(MOST_HITS, max(LEAST_NEIGHBOURS, NEIGHBOURS_PER_HIT * k))
        knn: dict[str, Any] = {
            "field": "vector",
            "query_vector": vector.tolist(),
            "k": neighbours,  # of records with the same score the server takes any, so it must give some more
            "num_candidates": neighbours,
        }
        if self._quantises:
            knn["rescore_vector"] = {"oversample": 1.0}  # all of the neighbours
        if where is not None:
            knn["filter"] = condition(where)
        found = await self._search(index, knn=knn, size=min(k, MOST_HITS), sort=_BEST_FIRST)
        return [Hit(_record(hit["_source"]), _dense_score(hit["_score"])) for hit in found]

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        check_filter(where)
        words = [_word(term) for term in dict.fromkeys(terms)][:MAX_TERMS]
        if k <= 0 or not words:
            await self._dim(index)
            return []
        found = {
            "query": {
                "bool": {
                    "must": {"match": {"terms": {"query": " ".join(words)}}},
                    "filter": condition(where),
                }
            },
            "size": min(MOST_HITS, max(LEAST_CANDIDATES, CANDIDATES_PER_HIT * k)),
            "sort": _BEST_FIRST,
            "_source": [*_RECORD_FIELDS, "terms", "length"],
            "track_total_hits": False,
        }
        counts, candidates = await self._search_both(index, self._counting(index, words), found)
        statistics = self._statistics(index, counts, words)
        return _ranked([hit["_source"] for hit in candidates["hits"]["hits"]], words, statistics, k)

    async def term_stats(self, index: IndexName, terms: Sequence[str]) -> TermStats:
        words = {term: _word(term) for term in terms}
        async with self._server(index) as server:
            answer = await server.search(
                index=self._name(index),
                allow_partial_search_results=False,
                **self._counting(index, list(words.values())),
            )
        found = self._statistics(index, answer.body, list(words.values()))
        return TermStats(found.total, {term: found.frequency[word] for term, word in words.items()})

    @property
    def _place(self) -> str:
        return re.sub(r"//[^/@]*@", "//", self._url)  # without a password

    def _name(self, index: IndexName) -> str:
        """The alias by which the index is used: the server creates indexes on writing, but no aliases."""
        name = str(index)
        if not _PLAIN_NAME.fullmatch(name):
            name = f"kb_{hashlib.sha256(name.encode()).hexdigest()[:40]}"
        return self._prefix + name

    def _concrete_name(self, index: IndexName) -> str:
        return f"{self._name(index)}.index"

    async def _create(self, server: AsyncElasticsearch, index: IndexName, dim: int) -> None:
        vector = {
            "type": "dense_vector",
            "dims": dim,
            "index": True,
            "similarity": "cosine",
            "index_options": {
                "type": "int8_hnsw" if self._quantises else "hnsw",
                "m": 16,
                "ef_construction": 100,
            },
        }
        mappings = {**_MAPPINGS, "properties": {**_MAPPINGS["properties"], "vector": vector}}
        try:
            await server.indices.create(
                index=self._concrete_name(index),
                mappings=mappings,
                settings=_SETTINGS,
                aliases={self._name(index): {}},
            )
        except elasticsearch.BadRequestError as error:
            if error.error != "resource_already_exists_exception":
                raise

    async def _dim(self, index: IndexName) -> int:
        if index not in self._dimensions:
            async with self._server(index) as server:
                answer = await server.indices.get_mapping(index=self._name(index))
            (found,) = answer.values()
            self._dimensions[index] = found["mappings"]["properties"]["vector"]["dims"]
        return self._dimensions[index]

    async def _refresh(self, index: IndexName) -> None:
        """Make all writes visible to searches."""
        self._lengths.pop(index, None)
        async with self._server(index) as server:
            await server.indices.refresh(index=self._name(index))

    async def _bulk(self, index: IndexName, operations: list[Mapping[str, Any]]) -> int:
        """Send them; return how many changed something."""
        async with self._server(index) as server:
            answer = await server.bulk(index=self._name(index), operations=operations, require_alias=True)
        results = [result for item in answer["items"] for result in item.values()]
        for result in results:
            if "error" in result:
                raise _refused(result["error"], index, result["status"])
        return sum(result["result"] != "not_found" for result in results)

    async def _search(
        self, index: IndexName, *, source: Sequence[str] = _RECORD_FIELDS, **body: Any
    ) -> list[dict[str, Any]]:
        async with self._server(index) as server:
            answer = await server.search(
                index=self._name(index),
                source={"includes": list(source)} if source else False,
                track_total_hits=False,
                allow_partial_search_results=False,
                **body,
            )
        return list(answer["hits"]["hits"])

    async def _search_both(self, index: IndexName, *bodies: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The answers to several searches, sent together."""
        header = {"allow_partial_search_results": False}
        searches = [part for body in bodies for part in (header, body)]
        async with self._server(index) as server:
            answers = (await server.msearch(index=self._name(index), searches=searches))["responses"]
        for answer in answers:
            if "error" in answer:
                raise _refused(answer["error"], index, answer["status"])
        return list(answers)

    def _counting(self, index: IndexName, words: Sequence[str]) -> dict[str, Any]:
        """The search that counts records, those with each word, and their average length unless it is known."""
        aggregations: dict[str, Any] = {}
        if words:
            filters = {word: {"term": {"terms": {"value": word}}} for word in words}
            aggregations["holding"] = {"filters": {"filters": filters}}
        if self._lengths.get(index, _UNKNOWN).expires <= time.monotonic():
            aggregations["length"] = {"avg": {"field": "length"}}
        return {"size": 0, "track_total_hits": True, "aggregations": aggregations}

    def _statistics(self, index: IndexName, answer: Mapping[str, Any], words: Sequence[str]) -> _Statistics:
        """What the answer to `_counting` says."""
        found = answer.get("aggregations", {})
        if "length" in found:
            expires = time.monotonic() + STATISTICS_AGE_S
            self._lengths[index] = _Length(found["length"]["value"] or 0.0, expires)
        holding = found["holding"]["buckets"] if words else {}
        return _Statistics(
            answer["hits"]["total"]["value"],
            self._lengths.get(index, _UNKNOWN).average,
            {word: bucket["doc_count"] for word, bucket in holding.items()},
        )

    @asynccontextmanager
    async def _server(self, index: IndexName | None = None) -> AsyncIterator[AsyncElasticsearch]:
        """The client; its errors become ours."""
        if self._client is None:
            raise StoreError("The elasticsearch store is not open.", hint="Await its open() first.")
        try:
            yield self._client
        except (elasticsearch.ApiError, elasticsearch.TransportError) as error:
            raise self._ours(error, index) from error

    def _ours(
        self, error: elasticsearch.ApiError | elasticsearch.TransportError, index: IndexName | None
    ) -> RagError:
        if isinstance(error, elasticsearch.UnsupportedProductError):
            return StoreError(f"The server at {self._place} is not Elasticsearch: {error}", hint=_URL_HINT)
        if isinstance(error, elasticsearch.ApiError):
            body = error.body if isinstance(error.body, Mapping) else {}
            cause = body.get("error")
            if not isinstance(cause, Mapping):
                cause = {"type": "", "reason": str(error)}
            return _refused(cause, index, error.meta.status)
        if isinstance(error, elasticsearch.SSLError):
            return StoreError(
                f"The certificate of {self._place} is not trusted: {error}",
                hint="Name the certificate that signs it in RAG_STORES__ELASTICSEARCH__CA_FILE.",
            )
        said = error.message  # without the driver's errors that led to it
        return StoreUnavailable(f"Elasticsearch at {self._place} does not answer: {said}", hint=_SERVER_HINT)


_BEST_FIRST = [{"_score": "desc"}, {"id": "asc"}]
_URL_HINT = "Check RAG_STORES__ELASTICSEARCH__URL."
_SERVER_HINT = (
    "Check that Elasticsearch runs and that RAG_STORES__ELASTICSEARCH__URL names it; then try again."
)


def _refused(cause: Mapping[str, Any], index: IndexName | None, status: int = 500) -> RagError:
    """Our error for what the server says of a request, or of one item of it."""
    kind, reason = str(cause.get("type", "")), str(cause.get("reason", ""))
    if kind == "index_not_found_exception":
        return NotFound(f"Index {index} does not exist.", hint="Create it with ensure_index.")
    if status in (401, 403):
        return StoreError(
            f"Elasticsearch does not allow this: {reason}",
            hint="Check RAG_STORES__ELASTICSEARCH__TOKEN, or the user in RAG_STORES__ELASTICSEARCH__URL.",
        )
    if status in (408, 429, 502, 503, 504):
        return StoreUnavailable(f"Elasticsearch cannot answer now: {reason}", hint=_SERVER_HINT)
    caused_by = cause.get("caused_by")
    said = f"{reason} {caused_by.get('reason', '')}" if isinstance(caused_by, Mapping) else reason
    if "number of dimensions" in said:
        return DimensionMismatch(f"Elasticsearch refused a vector: {said}")
    if kind == "media_type_header_exception":
        return StoreError(
            f"The server is older than the driver: {said}", hint="Run: pip install 'elasticsearch[async]<9'"
        )
    return StoreError(f"Elasticsearch refused the request ({kind}): {said}")


def _document_id(record_id: str) -> str:
    """Elasticsearch's own ids have at most 512 bytes and are not empty; ours may be anything."""
    return hashlib.sha256(record_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _document(embedded: EmbeddedRecord) -> dict[str, Any]:
    record = embedded.record
    fields = {name: getattr(record, name) for name in _RECORD_FIELDS}
    # As text: the server would refuse empty keys, and turn 1.0 into 1.
    fields["metadata"] = json.dumps(plain_metadata(record.metadata), ensure_ascii=False)
    return fields | {
        "facts": facts(record),
        "terms": " ".join(map(_word, embedded.terms)),
        "length": len(embedded.terms),
        "vector": embedded.vector.tolist(),
    }


def _record(source: Mapping[str, Any]) -> Record:
    fields = {name: source[name] for name in _RECORD_FIELDS}
    return Record(**fields | {"metadata": json.loads(source["metadata"])})


def _word(term: str) -> str:
    """The term as the whitespace analyzer leaves it alone: plain ones as they are, others as a hash."""
    if _PLAIN_TERM.fullmatch(term):
        return term
    return "=" + hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _ranked(
    sources: Sequence[Mapping[str, Any]], words: list[str], statistics: _Statistics, k: int
) -> list[Hit]:
    """The best `k` by BM25 as `MemoryStore` computes it, ties by id."""
    weights = {word: statistics.weight(word) for word in words}
    scored: list[tuple[float, str, Mapping[str, Any]]] = []
    for source in sources:
        counted = Counter(source["terms"].split(" "))
        counts = ((weight, counted[word]) for word, weight in weights.items())
        scored.append((-bm25(counts, source["length"], statistics.average_length), source["id"], source))
    return [Hit(_record(source), -negative) for negative, _, source in sorted(scored)[:k]]


def _dense_score(score: float) -> float:
    return min(1.0, max(0.0, score))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
