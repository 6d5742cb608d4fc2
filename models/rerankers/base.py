"""What every rerank model offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class RerankModel(Protocol):
    """Reads question and text together, and says how well the text answers.

    Calls may raise `ModelUnavailable` or `ModelTimeout` (retryable) or `ModelError`.
    """

    @property
    def name(self) -> str: ...

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """One finite score for each text, larger is better; the scale is the model's own."""
        ...

    async def close(self) -> None: ...
