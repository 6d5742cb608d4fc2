"""How a knowledge base moves to another store, with no re-embedding and while questions go on.

Records are copied in the order of their ids, so a move that was killed goes on behind the last one copied.
The copy is compared with the original, record by record, before the switch; the original stays until it is
told to go. Ingestion of this knowledge base waits meanwhile (`core.db.jobs.claim`), but not while the move itself
waits, for a server or for another worker: where documents came or went in between, the copy is made anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from core.errors import NotFound, StoreError
from core.text import terms
from core.types import EmbeddedRecord, IndexKind, IndexName, Record, Vector
from stores.base import VectorStore

BATCH = 200  # records copied at a time
LEAST_COSINE = 0.999  # between a vector and its copy: engines may keep less than 32 bits of a number


@dataclass(frozen=True, slots=True)
class Place:
    """How far a copy has come: everything up to the id `after` of the index `kind` is there."""

    kind: IndexKind
    after: str


class CopyDiffers(StoreError):
    """The copy is not equal to the original."""


Save = Callable[[Place, int], Awaitable[None]]  # where the copy is, and how many records were copied since


async def copy_index(
    source: VectorStore, target: VectorStore, index: IndexName, *, dim: int, after: str | None, save: Save
) -> None:
    """Copy the records behind the id `after`; None begins anew and drops what an earlier move left there."""
    if after is None:
        await target.drop_index(index)
    await target.ensure_index(index, dim=dim)
    while batch := await source.scan(index, after=after or "", limit=BATCH):
        await target.upsert(index, [embedded(record, vector) for record, vector in batch])
        after = batch[-1][0].id
        await save(Place(index.kind, after), len(batch))


async def compare_index(source: VectorStore, target: VectorStore, index: IndexName) -> None:
    """Raise `CopyDiffers` unless both stores hold the same records with the same vectors."""
    copies = _records(target, index)
    async for record, vector in _records(source, index):
        copied = await anext(copies, None)
        if copied is None or copied[0] != record:
            raise CopyDiffers(f"The copy in {target.kind} differs at record {record.id} of {index}.")
        if float(np.dot(vector, copied[1])) < LEAST_COSINE:
            raise CopyDiffers(
                f"The copy in {target.kind} has another vector at record {record.id} of {index}."
            )
    if (extra := await anext(copies, None)) is not None:
        raise CopyDiffers(
            f"The copy in {target.kind} has record {extra[0].id} of {index}, the original has not."
        )


async def exists(store: VectorStore, index: IndexName) -> bool:
    """Whether anything was ever indexed there."""
    try:
        await store.count(index)
    except NotFound:
        return False
    return True


async def batches(store: VectorStore, index: IndexName) -> AsyncIterator[list[tuple[Record, Vector]]]:
    """All records of the index in the order of their ids, some at a time."""
    after = ""
    while batch := await store.scan(index, after=after, limit=BATCH):
        yield batch
        after = batch[-1][0].id


async def _records(store: VectorStore, index: IndexName) -> AsyncIterator[tuple[Record, Vector]]:
    async for batch in batches(store, index):
        for item in batch:
            yield item


def embedded(record: Record, vector: Vector) -> EmbeddedRecord:
    """A record as it is written, with its search terms."""
    return EmbeddedRecord(record, vector, tuple(terms(record.indexed_text)))
