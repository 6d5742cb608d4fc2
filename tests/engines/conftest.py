"""The contract of language models lies with the other contracts; here it meets engines that take minutes to build.

And where is a real Ollama?
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from process import CACHE, free_port

sys.path.append(str(Path(__file__).parents[1] / "contract"))

from models.llm.demo_model import demo_model
from models.llm.detect import running_ollama_model

SCRIPT = Path(__file__).parents[1] / "servers" / "ollama.sh"


@pytest.fixture(scope="module")
def empty_ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a running Ollama without models, and the environment for its command line."""
    binary = subprocess.run([str(SCRIPT)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    home = tmp_path_factory.mktemp("ollama")
    address = f"127.0.0.1:{free_port()}"
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


def _wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    transport = httpx.HTTPTransport(retries=10)  # with growing pauses, about a minute in all
    with httpx.Client(transport=transport, trust_env=False) as client:
        client.get(url).raise_for_status()
    assert server.poll() is None
