"""How are records kept and searched in PostgreSQL? One table for each index, in the schema `vectors`.

Dense search is pgvector's HNSW, or an exact scan where few records match, because HNSW loses results under a
narrow filter. Text search is true BM25: `terms` holds a 64-bit hash of each distinct term and has a GIN index
that finds candidates and counts document frequencies; `term_counts` is a sparse vector of how often each term
occurs, from which an inner product with a one-element vector reads one count in about 0.1 µs. PostgreSQL's own
ts_rank knows neither document frequencies nor lengths, and reading counts out of a tsvector is slower.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar

import psycopg
import psycopg_pool
from pgvector import Vector as PgVector
from pgvector.psycopg import register_vector_async
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb, set_json_loads
from pydantic_core import from_json

from core.connections import is_closed
from core.errors import (
    DimensionMismatch,
    InvalidValue,
    NotFound,
    RagError,
    StoreError,
    StoreUnavailable,
)
from core.types import EmbeddedRecord, Hit, IndexName, Record, TermStats, Vector
from stores.base import K1, B, Capabilities, VectorStore, idf
from stores.bm25 import rarest_terms, scored_terms
from stores.checks import check_filter, check_ids, check_records, check_vector, plain_metadata
from stores.filters import Filter
from stores.pgvector_filters import Params, condition

SCHEMA = "vectors"
BATCH_ROWS = 500  # rows that go to the server in one statement batch
# Up to this many matching records are compared one by one, which takes longer than HNSW but finds all: among 2,000
# of 20,000 HNSW found 96 to 98 % of the ten nearest.
EXACT_ROWS = 2000
MOST_WAYS = 1000  # filters for which it is remembered which of the two was chosen
NEIGHBOURS = 200  # that HNSW looks at, and at least twice as many as it is asked for
# BM25 scores at most about this many records, those with the question's rarest terms. A record outside them
# holds only its common terms, which weigh little: where this is a fifth of the index, 97 % of top tens are
# exactly those of a full ranking, and 99.4 % of the records in them are there.
CANDIDATE_ROWS = 4000
MAX_TERMS = 64  # distinct terms of a question that are scored: its rarest
# Seconds for which counts are used again. A common term takes long to count and changes little in proportion,
# so its count serves 10 ms for each record, up to the longest.
STATISTICS_AGE_S = 10.0
LONGEST_AGE_S = 600.0
_NAME_BYTES = 63  # PostgreSQL cuts longer names silently
_SPARSE_DIM = 1_000_000_000  # the largest pgvector allows
_SPARSE_ENTRIES = 16_000  # likewise
_MOST_NEIGHBOURS = 1000  # likewise

_COLUMNS = sql.SQL(
    "id, document_id, revision, text, header, section, start_, end_, page_start, page_end, position, metadata"
)
_CREATE = """
CREATE TABLE {table} (
    id text COLLATE "C" PRIMARY KEY,
    document_id text COLLATE "C" NOT NULL,
    revision text COLLATE "C" NOT NULL,
    text text NOT NULL,
    header text NOT NULL,
    section text NOT NULL,
    start_ integer NOT NULL,
    end_ integer NOT NULL,
    page_start integer,
    page_end integer,
    position integer NOT NULL,
    metadata jsonb NOT NULL,
    length integer NOT NULL,
    term_counts sparsevec({sparse_dim}) NOT NULL,
    terms bigint[] NOT NULL,
    embedding vector({dim}) NOT NULL
);
-- Counts are read for thousands of records in a search, so they stay in the row; vectors and terms leave it.
-- (With vectors in the row, 2,000 are compared five times faster, but a text search takes ten times as long.)
ALTER TABLE {table} ALTER COLUMN term_counts SET STORAGE MAIN;
ALTER TABLE {table} ALTER COLUMN terms SET STORAGE EXTERNAL;
-- The planner looks up each of the documents in a filter among the commonest ones: in 100 of them, that takes
-- longer than the search.
ALTER TABLE {table} ALTER COLUMN document_id SET STATISTICS 10;
CREATE INDEX ON {table} (document_id);
CREATE INDEX ON {table} (length);
CREATE INDEX ON {table} USING gin (metadata jsonb_path_ops);
-- Without fastupdate: searches would scan the list of pending entries one by one.
CREATE INDEX ON {table} USING gin (terms) WITH (fastupdate = off);
CREATE INDEX ON {table} USING hnsw ({indexed});
"""
# What HNSW keeps of a vector: all of it, or 16 bits of each number, from which it chooses the nearest; their scores
# are those of the whole vectors either way.
_WHOLE = "embedding vector_ip_ops"
_HALF = "(embedding::halfvec({dim})) halfvec_ip_ops"
_UPSERT = """
INSERT INTO {table} ({columns}, length, term_counts, terms, embedding)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::sparsevec, %s, %b)
ON CONFLICT (id) DO UPDATE SET
    ({columns}, length, term_counts, terms, embedding) = ROW (EXCLUDED.*)
