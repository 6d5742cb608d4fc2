"""Does `OllamaLLM` keep the contract of language models with a real Ollama?

Ollama is built from its Go module by `tests/servers/ollama.sh` (6 CPU-minutes, once; kept in
~/.cache/rag-service-tests). Without Go the tests are skipped; `make test` leaves this folder out.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from llm_contract import COUNT, LLMContract, NewLLM, answer, greedy

from core.errors import ModelError
from models.llm.base import LLM, PromptStyle
from models.llm.detect import running_ollama_model
from models.llm.ollama import OllamaLLM

TIMEOUT_S = 60.0

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="Go builds Ollama, and is not here"),
    pytest.mark.timeout(1500),  # the first run builds it
]


class OllamaContract(LLMContract):
    prompt_style: PromptStyle

    @pytest.fixture
    def new_llm(self, ollama_url: str) -> NewLLM:
        @asynccontextmanager
        async def new(context_tokens: int) -> AsyncIterator[LLM]:
            llm = OllamaLLM(
                url=ollama_url,
                model="demo",
                context_tokens=context_tokens,
                prompt_style=self.prompt_style,
                timeout_s=TIMEOUT_S,
            )
            try:
                yield llm
            finally:
                await llm.close()

        return new


class TestOllamaChat(OllamaContract):
    prompt_style = "chat"


class TestOllamaCompletion(OllamaContract):
    prompt_style = "completion"


async def test_the_running_model_is_found(ollama_url: str) -> None:
    assert await running_ollama_model(ollama_url) == "demo:latest"


async def test_a_model_it_does_not_have_is_an_error_that_says_how_to_pull_it(ollama_url: str) -> None:
    llm = OllamaLLM(url=ollama_url, model="qwen3:8b", context_tokens=256)
    with pytest.raises(ModelError) as asked:
        await answer(llm, COUNT, greedy(4))
    with pytest.raises(ModelError) as pinged:
        await llm.ping()
    assert asked.value.hint == pinged.value.hint == "Fetch it with `ollama pull qwen3:8b`."
    await llm.close()
