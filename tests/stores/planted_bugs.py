"""Does the contract turn red for a store with a bug? Plants one after the other in a copy and runs it.

    python tests/stores/planted_bugs.py pgvector redis …

Each bug is one change of the store's files, of the kinds that stores have had elsewhere: a wrong or dropped
part of a filter, pieces left behind by a re-ingest, scores upside down, records written twice, one hit too
many, a filter applied after the choice of the nearest. Prints a line for each; exits with 1 if the contract
stayed green under one of them. The tests of agreement do not run: smaller ones must see these bugs.
"""

# ruff: noqa: E501, T201 (code that is looked for stands as it is; a program prints)

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = (
    *("core", "stores", "models", "ingest", "retrievers", "rerankers", "rag_service", "migrations", "web"),
    *("benchmarks", "tests", "pyproject.toml"),
)
LARGE = "not rankings_by_keyword and not nearest_are_found and not many_chunks"
SOME = {"re-ingest takes the new", "gte for gt"}
TIMEOUT_S = 1800  # of one run on busy cores


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    file: str  # in stores/
    right: str  # occurs once
    wrong: str


SUITES = {
    "memory": ("tests/contract/test_stores.py", "TestMemoryStore"),
    "pgvector": ("tests/contract/test_stores.py", "TestPgVectorStore"),
    "redis": ("tests/stores/test_store_redis.py", "TestRedisStore"),
    "elasticsearch": ("tests/stores/test_store_elasticsearch.py", "TestElasticsearchStore"),
    "milvus": ("tests/stores/test_store_milvus.py", "TestMilvusLite"),
    "mongo": ("tests/stores/test_store_mongo.py", "TestMongoStore"),
}
_KEEPS_ALL = ('where = And((where, Ne("revision", keep_revision)))', 'where = And((where, Eq("id", "")))')
_IGNORES_KEPT = ('where = And((where, Ne("revision", keep_revision)))', "pass")

# The nearest without the filter; it is asked of those that were chosen.
_LATE = """        if where is not None:
            from stores.filters import matches
            hits = await self.search_dense(index, vector, k=k)
            return [hit for hit in hits if matches(where, hit.record)]
"""