"""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of an index's vectors: how many numbers, and whether HNSW keeps 16 bits of each."""

    dim: int
    half: bool


@dataclass(slots=True)
class _Statistics:
    """What BM25 needs to know about an index; `frequency` and `expires` are by term hash.

    Times to expire are those of `time.monotonic`.
    """

    total: int
    average_length: float
    totals_expire: float
    frequency: dict[int, int] = field(default_factory=dict)
    expires: dict[int, float] = field(default_factory=dict)

    def is_current(self, hashed: int, now: float) -> bool:
        return self.expires.get(hashed, now) > now  # at `now` it has expired: so has what was never counted

    def add(self, counted: Mapping[int, int], now: float) -> None:
        self.frequency.update(counted)
        for hashed, number in counted.items():
            self.expires[hashed] = now + min(LONGEST_AGE_S, max(STATISTICS_AGE_S, number / 100))

    def add_current(self, older: _Statistics, now: float) -> None:
        """Take over what has not expired of older statistics."""
        for hashed, number in older.frequency.items():
            if older.is_current(hashed, now):
                self.frequency[hashed] = number
                self.expires[hashed] = older.expires[hashed]


class PgVectorStore(VectorStore):
    """Keeps indexes in the PostgreSQL database at `url` (`postgresql://…`), which needs pgvector 0.8 or later.

    `pool_size` bounds the connections. A call that waits `timeout_s` seconds for a free one, or `answer_s` for its
    answers (the server may be frozen, or behind a cable that was cut), raises `StoreUnavailable`. With `half`, HNSW
    keeps 16 bits of each number in the indexes that are made from now on, and takes vectors of up to 4,000 numbers.
    """

    kind: ClassVar[str] = "pgvector"
    capabilities = Capabilities(max_dimensions=2000)

    def __init__(
        self,
        url: str,
        pool_size: int = 5,
        *,
        timeout_s: float = 10.0,
        answer_s: float = 30.0,
        half: bool = False,
    ) -> None:
        self._url = url
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._answer_s = answer_s
        self._half = half
        if half:
            self.capabilities = replace(self.capabilities, max_dimensions=4000)
        self._pool: psycopg_pool.AsyncConnectionPool | None = None
        self._shapes: dict[IndexName, _Shape] = {}
        self._statistics: dict[IndexName, _Statistics] = {}
        self._ways: dict[tuple[IndexName, Filter | None], tuple[_Way, float]] = {}

    async def open(self) -> None:
        with _translated():
            await _prepare_database(self._url, self._timeout_s, self._answer_s)
            self._pool = psycopg_pool.AsyncConnectionPool(
                self._url,
                min_size=1,
                max_size=self._pool_size,
                timeout=self._timeout_s,
                # While the server is away the pool tries again at growing intervals, up to this long; then the
                # next call makes it begin anew. The default would let a server that is back wait for minutes.
                reconnect_timeout=self._timeout_s,
                open=False,
                configure=self._configure,
                # After a restart of the server its old connections are replaced, not handed out.
                check=_refuse_closed,
                kwargs={
                    # Plans depend on the parameters; a prepared statement would keep a plan for the wrong ones.
                    "prepare_threshold": None,
                    # Most calls are one statement: a transaction around it would ask the server twice more.
                    "autocommit": True,
                    "connect_timeout": _whole_seconds(self._timeout_s),
                },
            )
            await self._pool.open(wait=True, timeout=self._timeout_s)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def ping(self) -> None:
        async with self._connection() as connection:
            await connection.execute("SELECT 1")

    async def ensure_index(self, index: IndexName, *, dim: int) -> None:
        self.refuse_dimension(dim)
        async with self._transaction(index) as connection:
            # Two workers may want the same index at the same time; IF NOT EXISTS alone fails then.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_name(index)])
            found = await _shape(connection, index)
            if found is None:
                names = {
                    "table": _table(index),
                    "dim": sql.Literal(dim),
                    "sparse_dim": sql.Literal(_SPARSE_DIM),
                    "indexed": sql.SQL(_HALF if self._half else _WHOLE).format(dim=sql.Literal(dim)),
                }
                await connection.execute(sql.SQL(_CREATE).format(**names))
            elif found.dim != dim:
                raise DimensionMismatch(
                    f"Index {index} holds vectors of {found.dim} numbers, not {dim}.",
                    hint="Rebuild the knowledge base: a new generation takes the new dimension.",
                )

    async def drop_index(self, index: IndexName) -> None:
        async with self._connection(index) as connection:
            await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_table(index)))
        self._shapes.pop(index, None)
        self._statistics.pop(index, None)

    async def indexes(self) -> list[IndexName]:
        statement = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        async with self._connection() as connection:
            rows = await (await connection.execute(statement, [SCHEMA])).fetchall()
        return [index for (name,) in rows if (index := IndexName.read(name))]

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        check_records(records, (await self._shape(index)).dim)
        # In the order of ids, so that two writers of the same records cannot block each other for good.
        rows = [_row(embedded) for embedded in sorted(records, key=lambda e: e.record.id)]
        statement = sql.SQL(_UPSERT).format(table=_table(index), columns=_COLUMNS)
        starts = range(0, len(rows), BATCH_ROWS)
        async with (
            self._transaction(index, answers=1 + len(starts)) as connection,
            connection.cursor() as cursor,
        ):
            for start in starts:
                await cursor.executemany(statement, rows[start : start + BATCH_ROWS])
        self._statistics.pop(index, None)

    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        check_ids(document_id, keep_revision or "")
        statement = sql.SQL(
            "DELETE FROM {} WHERE document_id = %s AND revision IS DISTINCT FROM %s::text"
        ).format(_table(index))
        async with self._connection(index) as connection:
            gone = await connection.execute(statement, [document_id, keep_revision])
        self._statistics.pop(index, None)
        return gone.rowcount

    async def get(self, index: IndexName, ids: Sequence[str]) -> list[Record]:
        check_ids(*ids)
        statement = sql.SQL("SELECT {} FROM {} WHERE id = ANY(%s)").format(_COLUMNS, _table(index))
        async with self._connection(index) as connection:
            rows = await connection.execute(statement, [list(ids)])
            found = {row[0]: row async for row in rows}
        return [Record(*found[record_id]) for record_id in ids if record_id in found]

    async def scan(
        self, index: IndexName, *, after: str = "", limit: int = 500
    ) -> list[tuple[Record, Vector]]:
        check_ids(after)
        statement = sql.SQL("SELECT {}, embedding FROM {} WHERE id > %s ORDER BY id LIMIT %s").format(
            _COLUMNS, _table(index)
        )
        async with self._connection(index) as connection:
            rows = await connection.execute(statement, [after, max(limit, 0)])
            return [(Record(*row[:-1]), _numbers(row[-1])) async for row in rows]

    async def count(self, index: IndexName, *, where: Filter | None = None) -> int:
        check_filter(where)
        async with self._connection(index) as connection:
            return await _count(connection, index, where)

    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        shape = await self._shape(index)
        check_vector(vector, shape.dim)
        check_filter(where)
        params: Params = {"vector": PgVector(vector), "k": max(k, 0)}
        where_sql = condition(where, params)
        way = self._way(index, where)
        async with self._connection(index) as connection:
            async with _enough_neighbours(connection, k):
                rows = await _rows(connection, _dense_query(index, where_sql, way, shape), params)
            if way is _Way.BY_COUNT and rows:
                way = self._learn_way(index, where, matching=rows[0][-1])
            # HNSW may find too few: it cannot leave a cluster whose links all lead back into it, for example
            # one of deleted near-duplicates.
            if way is not _Way.EXACT and len(rows) < min(k, EXACT_ROWS):
                rows = await _rows(connection, _dense_query(index, where_sql, _Way.EXACT, shape), params)
        return [Hit(Record(*row[:-2]), float(row[-2])) for row in rows]

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        check_filter(where)
        hashes = [_hash(term) for term in dict.fromkeys(terms)]
        if not hashes:
            await self._shape(index)  # an absent index raises, whatever is searched
            return []
        async with self._connection(index) as connection:
            statistics = await self._counted(connection, index, hashes)
            chosen = scored_terms(hashes, statistics.frequency, MAX_TERMS)
            few = where is not None and (
                await _count(connection, index, where, limit=CANDIDATE_ROWS + 1) <= CANDIDATE_ROWS
            )
            params: Params = {"k": max(k, 0), "terms": chosen}
            candidates = condition(where, params)
            if not few:
                params["rarest"] = rarest_terms(chosen, statistics.frequency, CANDIDATE_ROWS)
                candidates = sql.SQL("terms && %(rarest)s::bigint[] AND {}").format(candidates)
            statement = _text_query(index, chosen, statistics, candidates, params)
            rows = await _rows(connection, statement, params)
        return [Hit(Record(*row[:-1]), float(row[-1])) for row in rows]

    async def term_stats(self, index: IndexName, terms: Sequence[str]) -> TermStats:
        hashes = {term: _hash(term) for term in terms}
        async with self._connection(index) as connection:
            statistics = await self._counted(connection, index, list(hashes.values()))
        return TermStats(
            statistics.total, {term: statistics.frequency[hashed] for term, hashed in hashes.items()}
        )

    @asynccontextmanager
    async def _connection(
        self, index: IndexName | None = None, *, answers: int = 1
    ) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """A connection on which every statement is a transaction; driver errors become ours.

        Its time is that of `answers` answers.
        """
        if self._pool is None:
            raise StoreError("The pgvector store is not open.", hint="Await its open() first.")
        with _translated(index):
            async with self._pool.connection() as connection:
                with _hung_up_after(answers * self._answer_s, connection):
                    yield connection

    async def _configure(self, connection: AsyncConnection[TupleRow]) -> None:
        """For all that this connection will do. Iterative: HNSW goes on while a filter takes some of what it finds.

        Compiling is off: it takes longer than the queries. A sequential scan is for what no index can do: the planner
        does not know what it costs to fetch the vectors and terms that lie outside the rows, and so compares 5,000
        vectors one by one (23 ms) rather than ask HNSW (3 ms).
        """
        with _hung_up_after(self._timeout_s, connection):
            await register_vector_async(connection)
            set_json_loads(from_json, connection)  # some ten times as fast, for each hit
            await connection.execute(
                "SELECT set_config('jit', 'off', false), set_config('enable_seqscan', 'off', false), "
                "set_config('hnsw.ef_search', %s, false), "
                "set_config('hnsw.iterative_scan', 'relaxed_order', false), "
                "set_config('hnsw.max_scan_tuples', '40000', false)",
                [str(NEIGHBOURS)],
            )

    @asynccontextmanager
    async def _transaction(
        self, index: IndexName, *, answers: int = 1
    ) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """A connection in a transaction that is committed at the end."""
        async with self._connection(index, answers=answers) as connection, connection.transaction():
            yield connection

    def _way(self, index: IndexName, where: Filter | None) -> _Way:
        """What the server chose for this filter shortly before; else it is to count again."""
        way, expires = self._ways.get((index, where), (_Way.BY_COUNT, 0.0))
        return way if expires > time.monotonic() else _Way.BY_COUNT

    def _learn_way(self, index: IndexName, where: Filter | None, *, matching: int) -> _Way:
        way = _Way.HNSW if matching > EXACT_ROWS else _Way.EXACT
        if len(self._ways) >= MOST_WAYS:
            self._ways.clear()
        self._ways[index, where] = way, time.monotonic() + STATISTICS_AGE_S
        return way

    async def _shape(self, index: IndexName) -> _Shape:
        if index not in self._shapes:
            async with self._connection(index) as connection:
                found = await _shape(connection, index)
            if found is None:
                raise _absent(index)
            self._shapes[index] = found
        return self._shapes[index]

    async def _counted(
        self, connection: AsyncConnection[TupleRow], index: IndexName, hashes: list[int]
    ) -> _Statistics:
        """Statistics of the index that know all `hashes` and are not too old."""
        now = time.monotonic()
        known = self._statistics.get(index)
        if known is None or known.totals_expire <= now:
            fresh = await _count_lengths(connection, index, now)
            if known is not None:
                fresh.add_current(known, now)
            self._statistics[index] = known = fresh
        missing = [hashed for hashed in hashes if not known.is_current(hashed, now)]
        if missing:
            known.add(await _count_terms(connection, index, missing), now)
        return known


