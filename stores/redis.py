"""How are records kept and searched in Redis (8, or Stack 7.4 and later)? One search index for each of ours.

A record is a hash `rag:{NAME}:r:ID`, which the search index of the same prefix holds. Beside it lie, all
with the prefix `rag:{NAME}`: the registry (dimension, number of records, their length in terms), the set of
each document's records, the number of records that hold each term, and sorted sets of the values that
ranges are asked of. Scripts change them together, so counts are always exact.

Text search lets the engine find candidates and ranks them here: RediSearch computes BM25 with b = 0.5 and
counts deleted records until it collects them; our BM25 has the constants and the counts of every other store.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import numpy as np

from core.errors import DimensionMismatch, NotFound, RagError, StoreError, StoreUnavailable
from core.settings import StoreServer
from core.types import EmbeddedRecord, Hit, IndexName, Record, TermStats, Vector
from stores.base import Capabilities, VectorStore, idf
from stores.bm25 import bm25
from stores.checks import check_filter, check_ids, check_records, check_vector, plain_metadata
from stores.filters import Filter, Range
from stores.redis_filters import (
    EVERY,
    condition,
    number_range,
    ordered_values,
    record_tokens,
    scalar_token,
    text_range,
)

try:
    from redis import asyncio as driver
    from redis import exceptions as failures
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff
except ModuleNotFoundError as error:
    raise StoreError(
        f"The redis store needs its driver: {error}.", hint="Run: .venv/bin/pip install -e '.[redis]'"
    ) from error

_log = logging.getLogger(__name__)

BATCH_COMMANDS = 100  # sent together; the server serves others between them
EXACT_ROWS = 2000  # the records of an index with up to this many are compared one by one
WORD_CHARACTERS = 16  # a term in the index
MAX_TERMS = 64  # distinct terms of a question that are scored: its rarest
# Candidates that the engine ranks and we rank again: this many for each hit, and so many at least.
CANDIDATES_PER_HIT, LEAST_CANDIDATES = 5, 100
SPARE_HITS = 4  # fetched beyond k, to see whether ties reach over it
MOST_TIES = 20_000  # among more, the order of ids is not kept
LEAST_NEIGHBOURS = 300  # that HNSW looks at
LEAST_SEARCH_VERSION = 2_10_00  # of the search module: the first with BM25STD

_TEXT_FIELDS = ("id", "document_id", "revision", "text", "header", "section")
_NUMBER_FIELDS = ("start", "end", "page_start", "page_end", "position")
_FIELDS = (*_TEXT_FIELDS, *_NUMBER_FIELDS, "metadata")
_FIELD_NAMES = tuple(name.encode() for name in _FIELDS)  # as the server gives them
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,150}")
_SCHEMA = (
    *("STOPWORDS", 0, "NOOFFSETS", "NOHL", "NOFIELDS", "SCHEMA"),
    *("tags", "TAG", "SEPARATOR", " ", "terms", "TEXT", "NOSTEM"),
    *("position", "NUMERIC", "page_start", "NUMERIC", "page_end", "NUMERIC"),
    *("vector", "VECTOR", "HNSW", 6, "TYPE", "FLOAT32", "DISTANCE_METRIC", "IP", "DIM"),
)

# ARGV: dim, then the arguments of FT.CREATE. Returns the dimension of the index that is there afterwards.
_CREATE = """
local dim = redis.call('HGET', KEYS[1], 'dim')
if dim then return dim end
redis.call('FT.CREATE', KEYS[1], unpack(ARGV, 2))
redis.call('HSET', KEYS[1], 'dim', ARGV[1])
return ARGV[1]
"""
# From then on nothing is written; the keys that are left go afterwards, the registry last.
_DROP = """
if redis.call('HDEL', KEYS[1], 'dim') == 1 then
  redis.call('HSET', KEYS[1], 'dropped', 1)
  redis.call('FT.DROPINDEX', KEYS[1])
