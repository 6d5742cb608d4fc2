"""How do tests get a Milvus? Two servers, each a process whose only open port is on loopback.

    python tests/servers/milvus_server.py lite|real      prints the URL, runs until Ctrl-C

`lite` is the server of Milvus Lite 3.2: it speaks the protocol of a present Milvus, text search included, but
is another program (in Python, without HNSW here). `real` is Milvus 2.3.5, the last that a Python package
carries: the true engine, but without sparse vectors. It listens on all interfaces and cannot be told not to,
so it runs in a network of its own, where one forwarder reaches it (`milvus_in_namespace.py`; that needs root
or user namespaces). Both are installed once into ~/.cache/rag-service-tests/milvus (200 and 150 MB).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Kind = Literal["lite", "real"]

CACHE = Path.home() / ".cache" / "rag-service-tests" / "milvus"
PACKAGES = {"lite": ["milvus-lite==3.2.2", "pymilvus==3.0.2"], "real": ["milvus==2.3.5"]}
FORWARDER = Path(__file__).with_name("milvus_in_namespace.py")
# New records are compared one by one until they are indexed, as `stores.milvus` advises.
ENVIRONMENT = {"QUERYNODE_SEGCORE_INTERIMINDEX_ENABLEINDEX": "false", "OMP_NUM_THREADS": "1"}
START_S = 120.0


class MilvusServer:
    """A server that keeps its data in a folder, so that it can be killed and started again."""

    def __init__(self, kind: Kind, data: Path) -> None:
        self._kind = kind
        self._data = data
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._port = int(self._listener.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        programs = install(self._kind)
        command = self._lite(programs) if self._kind == "lite" else self._real(programs)
        with (self._data / "output").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
                pass_fds=[] if self._kind == "lite" else [self._listener.fileno()],
            )
        self._wait()

    def kill(self) -> None:
        """As a crash would, its children too."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def remove(self) -> None:
        self.kill()
        self._listener.close()
        shutil.rmtree(self._data)

    def _lite(self, programs: Path) -> list[str]:
        self._listener.close()  # it was here to find a free port
        address = ["--host", "127.0.0.1", "--port", str(self._port)]
        return [str(programs / "milvus-lite"), "server", "--data-dir", str(self._data / "data"), *address]

    def _real(self, programs: Path) -> list[str]:
        if self._listener.fileno() == -1:
            raise RuntimeError("this server was removed")
        self._listener.listen()
        inside = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
        forwarder = [sys.executable, str(FORWARDER), str(self._listener.fileno())]
        return [*inside, *forwarder, str(programs / "milvus-server"), "--data", str(self._data / "data")]

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        log = self._data / "output"
        while not _answers(self._port):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(log.read_text(errors="replace")[-4000:])
            time.sleep(0.2)


def _answers(port: int) -> bool:
    """Whether it speaks HTTP/2: the forwarder takes connections before the server does."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            return bool(connection.recv(1))
    except OSError:
        return False


@contextmanager
def running_milvus(kind: Kind) -> Iterator[MilvusServer]:
    server = MilvusServer(kind, Path(tempfile.mkdtemp(prefix=f"rag-milvus-{kind}-")))
    try:
        server.start()
        yield server
    finally:
        server.remove()


def install(kind: Kind) -> Path:
    """The folder of its programs; installs them first if need be."""
    home = CACHE / kind
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second caller waits for the first one
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
            subprocess.run([*pip, "--disable-pip-version-check", *PACKAGES[kind]], check=True)
            (home / "complete").touch()
    return home / "bin"


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kind: Kind = "real" if sys.argv[1:] == ["real"] else "lite"
    with running_milvus(kind) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
