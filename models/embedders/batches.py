"""Which texts are embedded together, and what has to be true of the vectors?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import ModelError


def batches(
    texts: Sequence[str], count_tokens: Callable[[str], int], *, tokens: int, texts_at_most: int
) -> Iterator[Sequence[str]]:
    """`texts` in order, in runs of at most `tokens` tokens (a longer text is a run of its own)."""
    start = size = 0
    for place, text in enumerate(texts):
        more = count_tokens(text)
        if place > start and (size + more > tokens or place - start == texts_at_most):
            yield texts[start:place]
            start, size = place, 0
        size += more
    if start < len(texts):
        yield texts[start:]


def unit_vectors(values: ArrayLike, *, count: int, model: str) -> NDArray[np.float32]:
    """`values` as `count` vectors of length 1; raises `ModelError` if that is not what they are."""
    try:
        vectors = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{model} gave something that is no vectors ({error}).") from error
    if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] == 0:
        raise ModelError(f"{model} gave vectors of shape {vectors.shape} for {count} texts.")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not lengths.all():
        raise ModelError(f"{model} gave a vector that has no direction.")
    return np.asarray(vectors / lengths, dtype=np.float32)
