"""The one interface to a vector store, and what a store may declare that it can do.

A store returns our types and nothing else; no caller asks which store it is. Differences are data
(`Capabilities`), and calling an undeclared capability raises `UnsupportedByStore`. The contract suite in
`tests/contract/` is the specification: where this text and the suite differ, the suite is right.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from core.errors import UnsupportedByStore
from core.types import EmbeddedRecord, Hit, IndexName, Record, TermStats, Vector
from stores.filters import Filter

# BM25 as Lucene computes it: how fast repeats of a term stop to count, and how much long records are damped.
K1 = 1.2
B = 0.75


def idf(total: int, frequency: int) -> float:
    """The weight of a term that `frequency` of `total` records hold; always above 0."""
    return math.log1p((total - min(frequency, total) + 0.5) / (frequency + 0.5))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do beyond the interface. Defaults are the honest ones for a new store."""

    full_text: bool = True  # `search_text` and `term_stats` work
    remote: bool = True  # a server keeps the records; while it is away, calls raise `StoreUnavailable`
    max_dimensions: int = 2000  # the longest vector an index takes


class VectorStore(ABC):
    """Keeps the records of many indexes and searches them by vector, by terms and by filter.

    Every method may raise `StoreUnavailable` (retryable). Writing to, reading or searching an index that does
    not exist raises `NotFound`. Text with NUL or lone surrogates, ids longer than `stores.checks.LONGEST_ID`,
    numbers that are not finite and vectors that are not of unit length raise `InvalidValue`. Inputs are never
    mutated; lists in metadata come back as lists. Implementations are safe to use from many tasks of one event
    loop.
    """

    kind: ClassVar[str]
    # What the class has, a present server can do. An open store may have learnt from its server that it can less.
    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def open(self) -> None:
        """Connect. Called once, before anything else."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; closing twice is fine."""

    @abstractmethod
    async def ping(self) -> None:
        """Return if the server answers, else raise `StoreUnavailable`."""

    @abstractmethod
    async def ensure_index(self, index: IndexName, *, dim: int) -> None:
        """Create the index for vectors of `dim` numbers unless it exists.

        Raises `DimensionMismatch` if it exists with another dimension, `UnsupportedByStore` if `dim` is
        above `capabilities.max_dimensions`.
        """

    @abstractmethod
    async def drop_index(self, index: IndexName) -> None:
        """Remove the index and all its records; an absent index is fine."""

    @abstractmethod
    async def indexes(self) -> list[IndexName]:
        """Every index that there is, in any order: also those of another service on the same server.

        Also one whose removal was cut off, although its use raises `NotFound`. Left out are those whose name is so
        long or unusual that the store keeps its hash only.
        """

    @abstractmethod
    async def upsert(self, index: IndexName, records: Sequence[EmbeddedRecord]) -> None:
        """Write records, replacing those with the same id. All are searchable when the call returns.

        Raises `DimensionMismatch` if a vector has the wrong length; then nothing is written.
        """

    @abstractmethod
    async def delete_document(
        self, index: IndexName, document_id: str, *, keep_revision: str | None = None
    ) -> int:
        """Delete the document's records (those of `keep_revision` excepted); return how many went.

        Complete when the call returns. An absent document gives 0.
        """

    @abstractmethod
    async def get(self, index: IndexName, ids: Sequence[str]) -> list[Record]:
        """The records with these ids, in the order of `ids`; absent ids are left out."""

    @abstractmethod
    async def scan(
        self, index: IndexName, *, after: str = "", limit: int = 500
    ) -> list[tuple[Record, Vector]]:
        """The first `limit` records with an id behind `after` (by code point), in the order of ids, and their vectors.

        Called with the last id again and again, it reads the whole index: for copies into another store.
        Vectors are those written, up to the precision the engine keeps (cosine at least 0.999).
        """

    @abstractmethod
    async def count(self, index: IndexName, *, where: Filter | None = None) -> int:
        """How many records the index holds (that match `where`)."""

    @abstractmethod
    async def search_dense(
        self, index: IndexName, vector: Vector, *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        """The `k` records nearest to the unit-length `vector`, best first, ties by id.

        `score` = (1 + cosine) / 2, in [0, 1], whatever metric the engine computes.
        """

    @abstractmethod
    async def search_text(
        self, index: IndexName, terms: Sequence[str], *, k: int, where: Filter | None = None
    ) -> list[Hit]:
        """The `k` records that rank best for any of `terms` by BM25 (k1 = 1.2, b = 0.75), best first.

        Terms come from `core.text.terms`. Records that hold none of them are not returned.
        Scores only rank: they do not compare between stores or queries.
        """

    @abstractmethod
    async def term_stats(self, index: IndexName, terms: Sequence[str]) -> TermStats:
        """How many records the index holds, and how many of them hold each term.

        May lag behind writes by some seconds; unknown terms have frequency 0.
        """

    def refuse_dimension(self, dim: int) -> None:
        """For implementations: raise `UnsupportedByStore` if an index cannot take vectors of `dim` numbers."""
        longest = self.capabilities.max_dimensions
        if not 1 <= dim <= longest:
            raise UnsupportedByStore(
                f"The {self.kind} store takes vectors of 1 to {longest} numbers, not {dim}.",
                hint="Choose an embedder with shorter vectors, or another store.",
            )
