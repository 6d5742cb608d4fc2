"""The interfaces of the stages between search and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.types import Passage, Query


class Reranker(Protocol):
    async def rerank(self, query: Query, passages: Sequence[Passage], *, top_k: int) -> list[Passage]:
        """The passages that it looked at, best first, with its scores: at least `top_k`, if there are so many."""
        ...


class Compressor(Protocol):
    async def compress(self, query: Query, passages: Sequence[Passage], *, budget: float) -> list[Passage]:
        """The passages, best first, cut down to at most `budget` (weighted characters, see `core.text.weight`)."""
        ...


class Orderer(Protocol):
    def order(self, passages: Sequence[Passage]) -> list[Passage]:
        """The passages (best first) in the order in which the model is to read them."""
        ...