end
return redis.call('EXISTS', KEYS[1])
"""
# The registry's `dim` is there while the index is. `forget` takes a record out of everything; the search
# index sees for itself that the hash goes.
_COMMON = """
local registry = KEYS[1]
local record = registry .. ':r:' .. ARGV[1]
local function count(terms, by)
  local seen, length = {}, 0
  for term in string.gmatch(terms, '%S+') do
    length = length + 1
    if not seen[term] then
      seen[term] = true
      if redis.call('HINCRBY', registry .. ':f', term, by) == 0 then
        redis.call('HDEL', registry .. ':f', term)
      end
    end
  end
  redis.call('HINCRBY', registry, 'length', by * length)
  redis.call('HINCRBY', registry, 'records', by)
end
local function forget(document)
  count(redis.call('HGET', record, 'terms'), -1)
  redis.call('SREM', registry .. ':d:' .. document, ARGV[1])
  redis.call('DEL', record)
end
"""
# ARGV: id, dim, document id, terms, n, n names and values of the hash, then kind, field, score and member of
# entries in sorted sets.
_WRITE = f"""{_COMMON}
if redis.call('HGET', registry, 'dim') ~= ARGV[2] then return redis.error_reply('ABSENT') end
local before = redis.call('HGET', record, 'document_id')
if before then forget(before) end
local last = 5 + ARGV[5]
redis.call('HSET', record, unpack(ARGV, 6, last))
redis.call('SADD', registry .. ':d:' .. ARGV[3], ARGV[1])
for i = last + 1, #ARGV, 4 do
  redis.call('ZADD', registry .. ':' .. ARGV[i] .. ':' .. ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
end
count(ARGV[4], 1)
"""
# ARGV: id, document id, whether a revision is kept, which. Returns how many records went.
_DELETE = f"""{_COMMON}
local found = redis.call('HMGET', record, 'document_id', 'revision')
if found[1] ~= ARGV[2] or (ARGV[3] == '1' and found[2] == ARGV[4]) then return 0 end
forget(ARGV[2])
redis.call('ZREM', registry .. ':text:id', ARGV[1])
return 1
"""

Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Registry:
    dim: int
    records: int
    length: int  # of all records together, in terms

    def weight(self, frequency: int) -> float:
        return idf(self.records, frequency)

    @property
    def average_length(self) -> float:
        return self.length / max(1, self.records)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A record that the engine found by its terms: the engine's score, and ours."""

    id: str
    score: float
    bm25: float


class _Scored(Protocol):
    @property
    def score(self) -> float: ...


S = TypeVar("S", bound=_Scored)


class RedisStore(VectorStore):
    """Keeps indexes in the Redis at `url` (`redis[s]://[user:password@]host:6379`), in its database 0.

    The server needs its search module, and must not lose data: an append-only file, and no eviction. One
    that only makes snapshots is warned about; one that keeps nothing is refused, unless `allow_volatile`.
    Keys begin with `prefix`. `pool_size` bounds the connections, `timeout_s` each request and the wait for
    a free connection.
    """

    kind: ClassVar[str] = "redis"
    capabilities = Capabilities(max_dimensions=32_768)

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "rag",
        allow_volatile: bool = False,
        pool_size: int = 10,
        timeout_s: float = 10.0,
    ) -> None:
        self._url = url
        self._prefix = prefix
        self._allow_volatile = allow_volatile
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._client: driver.Redis | None = None
        self._known: dict[IndexName, _Registry] = {}

    @classmethod
    def at(cls, server: StoreServer) -> Self:
        return cls(
            server.url.get_secret_value(),
            allow_volatile=server.allow_volatile,
            pool_size=server.pool_size,
            timeout_s=server.timeout_s,
        )

    async def open(self) -> None:
        self._client = driver.Redis.from_pool(
            driver.BlockingConnectionPool.from_url(
                self._url,
                max_connections=self._pool_size,
                timeout=self._timeout_s,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                # Once, on a new connection. Every request here may be sent twice; only the number that
                # `delete_document` returns can be too small then.
                retry=Retry(ExponentialBackoff(base=0.05), 1, (failures.ConnectionError,)),
                protocol=2,
            )
        )
        try:
            with self._translated():
                await _refuse_without_search(self._client)
                if not self._allow_volatile:
                    await _refuse_volatile(self._client)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def ping(self) -> None:
        await self._call("PING")

    async def ensure_index(self, index: IndexName, *, dim: int) -> None:
        self.refuse_dimension(dim)
        key = self._key(index)
        if await self._call("HEXISTS", key, "dropped"):  # a deletion that was cut off
            await self.drop_index(index)
        create = (dim, "ON", "HASH", "PREFIX", 1, f"{key}:r:", *_SCHEMA, dim)
        found = int(await self._call("EVAL", _CREATE, 1, key, *create))
        if found != dim:
            raise DimensionMismatch(
                f"Index {index} holds vectors of {found} numbers, not {dim}.",
                hint="Rebuild the knowledge base: a new generation takes the new dimension.",
            )

    async def drop_index(self, index: IndexName) -> None:
        key = self._key(index)
        if not await self._call("EVAL", _DROP, 1, key):
            return
        cursor = 0
        while True:
            cursor, keys = await self._call("SCAN", cursor, "MATCH", f"{_escaped(key)}:*", "COUNT", 1000)
            if keys:
                await self._call("UNLINK", *keys)
            if int(cursor) == 0:
                break
        await self._call("DEL", key)

    async def indexes(self) -> list[IndexName]:
        # By their registries: FT._LIST leaves out those whose removal was cut off.
        before, after = f"{self._prefix}:{{", "}"
        found: set[IndexName] = set()
        cursor = 0
        while True:
            cursor, keys = await self._call(
                "SCAN", cursor, "MATCH", f"{_escaped(before)}kb_*}}", "COUNT", 1000
            )
            names = (key.decode().removeprefix(before).removesuffix(after) for key in keys)
            found.update(filter(None, map(IndexName.read, names)))
            if int(cursor) == 0:
                return list(found)

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        dim = (await self._registry(index)).dim
        check_records(records, dim)
        await self._run_script(index, _WRITE, [_write_arguments(embedded, dim) for embedded in records])

    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        check_ids(document_id, keep_revision or "")
        await self._registry(index)  # an absent index raises
        ids = await self._call("SMEMBERS", f"{self._key(index)}:d:{document_id}")
        kept = (0, "") if keep_revision is None else (1, keep_revision)
        return sum(await self._run_script(index, _DELETE, [(i, document_id, *kept) for i in sorted(ids)]))

    async def get(self, index: IndexName, ids: Sequence[str]) -> list[Record]:
        check_ids(*ids)
        await self._registry(index)
        found = await self._load(index, ids)
        return [found[record_id] for record_id in ids if record_id in found]

    async def scan(
        self, index: IndexName, *, after: str = "", limit: int = 500
    ) -> list[tuple[Record, Vector]]:
        check_ids(after)
        await self._registry(index)
        key = self._key(index)
        ids = await self._call(
            "ZRANGEBYLEX", f"{key}:text:id", b"(" + after.encode(), "+", "LIMIT", 0, max(limit, 0)
        )
        rows = await self._pipeline([("HMGET", f"{key}:r:{i.decode()}", *_FIELDS, "vector") for i in ids])
        # What another task has deleted meanwhile is left out.
        return [(_record(row[:-1]), _vector(row[-1])) for row in rows if row[0] is not None]

    async def count(self, index: IndexName, *, where: Filter | None = None) -> int:
        registry = await self._registry(index)
        if where is None:
            return registry.records
        check_filter(where)
        return await self._count(index, await self._condition(index, where))

    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        known = self._known.get(index)
        if known is None or vector.shape != (known.dim,):  # it may have been made anew elsewhere
            known = await self._registry(index)
        check_vector(vector, known.dim)
        check_filter(where)
        if k <= 0:
            await self._registry(index)
            return []
        query = EVERY if where is None else await self._condition(index, where)
        if where is not None or known.records > EXACT_ROWS:
            hits = await self._nearest(index, vector, "*" if where is None else query, k)
            # HNSW finds too few where a cluster of deleted neighbours leads back into itself only.
            if len(hits) == k and (where is not None or self._known[index].records > EXACT_ROWS):
                return hits
        return await self._nearest(index, vector, query, k, exact=True)

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        check_filter(where)
        words = list(dict.fromkeys(map(_word, terms)))
        if k <= 0 or not words:
            await self._registry(index)
            return []
        if len(words) > MAX_TERMS:
            frequency = await self._frequencies(index, words)
            words = sorted((word for word in words if frequency[word]), key=frequency.__getitem__)
            words = words[:MAX_TERMS] or words[:1]
        query = _text_query(words, await self._condition(index, where) if where else None)
        most = max(LEAST_CANDIDATES, CANDIDATES_PER_HIT * k)
        found = await _past_ties(lambda number: self._candidates(index, query, words, number), k, most)
        best = sorted(found, key=lambda each: (-each.bm25, each.id))[:k]
        records = await self._load(index, [each.id for each in best])
        # What another task has deleted meanwhile is no hit.
        return [Hit(records[each.id], each.bm25) for each in best if each.id in records]

    async def term_stats(self, index: IndexName, terms: Sequence[str]) -> TermStats:
        registry = await self._registry(index)
        words = {term: _word(term) for term in terms}
        frequency = await self._frequencies(index, list(words.values()))
        return TermStats(registry.records, {term: frequency[word] for term, word in words.items()})

    # --- keys and commands

    def _key(self, index: IndexName) -> str:
        """Name of registry and search index. In braces, so that a cluster keeps all keys of an index together."""
        name = str(index)
        if not _PLAIN_NAME.fullmatch(name):
            name = f"kb_{hashlib.sha256(name.encode()).hexdigest()[:40]}"
        return f"{self._prefix}:{{{name}}}"

    async def _call(self, *command: Any, index: IndexName | None = None) -> Any:
        (answer,) = await self._pipeline([command], index)
        return answer

    async def _pipeline(self, commands: Sequence[Command], index: IndexName | None = None) -> list[Any]:
        """The answers to `commands`, which are sent in batches. The first error is raised, as one of ours."""
        if self._client is None:
            raise StoreError("The redis store is not open.", hint="Await its open() first.")
        answers: list[Any] = []
        with self._translated(index):
            for start in range(0, len(commands), BATCH_COMMANDS):
                async with self._client.pipeline(transaction=False) as pipeline:
                    for command in commands[start : start + BATCH_COMMANDS]:
                        pipeline.execute_command(*command)
                    answers += await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
        return answers

    async def _run_script(self, index: IndexName, script: str, arguments: Sequence[Command]) -> list[Any]:
        """Run the script once for each of `arguments`. It is sent once; then its hash stands for it."""
        if not arguments:
            return []
        key = self._key(index)
        sha = await self._call("SCRIPT", "LOAD", script)
        return await self._pipeline([("EVALSHA", sha, 1, key, *each) for each in arguments], index)

    async def _registry(self, index: IndexName) -> _Registry:
        return self._remember(index, await self._call(*self._registry_command(index)))

    def _registry_command(self, index: IndexName) -> Command:
        return ("HMGET", self._key(index), "dim", "records", "length")

    def _remember(self, index: IndexName, row: Sequence[bytes | None]) -> _Registry:
        """The registry in the answer to its command. The next search is made for an index of this size."""
        dim, records, length = row
        if dim is None:
            self._known.pop(index, None)
            raise _absent(index)
        self._known[index] = _Registry(int(dim), int(records or 0), int(length or 0))
        return self._known[index]

    # --- searches

    def _search(self, index: IndexName, query: str, *arguments: Any) -> Command:
        # The engine's own limit gives what it has found so far as if it were all: ours must come first.
        limit = ("TIMEOUT", int(1000 * self._timeout_s) + 1000, "DIALECT", 2)
        return ("FT.SEARCH", self._key(index), query, *arguments, *limit)

    async def _count(self, index: IndexName, query: str) -> int:
        return int((await self._call(*self._search(index, query, "LIMIT", 0, 0), index=index))[0])

    async def _nearest(
        self, index: IndexName, vector: Vector, query: str, k: int, *, exact: bool = False
    ) -> list[Hit]:
        """The nearest of the records that `query` finds.

        Where few match, the engine by itself compares them one by one; `exact` makes it do so.
        """
        packed = vector.astype("<f4").tobytes()

        async def fetch(number: int) -> list[Hit]:
            how = "HYBRID_POLICY ADHOC_BF" if exact else f"EF_RUNTIME {max(LEAST_NEIGHBOURS, 2 * number)}"
            command = self._search(
                index,
                f"({query})=>[KNN {number} @vector $vector {how} AS distance]",
                *("PARAMS", 2, "vector", packed, "SORTBY", "distance", "ASC", "LIMIT", 0, number),
                *("RETURN", len(_FIELDS) + 1, *_FIELDS, "distance"),
            )
            registry, (_, *found) = await self._pipeline([self._registry_command(index), command], index)
            self._remember(index, registry)
            rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in found[1::2]]
            return [
                Hit(_record([row.get(n) for n in _FIELD_NAMES]), _cosine(row[b"distance"])) for row in rows
            ]

        hits = await _past_ties(fetch, k, k + SPARE_HITS)
        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]

    async def _candidates(
        self, index: IndexName, query: str, words: Sequence[str], number: int
    ) -> list[_Candidate]:
        key = self._key(index)
        command = self._search(
            index,
            query,
            *("VERBATIM", "SCORER", "BM25STD", "WITHSCORES", "RETURN", 1, "terms", "LIMIT", 0, number),
        )
        row, numbers, (_, *found) = await self._pipeline(
            [self._registry_command(index), ("HMGET", f"{key}:f", *words), command], index
        )
        registry = self._remember(index, row)
        weights = [
            (word.encode(), registry.weight(int(n))) for word, n in zip(words, numbers, strict=True) if n
        ]
        beginning = len(f"{key}:r:".encode())
        return [
            _Candidate(
                name[beginning:].decode(), float(score), _bm25(terms, weights, registry.average_length)
            )
            for name, score, (_, terms) in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]

    async def _load(self, index: IndexName, ids: Sequence[str]) -> dict[str, Record]:
        key = self._key(index)
        wanted = list(dict.fromkeys(ids))
        rows = await self._pipeline(
            [("HMGET", f"{key}:r:{record_id}", *_FIELDS) for record_id in wanted], index
        )
        return {
            record_id: _record(row) for record_id, row in zip(wanted, rows, strict=True) if row[0] is not None
        }

    async def _frequencies(self, index: IndexName, words: Sequence[str]) -> dict[str, int]:
        if not words:
            return {}
        found = await self._call("HMGET", f"{self._key(index)}:f", *words)
        return {word: int(number or 0) for word, number in zip(words, found, strict=True)}

    async def _condition(self, index: IndexName, where: Filter) -> str:
        async def tokens_of(part: Range) -> list[str]:
            field = part.field
            if isinstance(part.value, str):
                key = f"{self._key(index)}:text:{field}"
                values = await self._call("ZRANGEBYLEX", key, *text_range(part))
                return [scalar_token(field, value.decode()) for value in values]
            low, high = number_range(part)
            key = f"{self._key(index)}:number:{field}"
            return [token.decode() for token in await self._call("ZRANGEBYSCORE", key, low, high)]

        return await condition(where, tokens_of)

    # --- errors

    @contextmanager
    def _translated(self, index: IndexName | None = None) -> Iterator[None]:
        try:
            yield
        except failures.RedisError as error:
            raise _ours(error, self._place, index) from error

    @property
    def _place(self) -> str:
        parts = urlsplit(self._url)  # without a password
        return f"{parts.hostname}:{parts.port or 6379}"