def _whole_seconds(timeout_s: float) -> int:
    """As libpq takes a time to connect: it raises 1 to 2."""
    return max(2, int(timeout_s))


@contextmanager
def _hung_up_after(seconds: float, connection: AsyncConnection[TupleRow]) -> Iterator[None]:
    """End the connection unless the block ends in time; what waits for an answer then gets `OperationalError`.

    Cancelling instead would ask the server to cancel, and wait for that answer, too.
    """

    is_cut = False

    def hang_up() -> None:
        nonlocal is_cut
        if not connection.closed:
            is_cut = True
            with socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_later(seconds, hang_up)
    try:
        yield
    except psycopg.OperationalError as error:
        if is_cut:
            raise psycopg.OperationalError(f"no answer within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()


async def _prepare_database(url: str, timeout_s: float, answer_s: float) -> None:
    """Create extension and schema. Allowed to a database's owner: pgvector is a trusted extension."""
    connection = await AsyncConnection.connect(url, connect_timeout=_whole_seconds(timeout_s))
    async with connection:
        with _hung_up_after(answer_s, connection):
            await _prepare(connection)


async def _prepare(connection: AsyncConnection[TupleRow]) -> None:
    _refuse_encoding(connection)
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"schema {SCHEMA}"])
    found = await (
        await connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    ).fetchone()
    if found is None:
        await _create_extension(connection)
    elif tuple(int(part) for part in found[0].split(".")[:2]) < (0, 8):
        raise StoreError(
            f"The database has pgvector {found[0]}, but 0.8 or later is needed.",
            hint="Install a newer pgvector, then run: ALTER EXTENSION vector UPDATE",
        )
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))


