"""How do tests get a PostgreSQL of their own with pgvector? The embedded one, on a Unix socket.

python tests/servers/postgres_server.py     prints the URL, runs until Ctrl-C
"""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager
from pathlib import Path

from process import ServerProcess, run_until_interrupted, signal_tree, started

from rag_service.local.postgres import EmbeddedPostgres


class PostgresServer(ServerProcess):
    def __init__(self, data: Path) -> None:
        super().__init__(data)
        data.chmod(0o711)  # as root it runs as another user
        self._server = EmbeddedPostgres(data)
        self.url = self._server.url

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        if self._server.pid is not None:
            signal_tree(self._server.pid, signal.SIGKILL)
        self._server.stop()  # collects what is dead

    def _signal(self, number: signal.Signals) -> None:
        assert self._server.pid is not None, "it was not started"
        signal_tree(self._server.pid, number)


def running_postgres() -> AbstractContextManager[PostgresServer]:
    return started("postgres", PostgresServer)


if __name__ == "__main__":
    run_until_interrupted(running_postgres())