async def _refuse_without_search(client: driver.Redis) -> None:
    modules = (await client.info("modules")).get("modules", [])
    versions = [int(module["ver"]) for module in modules if module["name"] == "search"]
    if not versions or max(versions) < LEAST_SEARCH_VERSION:
        found = f"version {max(versions)} of the search module" if versions else "no search module"
        raise StoreError(f"The Redis server has {found}.", hint="Use Redis 8, or Redis Stack 7.4 or later.")


async def _refuse_volatile(client: driver.Redis) -> None:
    """Raise `StoreError` if the server may lose what it has acknowledged."""
    memory = await client.info("memory")
    if memory.get("maxmemory") and str(memory.get("maxmemory_policy", "")).startswith("allkeys"):
        raise StoreError(
            f"The Redis server deletes records when memory is short ({memory['maxmemory_policy']}).",
            hint=f"Run: CONFIG SET maxmemory-policy noeviction. {_VOLATILE_HINT}",
        )
    if (await client.info("persistence")).get("aof_enabled"):
        return
    try:
        snapshots = bool((await client.config_get("save")).get("save"))
    except failures.ResponseError:  # managed servers do not tell
        snapshots = False
    if not snapshots:
        raise StoreError(
            "The Redis server loses all records when it stops: it has no append-only file.",
            hint=f"Start it with --appendonly yes. {_VOLATILE_HINT}",
        )
    _log.warning(
        "The Redis server has snapshots but no append-only file: a crash loses the records since the last "
        "snapshot. Start it with --appendonly yes."
    )