def _refuse_encoding(connection: AsyncConnection[TupleRow]) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"The database has the encoding {encoding}, but UTF8 is needed.",
            hint="Create it with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0",
        )


async def _create_extension(connection: AsyncConnection[TupleRow]) -> None:
    try:
        await connection.execute("CREATE EXTENSION vector")
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(
            f"The database user may not create the extension pgvector: {error}",
            hint="Let an administrator run in this database: CREATE EXTENSION vector",
        ) from error
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
        raise StoreError(
            f"The database server has no pgvector: {error}",
            hint="Install pgvector 0.8 or later on the server, or use the image pgvector/pgvector.",
        ) from error


async def _refuse_closed(connection: AsyncConnection[TupleRow]) -> None:
    """Raise if the server has closed the connection."""
    if is_closed(connection.fileno()):
        await connection.close()  # else the pool would take it back
        raise psycopg.OperationalError("The server has closed the connection.")


def _name(index: IndexName) -> str:
    """The table's name; a long one is shortened in a way that keeps it unique."""
    name = str(index)
    if len(name.encode()) <= _NAME_BYTES:
        return name
    return f"kb_{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def _table(index: IndexName) -> sql.Identifier:
    return sql.Identifier(SCHEMA, _name(index))


async def _shape(connection: AsyncConnection[TupleRow], index: IndexName) -> _Shape | None:
    """What the catalog says, or None if there is no such index."""
    rows = await connection.execute(
        "SELECT a.atttypmod, EXISTS (SELECT 1 FROM pg_indexes i WHERE i.schemaname = n.nspname "
        "AND i.tablename = c.relname AND i.indexdef LIKE '%%halfvec_ip_ops%%') "
        "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s AND a.attname = 'embedding'",
        [SCHEMA, _name(index)],
    )
    row = await rows.fetchone()
    return None if row is None else _Shape(row[0], row[1])


