"""Is the oracle right? Its rankings against scores worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.types import EmbeddedRecord, IndexKind, IndexName, Record
from stores.base import idf
from stores.memory import MemoryStore

INDEX = IndexName("kb", 1, IndexKind.CHUNKS)


def record(record_id: str, vector: list[float], terms: str) -> EmbeddedRecord:
    return EmbeddedRecord(
        Record(record_id, "d", "r", ""), np.asarray(vector, dtype=np.float32), tuple(terms.split())
    )


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.ensure_index(INDEX, dim=2)
    await store.upsert(
        INDEX,
        [
            record("a", [1, 0], "cat cat dog"),
            record("b", [0, 1], "cat"),
            record("c", [0.6, 0.8], "bird bird"),
        ],
    )
    return store


async def test_bm25_is_the_published_formula(store: MemoryStore) -> None:
    # N = 3, average length 2. "cat" is in 2 records, "dog" in 1: idf = ln(1 + (N - df + 0.5) / (df + 0.5)).
    cat, dog = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    # Damping k1 · (1 - b + b · length / average): 1.2 · (0.25 + 0.75 · 1.5) = 1.65 for a, 0.75 for b.
    a = cat * 2.2 * 2 / (2 + 1.65) + dog * 2.2 * 1 / (1 + 1.65)
    b = cat * 2.2 * 1 / (1 + 0.75)
    hits = await store.search_text(INDEX, ["cat", "dog", "cat"], k=5)
    assert [(hit.record.id, pytest.approx(hit.score)) for hit in hits] == [("a", a), ("b", b)]


async def test_dense_scores_are_half_of_one_plus_the_cosine(store: MemoryStore) -> None:
    hits = await store.search_dense(INDEX, np.asarray([0, 1], dtype=np.float32), k=3)
    assert [(h.record.id, h.score) for h in hits] == [
        ("b", 1.0),
        ("c", pytest.approx(0.9)),
        ("a", 0.5),
    ]


def test_every_term_has_a_weight_above_0() -> None:
    assert idf(10, 1) > idf(10, 9) > idf(10, 10) > 0
    assert idf(0, 0) > 0


def test_a_count_older_than_the_total_still_gives_a_weight() -> None:
    assert idf(total=5, frequency=9) > 0
