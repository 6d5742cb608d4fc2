"""How do tests get a server that speaks MongoDB's protocol? SecantusDB, as a process on a loopback port.

    python tests/servers/mongo_server.py     prints the URL, runs until Ctrl-C

A lookalike, because no package carries MongoDB itself: it has the commands, indexes and operators of MongoDB
over the same storage engine (WiredTiger), and no vector search. Its licence (GPL) is the reason why it is a
process of its own with its own packages, in ~/.cache/rag-service-tests/mongo. Works as root and not as root.
"""

from __future__ import annotations

import shutil
import subprocess
import venv
from contextlib import AbstractContextManager
from pathlib import Path

from process import ServerProcess, installing, run_until_interrupted, started

SERVER = "SecantusDB==0.7.0b3"


class MongoServer(ServerProcess):
    lookalike = "SecantusDB 0.7"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.url = f"mongodb://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            *(str(installed() / "bin" / "secantusd-py"), "--port", str(self.port)),
            *("--storage-path", str(self.data / "db"), "--sync-on-commit"),
        ]


def running_mongo() -> AbstractContextManager[MongoServer]:
    return started("mongo", MongoServer)


def installed() -> Path:
    """The environment that the server is installed in; makes it first if need be."""
    with installing("mongo") as cache:
        home = cache / SERVER.replace("==", "-")
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)  # in its place: an environment cannot be moved
            subprocess.run([str(home / "bin" / "pip"), "install", "-q", SERVER], check=True)
            (home / "ready").touch()
    return home


if __name__ == "__main__":
    run_until_interrupted(running_mongo())