async def _count(
    connection: AsyncConnection[TupleRow], index: IndexName, where: Filter | None, *, limit: int | None = None
) -> int:
    """How many records match, counting no further than `limit`."""
    params: Params = {"limit": limit}
    statement = sql.SQL(
        "SELECT count(*) FROM (SELECT 1 FROM {} WHERE {} LIMIT %(limit)s::bigint) counted"
    ).format(_table(index), condition(where, params))
    return await _single(connection, statement, params)


async def _single(connection: AsyncConnection[TupleRow], statement: sql.Composed, params: Params) -> int:
    row = await (await connection.execute(statement, params)).fetchone()
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def _enough_neighbours(connection: AsyncConnection[TupleRow], k: int) -> AsyncIterator[None]:
    """Inside, HNSW looks at more neighbours than the `k` that are asked for."""
    if 2 * k <= NEIGHBOURS:
        yield
        return
    async with connection.transaction():
        await connection.execute(
            "SELECT set_config('hnsw.ef_search', %s, true)", [str(min(_MOST_NEIGHBOURS, 2 * k))]
        )
        yield


class _Way(Enum):
    """How the nearest are found. `BY_COUNT`: exactly if few match, else by HNSW, as the server counts."""

    EXACT, HNSW, BY_COUNT = range(3)


