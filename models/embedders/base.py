"""What every embedder offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import Conflict


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


def refuse_other_embedder(made_with: str, embedder: Embedder) -> None:
    """Raises `Conflict` if a knowledge base's vectors are not those of the embedder there is now."""
    if made_with != embedder.name:
        raise Conflict(
            f"This knowledge base was made with the embedder {made_with}, the service now has {embedder.name}; "
            "their vectors do not compare.",
            hint="Set RAG_EMBEDDER__KIND and RAG_EMBEDDER__MODEL back, or make a new knowledge base.",
        )
