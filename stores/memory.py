"""What is the right answer? The exact store: plain Python and numpy, nothing kept after the process ends.

It serves as the oracle of the contract suite and in tests of the stages above the stores. Every search looks
at every record.
"""

from __future__ import annotations

import heapq
import math
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import ClassVar, cast

import numpy as np

from core.errors import DimensionMismatch, NotFound
from core.types import EmbeddedRecord, Hit, IndexName, Metadata, Record, TermStats, Vector
from stores.base import K1, B, Capabilities, VectorStore, idf
from stores.checks import check_filter, check_ids, check_records, check_vector, plain_metadata
from stores.filters import Filter, matches


@dataclass(frozen=True, slots=True)
class _Kept:
    record: Record
    vector: Vector
    counts: Counter[str]  # how often each term occurs
    length: int  # in terms


@dataclass(slots=True)
class _Index:
    dim: int
    records: dict[str, _Kept] = field(default_factory=dict)

    def matching(self, where: Filter | None) -> Iterator[_Kept]:
        check_filter(where)
        return (kept for kept in self.records.values() if where is None or matches(where, kept.record))


class MemoryStore(VectorStore):
    """Keeps everything in this object."""

    kind: ClassVar[str] = "memory"
    capabilities = Capabilities(remote=False, max_dimensions=1_000_000)

    def __init__(self) -> None:
        self._indexes: dict[IndexName, _Index] = {}

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def ping(self) -> None:
        return

    async def ensure_index(self, index: IndexName, *, dim: int) -> None:
        self.refuse_dimension(dim)
        found = self._indexes.setdefault(index, _Index(dim))
        if found.dim != dim:
            raise DimensionMismatch(f"Index {index} holds vectors of {found.dim} numbers, not {dim}.")

    async def drop_index(self, index: IndexName) -> None:
        self._indexes.pop(index, None)

    async def indexes(self) -> list[IndexName]:
        return list(self._indexes)

    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        kept = self._index(index)
        check_records(records, kept.dim)
        for embedded in records:
            kept.records[embedded.record.id] = _Kept(
                _copy(embedded.record),
                embedded.vector.copy(),
                Counter(embedded.terms),
                len(embedded.terms),
            )

    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        check_ids(document_id, keep_revision or "")
        records = self._index(index).records
        gone = [
            e.record.id
            for e in records.values()
            if e.record.document_id == document_id and e.record.revision != keep_revision
        ]
        for record_id in gone:
            del records[record_id]
        return len(gone)

    async def get(self, index: IndexName, ids: Sequence[str]) -> list[Record]:
        check_ids(*ids)
        records = self._index(index).records
        return [_copy(records[record_id].record) for record_id in ids if record_id in records]

    async def scan(
        self, index: IndexName, *, after: str = "", limit: int = 500
    ) -> list[tuple[Record, Vector]]:
        check_ids(after)
        records = self._index(index).records
        ids = sorted(record_id for record_id in records if record_id > after)[: max(limit, 0)]
        return [(_copy(records[i].record), records[i].vector.copy()) for i in ids]

    async def count(self, index: IndexName, *, where: Filter | None = None) -> int:
        return sum(1 for _ in self._index(index).matching(where))

    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        searched = self._index(index)
        check_vector(vector, searched.dim)
        found = list(searched.matching(where))
        if not found:
            return []
        cosines = np.stack([e.vector for e in found]) @ vector
        scores = np.clip((1 + cosines) / 2, 0, 1)
        return _best({e.record.id: float(s) for e, s in zip(found, scores, strict=True)}, searched, k)

    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        searched = self._index(index)
        weights = _weights(searched, set(terms))
        average = sum(kept.length for kept in searched.records.values()) / max(1, len(searched.records))
        scores = {kept.record.id: _bm25(kept, weights, average) for kept in searched.matching(where)}
        return _best({i: score for i, score in scores.items() if score > 0}, searched, k)

    async def term_stats(self, index: IndexName, terms: Sequence[str]) -> TermStats:
        records = self._index(index).records
        return TermStats(len(records), _frequencies(self._index(index), set(terms)))

    def _index(self, index: IndexName) -> _Index:
        if index not in self._indexes:
            raise NotFound(f"Index {index} does not exist.", hint="Create it with ensure_index.")
        return self._indexes[index]


def _copy(record: Record) -> Record:
    return replace(record, metadata=cast(Metadata, plain_metadata(record.metadata)))


def _frequencies(index: _Index, terms: set[str]) -> dict[str, int]:
    counts = [kept.counts for kept in index.records.values()]
    return {term: sum(map(operator.contains, counts, repeat(term))) for term in terms}


def _weights(index: _Index, terms: set[str]) -> dict[str, float]:
    total = len(index.records)
    return {term: idf(total, df) for term, df in _frequencies(index, terms).items()}


def _bm25(kept: _Kept, weights: Mapping[str, float], average_length: float) -> float:
    damping = K1 * (1 - B + B * kept.length / max(average_length, 1e-9))
    counts = [(weight, kept.counts[term]) for term, weight in weights.items() if term in kept.counts]
    return math.fsum(weight * (K1 + 1) * n / (n + damping) for weight, n in counts)


def _best(scores: Mapping[str, float], index: _Index, k: int) -> list[Hit]:
    best = heapq.nsmallest(k, scores, key=lambda record_id: (-scores[record_id], record_id))
    return [Hit(_copy(index.records[i].record), scores[i]) for i in best]
