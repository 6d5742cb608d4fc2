"""The interfaces of the stages between search and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.types import Passage, Query


class Reranker(Protocol):
    async def rerank(self, query: Query, passages: Sequence[Passage], *, top_k: int) -> list[Passage]:
        """The `top_k` best passages, best first, with the reranker's scores."""
        ...


class Compressor(Protocol):
    async def compress(self, query: Query, passages: Sequence[Passage], *, budget: float) -> list[Passage]:
        """The passages, best first, cut down to at most `budget` (weighted characters, see `core.text.weight`)."""
        ...


class Orderer(Protocol):
    def order(self, passages: Sequence[Passage]) -> list[Passage]:
        """The passages (best first) in the order in which the model is to read them."""
        ...
