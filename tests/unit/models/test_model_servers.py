"""Embedders and rerank models behind HTTP: what they send, what they take, and what they say when it goes wrong.

The server is the fake of `fake_llm_server.py`; its answers are those that the protocols' pages document. Real servers
are asked in tests/integration/test_embedding_servers.py and tests/engines/.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from fake_llm_server import FakeServer, Reply, fake_server, unused_url

from core.errors import ModelError, ModelTimeout, ModelUnavailable
from models import http
from models.embedders.base import Embedder
from models.embedders.batches import batches
from models.embedders.ollama import OllamaEmbedder
from models.embedders.openai_compatible import OpenAIEmbedder
from models.http import ModelServer
from models.rerankers.http import HttpRerankModel

A, B = [3.0, 4.0], [0.0, 2.0]
OPENAI = {
    "object": "list",
    "model": "m",
    "data": [{"index": 1, "embedding": B}, {"index": 0, "embedding": A}],
}
OLLAMA = {"model": "m", "embeddings": [A, B], "prompt_eval_count": 4}
COHERE = {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}
TEI = [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]


def reply(body: Any, **how: Any) -> Reply:
    return Reply([json.dumps(body).encode()], **how)


def server(url: str, timeout_s: float = 5.0) -> ModelServer:
    return ModelServer(url, group="embedder", api_key="secret", timeout_s=timeout_s, concurrency=2)


@asynccontextmanager
async def openai(
    replies: Reply | Sequence[Reply], **how: Any
) -> AsyncIterator[tuple[FakeServer, OpenAIEmbedder]]:
    async with fake_server({"/v1/embeddings": replies}) as fake:
        embedder = OpenAIEmbedder(server(f"{fake.url}/v1"), model="m", **how)
        try:
            yield fake, embedder
        finally:
            await embedder.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSE_S", 0.01)


async def test_a_server_that_is_gone_costs_only_our_own_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("models.http.asyncio.sleep", slept)
    server = http.ModelServer(unused_url(), group="reranker", timeout_s=5, concurrency=1)
    with pytest.raises(ModelUnavailable):
        await server.post("/rerank", {})
    await server.close()
    assert pauses == [http.PAUSE_S, 2 * http.PAUSE_S]


async def test_openai_vectors_are_put_in_the_order_of_the_texts_and_made_unit_length() -> None:
    async with openai(reply(OPENAI)) as (fake, embedder):
        as_embedder: Embedder = embedder
        vectors = await as_embedder.embed_passages(["一", "two"])
        np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.0, 1.0]])
        assert vectors.dtype == np.float32
        assert await embedder.dimension() == 2
        assert fake.bodies == [{"model": "m", "input": ["一", "two"], "encoding_format": "float"}]


async def test_ollama_is_asked_to_refuse_what_is_too_long() -> None:
    async with fake_server({"/api/embed": reply(OLLAMA)}) as fake:
        embedder = OllamaEmbedder(server(fake.url), model="m", query_prefix="query: ")
        np.testing.assert_allclose(await embedder.embed_queries(["a", "b"]), [[0.6, 0.8], [0.0, 1.0]])
        assert fake.bodies == [{"model": "m", "input": ["query: a", "query: b"], "truncate": False}]
        await embedder.close()


async def test_what_json_cannot_carry_and_servers_refuse_is_replaced() -> None:
    async with openai(reply(OPENAI)) as (fake, embedder):
        await embedder.embed_passages(["a\ud800b", " \n"])
        assert fake.bodies[0]["input"] == ["a?b", "-"]


async def test_a_long_question_is_cut_and_a_long_passage_is_not() -> None:
    single = {"data": [{"index": 0, "embedding": A}]}
    async with openai(reply(single), max_tokens=100) as (fake, embedder):
        await embedder.embed_queries(["问" * 1000])
        await embedder.embed_passages(["问" * 1000])
        [[question], [passage]] = [body["input"] for body in fake.bodies]
        assert 50 < len(question) <= 80
        assert len(passage) == 1000


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [([], []), ([5, 5, 5], [2, 1]), ([50], [1]), ([1, 50, 1], [1, 1, 1]), ([1] * 7, [3, 3, 1])],
)
def test_batches_hold_ten_tokens_or_three_texts_or_one_longer_text(sizes: list[int], runs: list[int]) -> None:
    texts = ["x" * size for size in sizes]
    made = list(batches(texts, len, tokens=10, texts_at_most=3))
    assert [len(batch) for batch in made] == runs
    assert [text for batch in made for text in batch] == texts


def test_the_name_holds_all_that_vectors_depend_on() -> None:
    s = server("http://localhost")
    names = {
        OpenAIEmbedder(s, model="m").name,
        OpenAIEmbedder(s, model="n").name,
        OpenAIEmbedder(s, model="m", query_prefix="q").name,
        OpenAIEmbedder(s, model="m", passage_prefix="q").name,
        OllamaEmbedder(s, model="m").name,
    }
    assert len(names) == 5


async def test_another_model_under_the_same_name_is_noticed() -> None:
    first, second = ({"data": [{"index": 0, "embedding": v}]} for v in ([1.0, 0.0], [1.0, 0.0, 0.0]))
    async with openai([reply(first), reply(second)]) as (_, embedder):
        await embedder.embed_passages(["a"])
        with pytest.raises(ModelError, match="of 2 numbers before, and now of 3"):
            await embedder.embed_passages(["b"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": []},
        {"data": [{"index": 0, "embedding": A}]},
        {"data": [{"index": 0, "embedding": A}, {"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": A}, {"index": 1, "embedding": ["x", "y"]}]},
        {"data": [{"index": 0, "embedding": A}, {"index": 1, "embedding": [0.0, 0.0]}]},
        ["garbage"],
    ],
)
async def test_an_answer_without_a_vector_for_each_text_is_an_error(body: Any) -> None:
    async with openai(reply(body)) as (_, embedder):
        with pytest.raises(ModelError):
            await embedder.embed_passages(["a", "b"])


async def test_a_busy_server_is_asked_again() -> None:
    busy = Reply([b"loading"], status=503)
    async with openai([busy, busy, reply(OPENAI)]) as (fake, embedder):
        assert (await embedder.embed_passages(["a", "b"])).shape == (2, 2)
        assert len(fake.bodies) == 3


async def test_a_server_that_stays_busy_is_unavailable_with_its_words() -> None:
    async with openai(Reply([b"no slot"], status=429)) as (fake, embedder):
        with pytest.raises(ModelUnavailable, match="no slot"):
            await embedder.embed_passages(["a"])
        assert len(fake.bodies) == http.TRIES


async def test_a_server_that_asks_for_a_minute_is_not_waited_for() -> None:
    async with openai(Reply([b"later"], status=429, headers={"retry-after": "60"})) as (fake, embedder):
        with pytest.raises(ModelUnavailable) as refused:
            await embedder.embed_passages(["a"])
        assert refused.value.retry_after_s == 60
        assert len(fake.bodies) == 1


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "embedder.api_key"), (404, "embedder.model"), (400, ""), (500, "")]
)
async def test_a_refusal_is_an_error_with_the_servers_words_and_the_setting(status: int, hint: str) -> None:
    async with openai(Reply([b"said so"], status=status)) as (fake, embedder):
        with pytest.raises(ModelError, match="said so") as refused:
            await embedder.embed_passages(["a"])
        assert hint in (refused.value.hint or "")
        assert len(fake.bodies) == 1


async def test_what_is_no_json_and_what_breaks_off_are_errors() -> None:
    async with openai(Reply([b"<html>"])) as (_, embedder):
        with pytest.raises(ModelError, match="no JSON"):
            await embedder.embed_passages(["a"])
    async with openai(Reply([b'{"da'], then="cut")) as (_, embedder):
        with pytest.raises(ModelUnavailable):
            await embedder.embed_passages(["a"])


async def test_silence_is_a_timeout_and_nobody_there_is_unavailable() -> None:
    async with fake_server({"/embeddings": Reply(then="silence")}) as fake:
        slow = OpenAIEmbedder(server(fake.url, timeout_s=0.2), model="m")
        with pytest.raises(ModelTimeout, match="too slow"):
            await slow.embed_passages(["a"])
        await slow.close()
    gone = OpenAIEmbedder(server(unused_url()), model="m")
    with pytest.raises(ModelUnavailable, match="No model server") as refused:
        await gone.dimension()
    assert "embedder.url" in (refused.value.hint or "")
    await gone.close()


RERANKERS: list[tuple[str, str | None, Any, dict[str, Any]]] = [
    ("rerank", "m", COHERE, {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 2}),
    ("rerank", None, COHERE, {"query": "q", "documents": ["a", "b"], "top_n": 2}),
    ("tei", None, TEI, {"query": "q", "texts": ["a", "b"], "truncate": True}),
]


@pytest.mark.parametrize(("protocol", "model", "answer", "sent"), RERANKERS)
async def test_rerank_servers_give_a_score_for_each_text_in_order(
    protocol: str, model: str | None, answer: Any, sent: dict[str, Any]
) -> None:
    async with fake_server({"/v1/rerank": reply(answer)}) as fake:
        reranker = HttpRerankModel(server(f"{fake.url}/v1/"), protocol=protocol, model=model)
        assert await reranker.scores("q", ["a", "b"]) == [0.1, 0.9]
        assert fake.bodies == [sent]
        assert await reranker.scores("q", []) == []
        await reranker.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda results: results[:1],
        lambda results: [*results[:1], {"index": 0}],
        lambda results: [results[0], {"index": 0, "relevance_score": None}],
        lambda results: [results[0], {"index": 0, "relevance_score": float("nan")}],
        lambda results: "garbage",
    ],
)
async def test_a_rerank_answer_without_a_score_for_each_text_is_an_error(spoil: Callable[[Any], Any]) -> None:
    async with fake_server({"/rerank": reply({"results": spoil(COHERE["results"])})}) as fake:
        reranker = HttpRerankModel(server(fake.url))
        with pytest.raises(ModelError, match="cannot be used"):
            await reranker.scores("q", ["a", "b"])
        await reranker.close()
