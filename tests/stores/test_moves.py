"""Can an index move between any two stores and be the same there? All 20 ordered pairs, on real servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
import pytest_asyncio
from subjects import KINDS, build, opened

from core.text import terms
from core.types import EmbeddedRecord, IndexKind, IndexName, Record
from ingest import move
from ingest.move import Place, compare_index, copy_index
from stores.base import VectorStore

DIM = 16
RECORDS = 25

pytestmark = pytest.mark.timeout(900)  # the first run fetches the servers


@pytest_asyncio.fixture
async def pair(
    server_url: Callable[[str], str], request: pytest.FixtureRequest
) -> AsyncIterator[tuple[VectorStore, VectorStore]]:
    source, target = (build(kind, server_url(kind)) for kind in request.param)
    async with opened(source), opened(target):
        yield source, target


def records() -> list[EmbeddedRecord]:
    random = np.random.default_rng(7)
    result = []
    for number in range(RECORDS):
        vector = random.normal(size=DIM).astype(np.float32)
        record = Record(
            id=f"r{number:03d} 员工'\"",
            document_id=f"d{number % 5}",
            revision="v1",
            text=f"第{number}条：年假 {number} 天。 Clause {number}: {{leave}} $ne 🙂",
            header="Handbook > 休假",
            section="休假",
            start=number * 100,
            end=number * 100 + 40,
            page_start=number % 3 + 1 if number % 4 else None,
            page_end=number % 3 + 1 if number % 4 else None,
            position=number,
            metadata={
                "year": 2000 + number,
                "tags": ["a", "员工"],
                "draft": number % 2 == 0,
                "owner": "O'Neil",
            },
        )
        result.append(
            EmbeddedRecord(record, vector / np.linalg.norm(vector), tuple(terms(record.indexed_text)))
        )
    return result


def new_index() -> IndexName:
    return IndexName(uuid.uuid4().hex[:12], 1, IndexKind.CHUNKS)


async def save(place: Place, copied: int) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "pair",
    [(a, b) for a in KINDS for b in KINDS if a != b],
    indirect=True,
    ids=" to ".join,
)
async def test_an_index_is_the_same_after_a_move(
    pair: tuple[VectorStore, VectorStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move, "BATCH", 10)  # several pieces, the last one short
    source, target = pair
    index = new_index()
    written = records()
    await source.ensure_index(index, dim=DIM)
    await source.upsert(index, written)
    await copy_index(source, target, index, dim=DIM, after=None, save=save)
    await compare_index(source, target, index)
    assert await target.count(index) == RECORDS
    found = await target.search_dense(index, written[3].vector, k=1)
    assert found[0].record == written[3].record
    by_word = (
        await target.search_text(index, ["clause", "17"], k=1) if target.capabilities.full_text else found
    )
    assert by_word[0].record.id == (written[17] if target.capabilities.full_text else written[3]).record.id
    await source.drop_index(index)
    await target.drop_index(index)
