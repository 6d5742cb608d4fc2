"""`rag-service up` as users run it: a process of its own, stopped by Ctrl-C or killed with all its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

READY = "rag-service is ready: "
PATIENCE_S = 300.0  # for starts and ends, on machines that are busy


class UpService:
    """One data folder, and the service on it while it runs. `url` changes with every start."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.url = ""
        self.output = ""
        self._variables = {
            "RAG_DATA_DIR": str(data_dir),
            "RAG_SERVER__PORT": "0",
            "RAG_LLM__KIND": "extractive",
            "PYTHONUNBUFFERED": "1",
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._database_url: str | None = None

    @property
    def admin_key(self) -> str:
        return (self.data_dir / "admin.key").read_text(encoding="utf-8").strip()

    @property
    def database_url(self) -> str:
        """Of the embedded PostgreSQL, as the service's own processes are told."""
        if self._database_url is None:
            self._database_url = self.part("worker").environ()["RAG_DATABASE__URL"]
        return self._database_url

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the query finds in that database."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query, parameters or None).fetchall()  # type: ignore[arg-type]

    def start(self) -> None:
        """Returns when the service says that it is ready."""
        self._database_url = None
        log = self.data_dir / "up.out"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rag_service.cli", "up"],
                env=os.environ | self._variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        process = self._process

        def is_ready() -> bool:
            self.output = log.read_text(encoding="utf-8")
            assert process.poll() is None, self.output
            return READY in self.output

        eventually(is_ready)
        self.url = self.output.split(READY)[1].split()[0]

    def stop(self) -> None:
        """Ctrl-C; fails if any process is left."""
        if self._process is None:
            return
        assert self._process.poll() is None, f"It ended by itself: {self.output}"
        tree = self.tree()
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(PATIENCE_S)
        self._process = None
        _, alive = psutil.wait_procs(tree, timeout=5)
        assert alive == []
        assert status == 0, (self.data_dir / "up.out").read_text(encoding="utf-8")

    def kill(self) -> None:
        """`kill -9` of every process at once, as when the power goes."""
        assert self._process is not None
        tree = self.tree()
        for process in tree:
            process.suspend()  # so that none of them can react to the death of another
        for process in tree:
            process.kill()
        self._process.wait()
        self._process = None
        psutil.wait_procs(tree, timeout=PATIENCE_S)

    def kill_supervisor(self) -> None:
        """`kill -9` of the first process alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()  # psutil's waiting would leave Popen to warn that it still runs
        self._process = None

    def tree(self) -> list[psutil.Process]:
        """The supervisor and all its descendants."""
        assert self._process is not None
        supervisor = psutil.Process(self._process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def part(self, name: str) -> psutil.Process:
        """The process of one part, `api` or `worker`; waits until it is there."""
        found: list[psutil.Process] = []

        def is_there() -> bool:
            found[:] = [p for p in self.tree() if _arguments(p)[-2:] == ["rag_service.cli", name]]
            return bool(found)

        eventually(is_there)
        return found[0]

    def client(self) -> httpx.Client:
        """Speaks to `/api/v1` as the admin."""
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60)


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return []


def eventually(condition: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Waits until the condition holds; fails if it never does."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.05)
