"""How do we ask a rerank server? Two protocols, which differ in names only.

- `rerank`: vLLM, Jina, Cohere, llama.cpp's server and others; https://docs.cohere.com/reference/rerank
- `tei`: text-embeddings-inference; https://huggingface.github.io/text-embeddings-inference/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.http import ModelServer

PATH = "/rerank"


@dataclass(frozen=True, slots=True)
class Protocol:
    """`request` makes the body of model, question and texts; `results` finds the list of entries with an `index`."""

    request: Callable[[str | None, str, Sequence[str]], dict[str, Any]]
    results: Callable[[Any], Any]
    score: str


def _cohere_request(model: str | None, question: str, texts: Sequence[str]) -> dict[str, Any]:
    named = {"model": model} if model else {}
    return {**named, "query": question, "documents": list(texts), "top_n": len(texts)}


def _tei_request(model: str | None, question: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"query": question, "texts": list(texts), "truncate": True}


PROTOCOLS: Mapping[str, Protocol] = {
    "rerank": Protocol(_cohere_request, lambda answer: answer["results"], "relevance_score"),
    "tei": Protocol(_tei_request, lambda answer: answer, "score"),
}


class HttpRerankModel:
    """A rerank model behind a server that answers under `URL/rerank` (`…/v1/rerank`, Cohere's `…/v2/rerank`)."""

    def __init__(self, server: ModelServer, *, protocol: str = "rerank", model: str | None = None) -> None:
        self._server = server
        self._protocol = PROTOCOLS[protocol]
        self._model = model

    @property
    def name(self) -> str:
        return f"{self._model or 'reranker'} at {self._server.url}"

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        answer = await self._server.post(PATH, self._protocol.request(self._model, question, texts))
        try:
            scored = {
                int(entry["index"]): float(entry[self._protocol.score])
                for entry in self._protocol.results(answer)
            }
            scores = [scored[place] for place in range(len(texts))]
        except (KeyError, TypeError, ValueError) as error:
            raise self._server.unusable(PATH, f"not a score for each text ({error!r})") from error
        if not all(map(math.isfinite, scores)):
            raise self._server.unusable(PATH, "a score is not finite")
        return scores

    async def close(self) -> None:
        await self._server.close()
