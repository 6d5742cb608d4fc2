"""Is the right model found where the settings name none?"""

from __future__ import annotations

import json

import pytest
from fake_llm_server import Reply, fake_server, unused_url

from core.errors import ModelError, ModelUnavailable
from models.llm.detect import running_ollama_model, served_model


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply([json.dumps(value).encode()], status=status)


async def test_without_ollama_there_is_no_model() -> None:
    assert await running_ollama_model(unused_url()) is None


async def test_the_first_model_that_writes_text_is_taken() -> None:
    tags = json_reply({"models": [{"name": "qwen3:8b"}, {"name": "llama3:8b"}]})
    shown = json_reply({"capabilities": ["completion", "tools"]})
    async with fake_server({"/api/tags": tags, "/api/show": shown}) as server:
        assert await running_ollama_model(server.url) == "qwen3:8b"


async def test_an_embedder_is_not_taken() -> None:
    tags = json_reply({"models": [{"name": "bge-m3"}]})
    shown = json_reply({"capabilities": ["embedding"]})
    async with fake_server({"/api/tags": tags, "/api/show": shown}) as server:
        assert await running_ollama_model(server.url) is None
        assert server.bodies[-1] == {"model": "bge-m3"}


@pytest.mark.parametrize("tags", [[], {}, {"models": None}, {"models": []}, {"models": [7]}])
async def test_what_is_not_ollama_has_no_model(tags: object) -> None:
    async with fake_server({"/api/tags": json_reply(tags)}) as server:
        assert await running_ollama_model(server.url) is None


async def test_a_server_that_is_silent_has_no_model() -> None:
    async with fake_server({"/api/tags": Reply(then="silence")}) as server:
        assert await running_ollama_model(server.url) is None


async def test_an_openai_server_serves_the_first_model_of_its_list() -> None:
    models = json_reply({"data": [{"id": "qwen"}, {"id": "other"}]})
    async with fake_server({"/v1/models": models}) as server:
        assert await served_model(f"{server.url}/v1", "key") == "qwen"


@pytest.mark.parametrize("models", [{"data": []}, {}, [], 7])
async def test_a_server_without_a_list_of_models_is_an_error_that_names_the_setting(models: object) -> None:
    async with fake_server({"/v1/models": json_reply(models)}) as server:
        with pytest.raises(ModelError) as caught:
            await served_model(f"{server.url}/v1")
    assert "llm.model" in (caught.value.hint or "")


async def test_no_server_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable):
        await served_model(unused_url())
