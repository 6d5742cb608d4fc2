"""Do llama.cpp and the OpenAI-compatible client keep the contract of language models, with a real model?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from llm_contract import LLMContract, NewLLM

from models.llm.base import LLM
from models.llm.demo_model import demo_model
from models.llm.llama_cpp import SERVER, LlamaCppLLM, libgomp_path
from models.llm.openai_compatible import OpenAICompatibleLLM
from models.llm.presets import LLAMA_CPP

CACHE = Path.home() / ".cache" / "rag-service-tests"
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def weights() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return demo_model(CACHE).path


class TestLlamaCpp(LLMContract):
    """In the prompt style `completion`."""

    @pytest.fixture
    def new_llm(self, weights: Path) -> NewLLM:
        @asynccontextmanager
        async def new(context_tokens: int) -> AsyncIterator[LLM]:
            llm = LlamaCppLLM(
                model_path=weights,
                context_tokens=context_tokens,
                prompt_style="completion",
                timeout_s=TIMEOUT_S,
            )
            try:
                yield llm
            finally:
                await llm.close()

        return new


class TestOpenAICompatible(LLMContract):
    """In the prompt style `chat`, against llama.cpp's server."""

    @pytest.fixture
    def new_llm(self, weights: Path) -> NewLLM:
        @asynccontextmanager
        async def new(context_tokens: int) -> AsyncIterator[LLM]:
            with llama_cpp_server(weights, context_tokens, api_key="the-key") as url:
                llm = OpenAICompatibleLLM(
                    url=f"{url}/v1",
                    model="demo",
                    context_tokens=context_tokens,
                    api_key="the-key",
                    timeout_s=TIMEOUT_S,
                    preset=LLAMA_CPP,
                )
                try:
                    yield llm
                finally:
                    await llm.close()

        return new


@contextmanager
def llama_cpp_server(weights: Path, context_tokens: int, api_key: str) -> Iterator[str]:
    job = {
        "model_path": str(weights),
        "model": "demo",
        "context_tokens": context_tokens,
        "parallel": 1,
        "threads": 1,
        "api_key": api_key,
    }
    command = [sys.executable, "-P", str(SERVER)]
    with (
        libgomp_path() as path,
        subprocess.Popen(
            command, env=os.environ | path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())["url"]
        process.stdin.close()
