"""Does `OllamaLLM` keep the contract of language models with a real Ollama?

Ollama is built from its Go module by `tests/servers/ollama.sh` (6 CPU-minutes, once; kept in
~/.cache/rag-service-tests). Without Go the tests are skipped; `make test` leaves this folder out.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from llm_contract import COUNT, LLMContract, NewLLM, answer, greedy

from core.errors import ModelError
from models.llm.base import LLM, PromptStyle
from models.llm.demo_model import demo_model
from models.llm.detect import running_ollama_model
from models.llm.ollama import OllamaLLM

CACHE = Path.home() / ".cache" / "rag-service-tests"
SCRIPT = Path(__file__).parents[1] / "servers" / "ollama.sh"
TIMEOUT_S = 60.0

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="Go builds Ollama, and is not here"),
    pytest.mark.timeout(1500),  # the first run builds it
]


@pytest.fixture(scope="module")
def empty_ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a running Ollama without models, and the environment for its command line."""
    binary = subprocess.run([str(SCRIPT)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    home = tmp_path_factory.mktemp("ollama")
    address = f"127.0.0.1:{_free_port()}"
    environ = {
        "PATH": f"{Path(binary).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "OLLAMA_HOST": address,
        "OLLAMA_NUM_PARALLEL": "1",
        "NO_PROXY": "127.0.0.1",
    }
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([binary, "serve"], env=environ, stdout=log, stderr=log)
        try:
            _wait_until_up(f"http://{address}/api/version", server)
            yield f"http://{address}", environ
        finally:
            server.terminate()
            server.wait()


@pytest.fixture(scope="module")
def ollama_url(empty_ollama: tuple[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of an Ollama that has the model `demo`."""
    url, environ = empty_ollama
    assert asyncio.run(running_ollama_model(url)) is None, "an Ollama without models has none to offer"
    CACHE.mkdir(parents=True, exist_ok=True)
    modelfile = tmp_path_factory.mktemp("model") / "Modelfile"
    modelfile.write_text(
        f'FROM {demo_model(CACHE).path}\nTEMPLATE "{{{{ .Prompt }}}}"\nPARAMETER num_thread 1\n'
    )
    create = ["ollama", "create", "demo", "-f", str(modelfile)]
    binary = shutil.which("ollama", path=environ["PATH"])
    assert binary
    subprocess.run([binary, *create[1:]], env=environ, check=True, capture_output=True)
    return url


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    transport = httpx.HTTPTransport(retries=10)  # with growing pauses, about a minute in all
    with httpx.Client(transport=transport, trust_env=False) as client:
        client.get(url).raise_for_status()
    assert server.poll() is None
