"""What does `OllamaEmbedder` say to a real Ollama's refusals? (its server and model: `conftest.py`)

No package brings weights that Ollama embeds with, so the vectors themselves are tested in
tests/unit/models/test_model_servers.py, against answers as Ollama's page documents them.
"""

from __future__ import annotations

import shutil

import pytest

from core.errors import ModelError
from models.embedders.ollama import OllamaEmbedder
from models.http import ModelServer

TIMEOUT_S = 60.0

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="Go builds Ollama, and is not here"),
    pytest.mark.timeout(1500),  # the first run builds it
]


@pytest.mark.parametrize(
    ("model", "said", "hint"),
    [("demo", "does not support embeddings", ""), ("nobody", "nobody", "embedder.model")],
)
async def test_a_model_that_cannot_embed_or_is_not_there_is_an_error_in_ollamas_words(
    ollama_url: str, model: str, said: str, hint: str
) -> None:
    server = ModelServer(ollama_url, group="embedder", timeout_s=TIMEOUT_S, concurrency=1)
    embedder = OllamaEmbedder(server, model=model)
    try:
        with pytest.raises(ModelError, match=said) as refused:
            await embedder.dimension()
    finally:
        await embedder.close()
    assert hint in (refused.value.hint or "")