_NEAREST = sql.SQL(
    "(SELECT {columns}, embedding <#> %(vector)b AS distance FROM {table} WHERE {gate} AND {where} "
    "ORDER BY {order} LIMIT %(k)s)"
)
_DENSE = sql.SQL(
    "WITH matching AS MATERIALIZED (SELECT count(*) AS n FROM ("
    "SELECT 1 FROM {table} WHERE {where} LIMIT {most} + 1) counted), "
    "nearest AS MATERIALIZED ({nearest}) "
    "SELECT {columns}, least(1, greatest(0, (1 - distance) / 2)), {matching} FROM nearest ORDER BY distance, id"
)
_BY_HNSW = sql.SQL("embedding <#> %(vector)b")
_BY_HALF_HNSW = sql.SQL("embedding::halfvec({dim}) <#> %(vector)b::halfvec({dim})")
# Adding 0 hides the distance from HNSW. Its own order is relaxed, and it knows nothing of ids.
_EXACTLY = sql.SQL("(embedding <#> %(vector)b) + 0, id")
# PostgreSQL looks at such a gate once, and does not begin with a part whose gate is false.
_OPEN = sql.SQL("TRUE")
_MANY, _FEW = sql.SQL("(SELECT n FROM matching) > {most}"), sql.SQL("(SELECT n FROM matching) <= {most}")


