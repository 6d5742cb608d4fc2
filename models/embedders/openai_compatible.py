"""How do we get vectors from vLLM, llama.cpp's server, text-embeddings-inference and others with OpenAI's protocol?

https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.embedders.remote import RemoteEmbedder


class OpenAIEmbedder(RemoteEmbedder):
    """A model behind an OpenAI-compatible server; the server's URL, as a rule, ends in `/v1`."""

    kind = "openai"
    _path = "/embeddings"

    def _request(self, texts: Sequence[str]) -> dict[str, object]:
        return {"model": self._model, "input": list(texts), "encoding_format": "float"}

    def _vectors(self, answer: Any, count: int) -> object:
        by_index = {int(entry["index"]): entry["embedding"] for entry in answer["data"]}
        return [by_index[place] for place in range(count)]
