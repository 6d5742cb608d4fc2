"""How do tests get a server that speaks MongoDB's protocol? SecantusDB, as a process on a loopback port.

    python tests/servers/mongo_server.py [PORT]     prints the URL, runs until Ctrl-C

A lookalike, because no package carries MongoDB itself: it has the commands, indexes and operators of MongoDB
over the same storage engine (WiredTiger), and no vector search. Its licence (GPL) is the reason why it is a
process of its own with its own packages, in ~/.cache/rag-service-tests/mongo. Works as root and not as root.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = "SecantusDB==0.7.0b3"
CACHE = Path.home() / ".cache" / "rag-service-tests" / "mongo"
START_S = 60.0  # on busy cores; 1 s on idle ones


class MongoServer:
    """A server that keeps its data in a folder, so that it can be killed and started again."""

    def __init__(self, data: Path, port: int) -> None:
        self._data = data
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"mongodb://127.0.0.1:{port}"

    def start(self) -> None:
        command = [
            *(str(installed() / "bin" / "secantusd-py"), "--port", str(self._port)),
            *("--storage-path", str(self._data / "db"), "--sync-on-commit"),
        ]
        with (self._data / "output").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._data
            )
        deadline = time.monotonic() + START_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError((self._data / "output").read_text(errors="replace")[-4000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def running_mongo() -> Iterator[MongoServer]:
    folder = Path(tempfile.mkdtemp(prefix="rag-mongo-"))
    server = MongoServer(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def installed() -> Path:
    """The environment that the server is installed in; makes it first if need be."""
    home = CACHE / SERVER.replace("==", "-")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second caller waits for the first one's download
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)  # in its place: an environment cannot be moved
            subprocess.run([str(home / "bin" / "pip"), "install", "-q", SERVER], check=True)
            (home / "ready").touch()
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="rag-mongo-"))
    server = MongoServer(folder, int(sys.argv[1]) if len(sys.argv) > 1 else free_port())
    try:
        server.start()
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        server.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
