"""How do we get vectors from an Ollama? (https://github.com/ollama/ollama/blob/main/docs/api.md, `/api/embed`)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.embedders.remote import RemoteEmbedder


class OllamaEmbedder(RemoteEmbedder):
    """A model of a running Ollama; the server's URL has no path. A text that is too long is refused, not cut."""

    kind = "ollama"
    _path = "/api/embed"

    def _request(self, texts: Sequence[str]) -> dict[str, object]:
        return {"model": self._model, "input": list(texts), "truncate": False}

    def _vectors(self, answer: Any, count: int) -> object:
        return answer["embeddings"]
