"""What every embedder offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns text into unit-length vectors.

    `name` identifies model and recipe: vectors of embedders with the same name compare, others do not.
    Calls may raise `ModelUnavailable` or `ModelTimeout` (retryable) or `ModelError`.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

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