BUGS: dict[str, list[Bug]] = {
    "memory": [
        Bug("gte for gt", "filters.py", "    Gt: operator.gt,", "    Gt: operator.ge,"),
        Bug("Not does nothing", "filters.py", "return not matches(part, record)", "return matches(part, record)"),
        Bug("booleans are numbers", "filters.py", 'return "boolean"', 'return "number"'),
        Bug("Contains asks any field", "filters.py", "not isinstance(stored, str) and value in", "value in"),
        Bug("re-ingest leaves the old", "memory.py", "e.record.revision != keep_revision", "keep_revision is None"),
        Bug("re-ingest takes the new", "memory.py", " and e.record.revision != keep_revision", ""),
        Bug("one is left", "memory.py", "for record_id in gone:", "for record_id in gone[:-1]:"),
        Bug("scores upside down", "memory.py", "(1 + cosines) / 2", "(1 - cosines) / 2"),
        Bug("records twice", "memory.py", "kept.records[embedded.record.id] =", "kept.records[embedded.record.id + str(len(kept.records))] ="),
        Bug("one hit too many", "memory.py", "nsmallest(k,", "nsmallest(k + 1,"),
        Bug("ties by chance", "memory.py", "(-scores[record_id], record_id)", "-scores[record_id]"),
        Bug("term frequency ignored", "memory.py", "(weight, kept.counts[term])", "(weight, 1)"),
        Bug("length ignored", "memory.py", "B * kept.length /", "B /"),
    ],
    "pgvector": [
        Bug("gte for gt", "pgvector_filters.py", 'Gt: sql.SQL(">"),', 'Gt: sql.SQL(">="),'),
        Bug("Not does nothing", "pgvector_filters.py", 'sql.SQL("NOT ({})")', 'sql.SQL("({})")'),
        Bug("a part of And dropped", "pgvector_filters.py", '_joined(" AND ", [_compile(part, params) for part in parts]', '_joined(" AND ", [_compile(part, params) for part in parts[:1]]'),
        Bug("re-ingest leaves the old", "pgvector.py", "revision IS DISTINCT FROM %s::text", "%s::text IS NULL"),
        Bug("re-ingest takes the new", "pgvector.py", "AND revision IS DISTINCT FROM %s::text", "AND (%s::text IS NULL OR TRUE)"),
        Bug("pieces are left", "pgvector.py", "AND revision IS DISTINCT FROM", "AND position = 0 AND id NOT LIKE '%%9' AND revision IS DISTINCT FROM"),
        Bug("scores upside down", "pgvector.py", "(1 - distance) / 2", "(1 + distance) / 2"),
        Bug("farthest first", "pgvector.py", "FROM nearest ORDER BY distance, id", "FROM nearest ORDER BY distance DESC, id"),
        Bug("old records stay", "pgvector.py", "DO UPDATE SET\n    ({columns}, length, term_counts, terms, embedding) = ROW (EXCLUDED.*)", "DO NOTHING"),
        Bug("one hit too many", "pgvector.py", '"ORDER BY {order} LIMIT %(k)s)"', '"ORDER BY {order} LIMIT %(k)s + 1)"'),
        Bug("filter after the choice", "pgvector.py", "        where_sql = condition(where, params)\n", _LATE + "        where_sql = condition(where, params)\n"),
        Bug("term frequency ignored", "pgvector.py", "inner_product(term_counts, {one}::sparsevec)", "least(1, inner_product(term_counts, {one}::sparsevec))"),
    ],
    "redis": [
        Bug("gte for gt", "redis_filters.py", 'return b"(" + value, b"+"', 'return b"[" + value, b"+"'),
        Bug("gte for gt of numbers", "redis_filters.py", 'return "(" + value, "+inf"', 'return value, "+inf"'),
        Bug("re-ingest leaves the old", "redis.py", "ARGV[3] == '1' and found[2] == ARGV[4]", "ARGV[3] == '1'"),
        Bug("re-ingest takes the new", "redis.py", " or (ARGV[3] == '1' and found[2] == ARGV[4])", ""),
        Bug("one is left", "redis.py", "for i in sorted(ids)])", "for i in sorted(ids)[1:]])"),
        Bug("scores upside down", "redis.py", "(-hit.score, hit.record.id))[:k]", "(hit.score, hit.record.id))[:k]"),
        Bug("a replaced record is counted twice", "redis.py", "if before then forget(before) end", ""),
        Bug("one hit too many", "redis.py", "hits = await _past_ties(fetch, k, k + SPARE_HITS)\n        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[:k]", "hits = await _past_ties(fetch, k, k + SPARE_HITS)\n        return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))[: k + 1]"),
        Bug("filter after the choice", "redis.py", "        query = EVERY if where is None else await self._condition(index, where)\n", _LATE + "        query = EVERY\n"),
    ],
    "elasticsearch": [
        Bug("gte for gt", "elasticsearch_filters.py", 'Gt: "gt", Gte: "gte"', 'Gt: "gte", Gte: "gte"'),
        Bug("Not does nothing", "elasticsearch_filters.py", '{"must_not": [condition(part)]}', '{"filter": [condition(part)]}'),
        Bug("a part of And dropped", "elasticsearch_filters.py", '_joined([condition(part) for part in parts], "filter"', '_joined([condition(part) for part in parts[:1]], "filter"'),
        Bug("re-ingest leaves the old", "elasticsearch.py", *_KEEPS_ALL),
        Bug("re-ingest takes the new", "elasticsearch.py", *_IGNORES_KEPT),
        Bug("pieces are left", "elasticsearch.py", "while found := await self._search(index, query=condition(where), size=BATCH_IDS, source=()):", "for found in [await self._search(index, query=condition(where), size=BATCH_IDS, source=())]:"),
        Bug("scores upside down", "elasticsearch.py", "min(1.0, max(0.0, score))", "1 - min(1.0, max(0.0, score))"),
        Bug("records twice", "elasticsearch.py", '({"index": {"_id": _document_id(embedded.record.id)}}', '({"index": {}}'),
        Bug("one hit too many", "elasticsearch.py", "knn=knn, size=min(k, MOST_HITS)", "knn=knn, size=min(k + 1, MOST_HITS)"),
        Bug("filter after the choice", "elasticsearch.py", '        neighbours = min(MOST_HITS, max(', _LATE + '        neighbours = min(MOST_HITS, max('),
    ],
    "milvus": [
        Bug("gte for gt", "milvus_filters.py", 'Gt: ">", Gte: ">="}', 'Gt: ">=", Gte: ">="}'),
        Bug("the opposite of a range wrong", "milvus_filters.py", 'Gt: "<=", Gte: "<"}', 'Gt: "<", Gte: "<"}'),
        Bug("Not does nothing", "milvus_filters.py", "_compile(part, not wanted)", "_compile(part, wanted)"),
        Bug("re-ingest leaves the old", "milvus.py", *_KEEPS_ALL),
        Bug("re-ingest takes the new", "milvus.py", *_IGNORES_KEPT),
        Bug("pieces are left", "milvus.py", 'while found := await self._query(index, expression(where), ["key"], limit=BATCH_IDS):', 'for found in [await self._query(index, expression(where), ["key"], limit=BATCH_IDS)]:'),
        Bug("scores upside down", "milvus.py", "(1 + cosine) / 2", "(1 - cosine) / 2"),
        Bug("records twice", "milvus.py", '"key": _key(record.id),', '"key": _key(record.id + record.text),'),
        Bug("one hit too many", "milvus.py", "hit.record.id))[:k]", "hit.record.id))[: k + 1]"),
        Bug("filter after the choice", "milvus.py", "        limit = min(MOST_HITS, k + MORE_NEIGHBOURS)\n", _LATE + "        limit = min(MOST_HITS, k + MORE_NEIGHBOURS)\n"),
    ],
    "mongo": [
        Bug("gte for gt", "mongo_filters.py", 'Gt: "$gt", Gte: "$gte"', 'Gt: "$gte", Gte: "$gte"'),
        Bug("Not does nothing", "mongo_filters.py", '{"$nor": [condition(part)]}', '{"$and": [condition(part)]}'),
        Bug("a part of And dropped", "mongo_filters.py", '{"$and": [condition(part) for part in parts]}', '{"$and": [condition(part) for part in parts[:1]]}'),
        Bug("re-ingest leaves the old", "mongo.py", *_KEEPS_ALL),
        Bug("re-ingest takes the new", "mongo.py", *_IGNORES_KEPT),
        Bug("one is left", "mongo.py", "delete_many(condition(where))", "delete_one(condition(where))"),
        Bug("scores upside down", "mongo.py", "(1 + cosine) / 2", "(1 - cosine) / 2"),
        Bug("old records stay", "mongo.py", 'ReplaceOne({"_id": document["_id"]}, document, upsert=True)', '__import__("pymongo").UpdateOne({"_id": document["_id"]}, {"$setOnInsert": document}, upsert=True)'),
        Bug("one hit too many", "mongo.py", "best = _Best(k)\n        with self._translated():\n            async for batch in self._read(found, condition(where), (\"vector\",)):", "best = _Best(k + 1)\n        with self._translated():\n            async for batch in self._read(found, condition(where), (\"vector\",)):"),
        Bug("filter after the choice", "mongo.py", "        if found.native and k <= MOST_NEIGHBOURS and is_native(where):\n", _LATE + "        if found.native and k <= MOST_NEIGHBOURS and is_native(where):\n"),
    ],
}  # fmt: skip