def _dense_query(index: IndexName, where: sql.Composable, way: _Way, shape: _Shape) -> sql.Composed:
    """Its parameters are `vector`, `k`, and those of `where`.

    Rows are a record, its score, and how many match (NULL unless it chooses `BY_COUNT`; at most `EXACT_ROWS` + 1).
    """
    names = {"columns": _COLUMNS, "table": _table(index), "where": where, "most": sql.Literal(EXACT_ROWS)}
    by_hnsw = _BY_HALF_HNSW.format(dim=sql.Literal(shape.dim)) if shape.half else _BY_HNSW
    gated: Mapping[_Way, Sequence[tuple[sql.SQL, sql.Composable]]] = {
        _Way.EXACT: [(_OPEN, _EXACTLY)],
        _Way.HNSW: [(_OPEN, by_hnsw)],
        _Way.BY_COUNT: [(_MANY, by_hnsw), (_FEW, _EXACTLY)],
    }
    parts = [_NEAREST.format(gate=gate.format(**names), order=order, **names) for gate, order in gated[way]]
    matching = sql.SQL("(SELECT n FROM matching)" if way is _Way.BY_COUNT else "NULL")
    return _DENSE.format(nearest=sql.SQL(" UNION ALL ").join(parts), matching=matching, **names)


def _text_query(
    index: IndexName, terms: list[int], statistics: _Statistics, candidates: sql.Composable, params: Params
) -> sql.Composed:
    """BM25: the sum over terms of weight · (k1 + 1) · n / (n + damping), where n counts the term.

    It is written as weight · (k1 + 1) · (1 - damping / (n + damping)), which reads n once. OFFSET 0 keeps the
    planner from computing damping and score anew wherever they are used. The best are asked for their terms
    once more: candidates may be all that match a filter, and two terms may share a place in `term_counts`.
    """
    params["short"] = K1 * (1 - B)
    params["long"] = K1 * B / max(statistics.average_length, 1e-9)
    parts = []
    for place, term in enumerate(terms):
        weight, one = f"weight{place}", f"one{place}"
        params[weight] = (K1 + 1) * idf(statistics.total, statistics.frequency[term])
        params[one] = _sparse({_position(term): 1})
        parts.append(
            sql.SQL(
                "{weight}::float8 * (1 - damping / (inner_product(term_counts, {one}::sparsevec) + damping))"
            ).format(weight=sql.Placeholder(weight), one=sql.Placeholder(one))
        )
    return sql.SQL(
        "WITH best AS MATERIALIZED (SELECT id AS best_id, score FROM ("
        "SELECT id, {score} AS score FROM ("
        "SELECT id, term_counts, %(short)s::float8 + %(long)s::float8 * length AS damping "
        "FROM {table} WHERE {candidates} OFFSET 0) counted OFFSET 0) scored "
        "ORDER BY score DESC, id LIMIT %(k)s) "
        "SELECT {columns}, score FROM best JOIN {table} ON id = best_id "
        "WHERE terms && %(terms)s::bigint[] ORDER BY score DESC, id"
    ).format(score=sql.SQL(" + ").join(parts), table=_table(index), candidates=candidates, columns=_COLUMNS)


async def _count_lengths(connection: AsyncConnection[TupleRow], index: IndexName, now: float) -> _Statistics:
    statement = sql.SQL("SELECT count(*), coalesce(avg(length), 0)::float8 FROM {}").format(_table(index))
    row = await (await connection.execute(statement)).fetchone()
    assert row is not None
    return _Statistics(row[0], row[1], totals_expire=now + STATISTICS_AGE_S)


