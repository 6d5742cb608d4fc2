"""What every embedder offers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import Conflict

BUNDLED = "multilingual-e5-small-q4"


class Embedder(Protocol):
    """Turns text into unit-length vectors.

    `name` identifies model and recipe: vectors of embedders with the same name compare, others do not.
    Calls may raise `ModelUnavailable` or `ModelTimeout` (retryable) or `ModelError`.
    """

    @property
    def name(self) -> str: ...

    async def dimension(self) -> int:
        """How many numbers a vector has; may have to ask the model."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest passage, in `count_tokens` tokens, that is embedded whole.

        Keep chunks below it: of a longer passage the model sees pieces, or only the beginning.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens that `text` takes as a passage, prefixes and special tokens included."""
        ...

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of questions, shape (len(texts), dim)."""
        ...

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of passages, shape (len(texts), dim)."""
        ...

    async def close(self) -> None: ...


def recipe(kind: str, model: str, query_prefix: str, passage_prefix: str) -> str:
    """A name for an embedder of this kind: all that its vectors depend on."""
    prefixes = f" {query_prefix!r} {passage_prefix!r}" if query_prefix or passage_prefix else ""
    return f"{kind}:{model}{prefixes}"


class Embedders:
    """The embedders there are: `current` makes the vectors of what is new, those of `older` are still searched with."""

    def __init__(self, current: Embedder, older: Sequence[Embedder] = ()) -> None:
        self.current, self.older = current, tuple(older)
        self._by_name = {embedder.name: embedder for embedder in [*older, current]}

    @property
    def names(self) -> Collection[str]:
        return self._by_name.keys()

    def of(self, name: str) -> Embedder:
        """The embedder of this name. Raises `Conflict` if vectors of none that there is compare with its."""
        if name not in self._by_name:
            there_are = " and ".join(self._by_name)
            raise Conflict(
                f"This knowledge base was made with the embedder {name}, the service now has {there_are}; "
                "their vectors do not compare.",
                hint="Name that embedder in RAG_OLD_EMBEDDER__KIND and …__MODEL, to search with it; or build the "
                "knowledge base anew: `rag-service kb rebuild NAME`.",
            )
        return self._by_name[name]

    def of_or_current(self, name: str) -> Embedder:
        return self._by_name.get(name, self.current)

    async def close(self) -> None:
        for embedder in (self.current, *self.older):
            await embedder.close()
