"""How does text become vectors at a server? What Ollama and OpenAI-compatible servers have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from core.text import weight
from models.embedders.base import recipe
from models.embedders.batches import batches, unit_vectors
from models.http import ModelServer

MOST_TEXTS = 64  # in one request; text-embeddings-inference takes 32 to 64 by default, others more
# The server's tokeniser is not here. Chinese takes 0.7 to 1.3 tokens a character, English one for 3 to 4.5, and
# `weight` counts 1 and 0.4: so this is on the safe side for nearly all text.
TOKENS_PER_WEIGHT = 1.25
SPECIAL = 2  # tokens at both ends


class RemoteEmbedder(ABC):
    """An embedder behind an HTTP server; a backend supplies `_path`, `_request` and `_vectors`.

    `max_tokens` is the longest passage that the model takes (for chunking), `batch_tokens` bounds a request.
    Tokens are estimated, see `TOKENS_PER_WEIGHT`. A question longer than `max_tokens` is cut; a passage never is:
    where the estimate was too low the server refuses, and the error says what to do.
    """

    kind: str
    _path: str

    def __init__(
        self,
        server: ModelServer,
        *,
        model: str,
        query_prefix: str = "",
        passage_prefix: str = "",
        max_tokens: int = 512,
        batch_tokens: int = 8192,
    ) -> None:
        self._server = server
        self._model = model
        self._query_prefix = query_prefix
        self._passage_prefix = passage_prefix
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._dimension: int | None = None

    @property
    def name(self) -> str:
        return recipe(self.kind, self._model, self._query_prefix, self._passage_prefix)

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def count_tokens(self, text: str) -> int:
        return math.ceil(TOKENS_PER_WEIGHT * weight(self._passage_prefix + text)) + SPECIAL

    async def dimension(self) -> int:
        if self._dimension is None:
            await self.embed_queries(["dimension"])
        assert self._dimension is not None
        return self._dimension

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed([self._query_prefix + self._cut(text) for text in texts])

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed([self._passage_prefix + text for text in texts])

    async def close(self) -> None:
        await self._server.close()

    @abstractmethod
    def _request(self, texts: Sequence[str]) -> dict[str, object]:
        """The body for some texts."""

    @abstractmethod
    def _vectors(self, answer: object, count: int) -> object:
        """The vectors in the answer, in the order of the texts; may raise what a wrong shape raises."""

    async def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        safe = [_clean(text) for text in texts]
        found = [
            await self._batch(batch)
            for batch in batches(safe, self.count_tokens, tokens=self._batch_tokens, texts_at_most=MOST_TEXTS)
        ]
        return np.concatenate(found) if found else np.empty((0, await self.dimension()), dtype=np.float32)

    async def _batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        answer = await self._server.post(self._path, self._request(texts))
        try:
            values = self._vectors(answer, len(texts))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise self._server.unusable(self._path, f"no vectors where they should be ({error!r})") from error
        vectors = unit_vectors(values, count=len(texts), model=self.name)  # type: ignore[arg-type]
        if self._dimension not in (None, vectors.shape[1]):
            raise ModelError(
                f"{self.name} gave vectors of {self._dimension} numbers before, and now of {vectors.shape[1]}.",
                hint="Another model answers under this name: restart the service, and see that the model is the same.",
            )
        self._dimension = vectors.shape[1]
        return vectors

    def _cut(self, question: str) -> str:
        most = self._max_tokens - SPECIAL - math.ceil(TOKENS_PER_WEIGHT * weight(self._query_prefix))
        while question and TOKENS_PER_WEIGHT * weight(question) > most:
            question = question[: int(len(question) * 0.9)]
        return question


def _clean(text: str) -> str:
    """Without lone surrogates, which no JSON can carry; never empty, which servers refuse."""
    return text.encode("utf-8", "replace").decode() if text.strip() else "-"