async def _past_ties(fetch: Callable[[int], Awaitable[list[S]]], k: int, number: int) -> list[S]:
    """The best `number` (more than k) that `fetch` finds, or more, until ties with the k-th are all there.

    The engine gives any of them, and we owe those with the smallest ids.
    """
    while True:
        found = await fetch(number)
        if len(found) < number or number >= MOST_TIES or found[k - 1].score > found[-1].score:
            return found
        number *= 4


def _text_query(words: Sequence[str], condition: str | None) -> str:
    """The records that hold any of `words` and meet `condition`, so written that the engine's scores are BM25.

    A twofold negation matches without a score; a weight of 0 does that for most filters, but not for all. Under
    a condition the engine leaves some words of a union out of the score, but none that stand alone.
    """
    query = f"@terms:({'|'.join(words)})"
    if condition is None:
        return query
    return f"({query})=>{{$weight: 0}} -(-{condition}) {' '.join(f'~@terms:{word}' for word in words)}"


def _write_arguments(embedded: EmbeddedRecord, dim: int) -> Command:
    record, terms = embedded.record, " ".join(map(_word, embedded.terms))
    fields: dict[str, Any] = {name: getattr(record, name) for name in (*_TEXT_FIELDS, *_NUMBER_FIELDS)}
    fields = {name: value for name, value in fields.items() if value is not None}
    fields |= {
        "metadata": json.dumps(plain_metadata(record.metadata), ensure_ascii=False),
        "tags": " ".join(record_tokens(record)),
        "terms": terms,
        "vector": embedded.vector.astype("<f4").tobytes(),
    }
    flat = [part for item in fields.items() for part in item]
    ordered: list[Any] = []
    for name, value in ordered_values(record):
        if isinstance(value, str):
            ordered += ("text", name, 0, value)
        else:
            ordered += ("number", name, value, scalar_token(name, value))
    return (record.id, dim, record.document_id, terms, len(flat), *flat, *ordered)


