"""What runs in the child process of `LlamaCppLLM`? llama.cpp's own server, on a free port of this machine.

    python -P llama_cpp_server.py      with one line of JSON on stdin (`Job` in `llama_cpp.py`)

Writes one line when it is ready, `{"url": …}`, or `{"error": …}` and ends. It lives as long as its stdin is
open, so it ends with its parent, however that ends. It imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> int:
    job = json.loads(sys.stdin.readline())
    try:
        server = start(job)
    except (ImportError, OSError, RuntimeError) as error:
        say({"error": str(error), "missing": isinstance(error, ImportError)})
        return 1
    say({"url": server.listening_address})
    sys.stdin.read()  # until the parent closes it
    return 0


def start(job: dict[str, Any]) -> Any:
    import xllamacpp  # noqa: PLC0415 (optional; what is missing is for the parent to say)

    params = xllamacpp.CommonParams()
    params.model.path = job["model_path"]
    params.model_alias = {job["model"]}
    params.n_parallel = job["parallel"]
    params.n_ctx = job["context_tokens"] * job["parallel"]  # shared out evenly among the parallel answers
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [job["api_key"]]  # other users of this machine can reach the port too
    params.ui = params.endpoint_slots = False
    params.cache_ram_mib = 0  # its default may take 8 GiB
    params.fit_params = False  # would shrink the context without a word
    params.verbosity = 0
    return xllamacpp.Server(params)


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
