"""How does a test keep a server that it can kill, start again, freeze and thaw? As a process over a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

CACHE = Path.home() / ".cache" / "rag-service-tests"


class ServerProcess:
    """A server on a loopback port. Start after `kill`, it has the same address and what it had on disk."""

    url: str
    lookalike: str | None = None  # what stands in for the real server
    place = "a local process"
    start_s = 60.0  # on busy cores; all are faster on idle ones

    def __init__(self, data: Path, port: int | None = None) -> None:
        self.data = data
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line; installs the server first if need be."""
        raise NotImplementedError

    def answers(self) -> bool:
        return exchange(self.port, b"", 0) is not None

    def popen_arguments(self) -> dict[str, Any]:
        return {}

    def start(self) -> None:
        """Return when it answers; raises `RuntimeError` with the end of its output."""
        command = self.command()
        with (self.data / "output").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.data,
                **self.popen_arguments(),
            )
        deadline = time.monotonic() + self.start_s
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError((self.data / "output").read_text(errors="replace")[-4000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash would, its children too."""
        if self._process is not None and self._process.poll() is None:
            signal_tree(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def freeze(self) -> None:
        """Keep the port open and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it was not started"
        signal_tree(self._process.pid, number)


Server = TypeVar("Server", bound=ServerProcess)


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send it to a process and all its descendants; those that have ended are passed over."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)


@contextmanager
def started(name: str, make: Callable[[Path], Server]) -> Iterator[Server]:
    """What `make` makes over an empty folder, started; killed and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"rag-{name}-", dir="/tmp"))
    server = make(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@contextmanager
def installing(name: str) -> Iterator[Path]:
    """The folder that keeps the programs of a server, held alone: a second caller waits for the first one."""
    home = CACHE / name
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def exchange(port: int, request: bytes, length: int) -> bytes | None:
    """The first `length` bytes of the answer on a loopback port; None if nobody is there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(request)
            return connection.recv(length) if length else b""
    except OSError:
        return None


def run_until_interrupted(server: contextlib.AbstractContextManager[ServerProcess]) -> None:
    """The command line of a server's file: prints the URL, runs until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), server as process:
        sys.stdout.write(process.url + "\n")
        sys.stdout.flush()
        while os.getppid() > 1:
            time.sleep(1)