async def _count_terms(
    connection: AsyncConnection[TupleRow], index: IndexName, hashes: list[int]
) -> dict[int, int]:
    statement = sql.SQL(
        "SELECT hash, (SELECT count(*) FROM {} WHERE terms @> ARRAY[hash]) "
        "FROM unnest(%(hashes)s::bigint[]) AS hash"
    ).format(_table(index))
    rows = await _rows(connection, statement, {"hashes": hashes})
    return {row[0]: row[1] for row in rows}


def _row(embedded: EmbeddedRecord) -> tuple[Any, ...]:
    record, counted = embedded.record, Counter(_hash(term) for term in embedded.terms)
    counts: Counter[int] = Counter()
    for hashed, number in counted.items():
        counts[_position(hashed)] += number
    if len(counts) > _SPARSE_ENTRIES:
        raise InvalidValue(
            f"Record {record.id!r} has {len(counts)} distinct terms; {_SPARSE_ENTRIES} are the most.",
            hint="Use smaller chunks.",
        )
    return (
        record.id,
        record.document_id,
        record.revision,
        record.text,
        record.header,
        record.section,
        record.start,
        record.end,
        record.page_start,
        record.page_end,
        record.position,
        Jsonb(plain_metadata(record.metadata)),
        len(embedded.terms),
        _sparse(counts),
        list(counted),
        PgVector(embedded.vector),
    )


def _hash(term: str) -> int:
    """64 bits (signed) that stand for the term: quotes, operators and length of a term do not matter."""
    digest = hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _position(hashed: int) -> int:
    """The term's place in `term_counts`. Two terms of a record share one about once in 100,000 records."""
    return hashed % _SPARSE_DIM + 1


def _sparse(counts: Mapping[int, int]) -> str:
    return f"{{{','.join(f'{place}:{number}' for place, number in counts.items())}}}/{_SPARSE_DIM}"


def _numbers(vector: Any) -> Vector:
    """The driver gives pgvector's own type or an array, by its version."""
    import numpy as np  # noqa: PLC0415 (the command line loads this file and no numpy)

    return np.asarray(vector.to_numpy() if isinstance(vector, PgVector) else vector, dtype=np.float32)


async def _rows(
    connection: AsyncConnection[TupleRow], statement: sql.Composed, params: Params
) -> list[TupleRow]:
    return await (await connection.execute(statement, params)).fetchall()


def _absent(index: IndexName | None) -> NotFound:
    return NotFound(f"Index {index} does not exist.", hint="Create it with ensure_index.")


_SERVER_HINT = "Check that PostgreSQL runs and that RAG_DATABASE__URL names it; then try again."
# The first class that fits decides. What is not here is a bug of ours or of the driver.
_TRANSLATIONS: Sequence[tuple[type[BaseException], Callable[[BaseException, IndexName | None], RagError]]] = (
    (psycopg.errors.UndefinedTable, lambda error, index: _absent(index)),
    (psycopg.errors.InsufficientPrivilege, lambda error, index: StoreError(
        f"The database user may not do this: {error}", hint=f"Grant it the schema {SCHEMA}.")),
    (psycopg.OperationalError, lambda error, index: StoreUnavailable(
        f"PostgreSQL does not answer: {error}", hint=_SERVER_HINT)),
    (psycopg.InterfaceError, lambda error, index: StoreUnavailable(
        f"The connection to PostgreSQL is closed: {error}", hint=_SERVER_HINT)),
    (psycopg.DataError, lambda error, index: _bad_data(error)),
)  # fmt: skip


def _bad_data(error: BaseException) -> RagError:
    if "dimensions" in str(error):
        return DimensionMismatch(f"PostgreSQL refused a vector: {error}")
    return InvalidValue(f"PostgreSQL refused a value: {error}")


@contextmanager
def _translated(index: IndexName | None = None) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        for kind, ours in _TRANSLATIONS:
            if isinstance(error, kind):
                raise ours(error, index) from error
        raise
