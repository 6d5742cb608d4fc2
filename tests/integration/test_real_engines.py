"""Does llama.cpp, as a child process, start, die and end as its owner needs?"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from core.errors import ModelError, ModelUnavailable
from models.llm.base import Message, Role, complete
from models.llm.demo_model import demo_model
from models.llm.llama_cpp import LlamaCppLLM
from models.llm.sampling import SamplingParams

CACHE = Path.home() / ".cache" / "rag-service-tests"
SHORT = SamplingParams(max_new_tokens=4, temperature=0)
QUESTION = [Message(Role.USER, "The capital of France is")]


@pytest.fixture(scope="module")
def weights() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return demo_model(CACHE).path


@pytest_asyncio.fixture
async def llm(weights: Path) -> AsyncIterator[LlamaCppLLM]:
    llm = LlamaCppLLM(model_path=weights, context_tokens=512, prompt_style="completion", concurrency=3)
    yield llm
    await llm.close()


def servers(parent: psutil.Process | None = None) -> list[psutil.Process]:
    children = (parent or psutil.Process()).children(recursive=True)
    return [child for child in children if "llama_cpp_server.py" in " ".join(child.cmdline())]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (another process decides)
        await asyncio.sleep(0.01)


async def test_nothing_starts_before_the_first_question_and_nothing_is_left_after_close(
    llm: LlamaCppLLM,
) -> None:
    assert servers() == []
    await asyncio.gather(*(complete(llm, QUESTION, SHORT) for _ in range(4)))
    assert len(servers()) == 1
    await llm.close()
    assert servers() == []


async def test_each_of_several_concurrent_answers_has_the_whole_context(llm: LlamaCppLLM) -> None:
    long = [Message(Role.USER, "word " * 450)]
    assert all(await asyncio.gather(*(complete(llm, long, SHORT) for _ in range(3))))


async def test_a_server_that_was_killed_is_unavailable_once_and_then_starts_again(llm: LlamaCppLLM) -> None:
    endless = SamplingParams(max_new_tokens=400, temperature=0)
    stream = llm.stream(QUESTION, endless)
    await anext(stream)
    [server] = servers()
    server.send_signal(signal.SIGKILL)
    with pytest.raises((ModelError, ModelUnavailable)):
        [_ async for _ in stream]
    assert llm._process is not None
    await llm._process.wait()  # asyncio learns of its end a little later than the kernel does
    assert await complete(llm, QUESTION, SHORT)


async def test_cancelling_the_first_question_leaves_no_half_started_server(llm: LlamaCppLLM) -> None:
    task = asyncio.create_task(complete(llm, QUESTION, SHORT))
    await until(lambda: bool(servers()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert servers() == []
    assert await complete(llm, QUESTION, SHORT)


@pytest.mark.parametrize("content", [None, b"", b"GGUF and then nonsense"])
async def test_a_file_that_is_no_model_is_an_error_that_names_it(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    llm = LlamaCppLLM(model_path=path, context_tokens=512)
    with pytest.raises(ModelError, match=r"model\.gguf") as caught:
        await llm.ping()
    assert caught.value.hint
    assert servers() == []
    await llm.close()


async def test_a_base_model_is_not_asked_to_chat(weights: Path) -> None:
    llm = LlamaCppLLM(model_path=weights, context_tokens=512)
    with pytest.raises(ModelError, match=rf"{re.escape(weights.name)} has no chat template") as caught:
        await llm.ping()
    assert "prompt_style to completion" in (caught.value.hint or "")
    assert servers() == []
    await llm.close()


async def test_without_the_package_the_hint_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('No module named xllamacpp')")
    (tmp_path / "model.gguf").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    llm = LlamaCppLLM(model_path=tmp_path / "model.gguf", context_tokens=512)
    with pytest.raises(ModelUnavailable, match="xllamacpp") as caught:
        await llm.ping()
    assert "pip install -e '.[llama-cpp]'" in (caught.value.hint or "")
    await llm.close()


def test_the_server_ends_with_its_owner_though_the_owner_was_killed(weights: Path) -> None:
    owner = f"""
import asyncio
from pathlib import Path
from models.llm.llama_cpp import LlamaCppLLM

async def main():
    llm = LlamaCppLLM(model_path=Path({str(weights)!r}), context_tokens=512, prompt_style="completion")
    await llm.ping()
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        [server] = servers(psutil.Process(process.pid))
        os.kill(process.pid, signal.SIGKILL)
        server.wait(timeout=30)