def _record(row: Sequence[bytes | None]) -> Record:
    texts, numbers = row[: len(_TEXT_FIELDS)], row[len(_TEXT_FIELDS) : -1]
    fields: dict[str, Any] = {
        n: v.decode() for n, v in zip(_TEXT_FIELDS, texts, strict=True) if v is not None
    }
    fields |= {n: int(v) for n, v in zip(_NUMBER_FIELDS, numbers, strict=True) if v is not None}
    return Record(**fields, metadata=json.loads(row[-1] or b"{}"))


def _vector(packed: bytes) -> Vector:
    return np.frombuffer(packed, dtype="<f4").astype(np.float32)


def _cosine(distance: bytes) -> float:
    """The score for a distance of the engine, which is 1 - cosine."""
    return min(1.0, max(0.0, 1 - float(distance) / 2))


def _bm25(terms: bytes, weights: Sequence[tuple[bytes, float]], average_length: float) -> float:
    """Words are all of one length, so a word is never found across the space between two."""
    length = (len(terms) + 1) // (WORD_CHARACTERS + 1)
    return bm25(((weight, terms.count(word)) for word, weight in weights), length, average_length)


def _word(term: str) -> str:
    """64 bits in hexadecimal that stand for the term: the engine's tokeniser leaves them alone."""
    encoded = term.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=WORD_CHARACTERS // 2).hexdigest()


