"""How do tests get a Milvus? Two servers, each a process whose only open port is on loopback.

    python tests/servers/milvus_server.py lite|real      prints the URL, runs until Ctrl-C

`lite` is the server of Milvus Lite 3.2: it speaks the protocol of a present Milvus, text search included, but
is another program (in Python, without HNSW here). `real` is Milvus 2.3.5, the last that a Python package
carries: the true engine, but without sparse vectors. It listens on all interfaces and cannot be told not to,
so it runs in a network of its own, where one forwarder reaches it (`milvus_in_namespace.py`; that needs root
or user namespaces). Both are installed once into ~/.cache/rag-service-tests/milvus (200 and 150 MB).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from process import ServerProcess, exchange, installing, run_until_interrupted, started

Kind = Literal["lite", "real"]

PACKAGES = {"lite": ["milvus-lite==3.2.2", "pymilvus==3.0.2"], "real": ["milvus==2.3.5"]}
FORWARDER = Path(__file__).with_name("milvus_in_namespace.py")
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
# New records are compared one by one until they are indexed, as `stores.milvus` advises.
ENVIRONMENT = {
    "QUERYNODE_SEGCORE_INTERIMINDEX_ENABLEINDEX": "false",
    "OMP_NUM_THREADS": "1",
    # Milliseconds between ticks of its clocks: strongly consistent reads wait for one, loads for several.
    "PROXY_TIMETICKINTERVAL": "20",
    "QUERYCOORD_CHECKINTERVAL": "50",
    "QUERYCOORD_DISTPULLINTERVAL": "50",
}


class MilvusServer(ServerProcess):
    start_s = 120.0

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.url = f"http://127.0.0.1:{self.port}"

    def popen_arguments(self) -> dict[str, Any]:
        return {"env": {**os.environ, **ENVIRONMENT}}

    def answers(self) -> bool:
        """Whether it speaks HTTP/2: the forwarder takes connections before the server does."""
        return bool(exchange(self.port, HTTP2_HELLO, 1))


class MilvusLite(MilvusServer):
    lookalike = "Milvus Lite 3.2"

    def command(self) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [
            str(install("lite") / "milvus-lite"),
            "server",
            "--data-dir",
            str(self.data / "data"),
            *address,
        ]


class Milvus23(MilvusServer):
    _listener: socket.socket  # while it starts

    def command(self) -> list[str]:
        inside = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
        forwarder = [sys.executable, str(FORWARDER), str(self._listener.fileno())]
        server = [str(install("real") / "milvus-server"), "--data", str(self.data / "data")]
        return [*inside, *forwarder, *server]

    def start(self) -> None:
        with socket.socket() as self._listener:  # the forwarder has its own copy
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen()
            super().start()

    def popen_arguments(self) -> dict[str, Any]:
        return {**super().popen_arguments(), "pass_fds": [self._listener.fileno()]}


SERVERS: dict[Kind, type[MilvusServer]] = {"lite": MilvusLite, "real": Milvus23}


def running_milvus(kind: Kind) -> AbstractContextManager[MilvusServer]:
    return started(f"milvus-{kind}", SERVERS[kind])


def install(kind: Kind) -> Path:
    """The folder of its programs; installs them first if need be."""
    with installing("milvus") as cache:
        home = cache / kind
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
            subprocess.run([*pip, "--disable-pip-version-check", *PACKAGES[kind]], check=True)
            (home / "complete").touch()
    return home / "bin"


if __name__ == "__main__":
    run_until_interrupted(running_milvus("real" if sys.argv[1:] == ["real"] else "lite"))