@contextmanager
def copied() -> Iterator[Path]:
    """A folder with a copy of what the contract needs."""
    folder = Path(tempfile.mkdtemp(prefix="rag-bugs-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def is_red(folder: Path, kind: str, bug: Bug | None, environment: dict[str, str]) -> bool:
    """Whether the contract of the store fails in the copy, with the bug planted for as long as it runs."""
    suite, name = SUITES[kind]
    if bug is None:
        return _fails(folder, suite, name, environment)
    file = folder / "stores" / bug.file
    right = file.read_text()
    assert right.count(bug.right) == 1, f"{bug.file} has {bug.right!r} {right.count(bug.right)} times"
    file.write_text(right.replace(bug.right, bug.wrong))
    try:
        return _fails(folder, suite, name, environment)
    finally:
        file.write_text(right)


def some_green(folder: Path, kind: str, environment: dict[str, str]) -> list[str]:
    """Names of bugs that the contract does not see, of two: all take many minutes."""
    some = [bug for bug in BUGS[kind] if bug.name in SOME]
    return [bug.name for bug in some if not is_red(folder, kind, bug, environment)]


def _fails(folder: Path, suite: str, name: str, environment: dict[str, str]) -> bool:
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", suite]
    done = subprocess.run(
        [*command, "-k", f"{name} and not VectorSearch and {LARGE}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode not in (0, 1) or "error during collection" in done.stdout:
        raise RuntimeError(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.returncode == 1


@contextmanager
def _server(kind: str) -> Iterator[dict[str, str]]:
    """The environment that names a server, so that not every run starts one."""
    sys.path.insert(0, str(ROOT / "tests" / "servers"))
    from running import running

    if kind == "memory":
        yield {}
        return
    with running(kind) as server:
        yield {f"RAG_TEST_{'DATABASE' if kind == 'pgvector' else kind.upper()}_URL": server.url}


def main(kinds: Sequence[str]) -> int:
    survivors = 0
    with copied() as folder:
        for kind in kinds or SUITES:
            with _server(kind) as environment:
                if is_red(folder, kind, None, environment):
                    raise RuntimeError(f"The contract of {kind} is red without a bug.")
                for bug in BUGS[kind]:
                    red = is_red(folder, kind, bug, environment)
                    survivors += not red
                    print(f"{kind}: {bug.name}: {'red' if red else 'GREEN'}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