def _escaped(key: str) -> str:
    """The key as a pattern that matches itself only."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", key)


def _absent(index: IndexName | None) -> NotFound:
    return NotFound(f"Index {index} does not exist.", hint="Create it with ensure_index.")


_SERVER_HINT = "Check that Redis runs and that RAG_STORES__REDIS__URL names it; then try again."
_ADDRESS = re.compile(r"^Error -?\d+ connecting to \S+ ")  # which we have said
_VOLATILE_HINT = "To accept the loss, set RAG_STORES__REDIS__ALLOW_VOLATILE=true."
# By class or by words in the message; the first that fits decides. Classes of the driver are few.
_TRANSLATIONS: Sequence[tuple[type[BaseException], str, Callable[[str, str, IndexName | None], RagError]]] = (
    (failures.AuthenticationError, "", lambda place, said, index: StoreError(
        f"Redis at {place} refuses the password: {said}",
        hint="Check the user and password in RAG_STORES__REDIS__URL.")),
    (failures.NoPermissionError, "", lambda place, said, index: StoreError(
        f"The user of Redis at {place} may not do this: {said}", hint="Grant it the command.")),
    (failures.ConnectionError, "", lambda place, said, index: StoreUnavailable(
        f"Redis at {place} does not answer: {_ADDRESS.sub('', said)}", hint=_SERVER_HINT)),
    (failures.TimeoutError, "", lambda place, said, index: StoreUnavailable(
        f"Redis at {place} does not answer in time.", hint=_SERVER_HINT)),
    (failures.OutOfMemoryError, "", lambda place, said, index: StoreUnavailable(
        f"Redis at {place} has no memory left: {said}", hint="Raise its maxmemory, or delete knowledge bases.")),
    (failures.NoScriptError, "", lambda place, said, index: StoreUnavailable(
        f"Redis at {place} was started anew: {said}", hint="Try again.")),
    (failures.ReadOnlyError, "", lambda place, said, index: StoreUnavailable(
        f"Redis at {place} is a replica: {said}", hint="Let RAG_STORES__REDIS__URL name the primary.")),
    (failures.ResponseError, "ABSENT", lambda place, said, index: _absent(index)),
    (failures.ResponseError, "no such index", lambda place, said, index: _absent(index)),
    (failures.ResponseError, "blob size", lambda place, said, index: DimensionMismatch(
        f"Redis refused a vector: {said}")),
    (failures.ResponseError, "db != 0", lambda place, said, index: StoreError(
        f"Redis searches its database 0 only: {said}", hint="Take the number off RAG_STORES__REDIS__URL.")),
    (failures.RedisError, "", lambda place, said, index: StoreError(f"Redis refused the request: {said}")),
)  # fmt: skip


def _ours(error: failures.RedisError, place: str, index: IndexName | None) -> RagError:
    said = str(error)
    return next(
        ours(place, said, index)
        for kind, words, ours in _TRANSLATIONS
        if isinstance(error, kind) and words in said
    )
