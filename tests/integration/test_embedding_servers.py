"""Do our embedders speak with a real server? llama.cpp's own, with its `/v1/embeddings`, on the small demo model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import xllamacpp

from core.errors import ModelError
from models.embedders.openai_compatible import OpenAIEmbedder
from models.http import ModelServer
from models.llm.demo_model import demo_model

CACHE = Path.home() / ".cache" / "rag-service-tests"
CONTEXT = 512


@pytest.fixture(scope="module")
def llama_cpp_url() -> Iterator[str]:
    CACHE.mkdir(parents=True, exist_ok=True)
    params = xllamacpp.CommonParams()
    params.model.path = str(demo_model(CACHE).path)
    params.model_alias = {"demo"}
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = ["secret"]
    params.ui = False
    params.fit_params = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


def new(url: str, **how: object) -> OpenAIEmbedder:
    key = str(how.pop("api_key", "secret"))
    server = ModelServer(url, group="embedder", api_key=key, timeout_s=60, concurrency=2)
    return OpenAIEmbedder(server, model="demo", **how)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def embedder(llama_cpp_url: str) -> AsyncIterator[OpenAIEmbedder]:
    embedder = new(llama_cpp_url)
    yield embedder
    await embedder.close()


async def test_vectors_come_in_order_with_unit_length(embedder: OpenAIEmbedder) -> None:
    texts = ["年假有十五天。", "The warranty is three years.", "年假有十五天。", ""]
    vectors = await embedder.embed_passages(texts)
    assert vectors.shape == (4, await embedder.dimension())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > 0.999 > vectors[0] @ vectors[1]


async def test_what_needs_several_requests_is_the_same(embedder: OpenAIEmbedder, llama_cpp_url: str) -> None:
    texts = [f"text number {number}" for number in range(6)]
    small = new(llama_cpp_url, batch_tokens=16)
    together, apart = await embedder.embed_passages(texts), await small.embed_passages(texts)
    assert ((together * apart).sum(axis=1) > 0.999).all()
    await small.close()


async def test_estimated_tokens_keep_a_passage_inside_the_context(embedder: OpenAIEmbedder) -> None:
    for unit in ("员工每年享有带薪年假。", "Employees have a right to paid leave. "):
        text = unit
        while embedder.count_tokens(text + unit) <= CONTEXT:
            text += unit
        assert (await embedder.embed_passages([text])).shape[0] == 1


async def test_a_passage_that_is_too_long_is_refused_and_not_cut(embedder: OpenAIEmbedder) -> None:
    with pytest.raises(ModelError, match=r"too large|exceed"):
        await embedder.embed_passages(["word " * 3 * CONTEXT])


async def test_a_wrong_key_is_an_error_that_names_the_setting(llama_cpp_url: str) -> None:
    stranger = new(llama_cpp_url, api_key="wrong")
    with pytest.raises(ModelError, match="401") as refused:
        await stranger.dimension()
    assert "embedder.api_key" in (refused.value.hint or "")
    await stranger.close()
