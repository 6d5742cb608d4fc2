"""The real application on a real port, and a worker that works when a test says so.

API and worker run in threads of the test process; everything below them is what users run.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import httpx
import psycopg
import uvicorn
from click.testing import Result
from typer.testing import CliRunner

from core.settings import Settings, load_settings
from rag_service.app import create_app
from rag_service.cli import app as cli
from rag_service.first_start import prepare
from rag_service.wiring import WorkerServices, open_worker

T = TypeVar("T")
OPEN_JOBS = "SELECT id FROM jobs WHERE status IN ('queued', 'running') ORDER BY created_at"


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=120)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass
class Running:
    """The service: `client` speaks to `/api/v1` as the admin, `work` does all jobs that are open."""

    url: str
    database_url: str
    settings: Settings
    client: httpx.Client
    loop: LoopThread
    worker: WorkerServices

    @property
    def admin_key(self) -> str:
        return self.settings.admin_key_file.read_text().strip()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query, parameters).fetchall()

    def work(self) -> None:
        while open_jobs := self.rows(OPEN_JOBS):
            for (job_id,) in open_jobs:
                self.loop.run(self.worker.runner.run(job_id))
            time.sleep(0.02)

    def command(self, *arguments: str) -> Result:
        """What a command of the CLI says; the worker works until it is done."""
        variables = {"RAG_URL": self.url, "RAG_API_KEY": self.admin_key}
        done = threading.Event()

        def work() -> None:
            while not done.wait(0.05):
                self.work()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            with mock.patch.dict(os.environ, variables):
                return CliRunner().invoke(cli, arguments)
        finally:
            done.set()
            worker.join()

    def as_(self, key: str | None) -> httpx.Client:
        """Another client, with this key or none."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url + "/api/v1", headers=headers, timeout=60)

    # --- what most tests do -----------------------------------------------------------------------------------

    def new_kb(self, name: str) -> str:
        response = self.client.post("/kbs", json={"name": name})
        assert response.status_code == 201, response.text
        return name

    def upload(self, kb: str, files: Mapping[str, bytes | str], **form: str) -> list[dict[str, Any]]:
        parts = [
            ("file", (name, content if isinstance(content, bytes) else content.encode()))
            for name, content in files.items()
        ]
        response = self.client.post(f"/kbs/{kb}/documents", files=parts, data=form)
        assert response.status_code == 202, response.text
        results: list[dict[str, Any]] = response.json()["files"]
        return results

    def ask(self, kb: str, question: str, **options: Any) -> dict[str, Any]:
        response = self.client.post(f"/kbs/{kb}/ask", json={"question": question, **options})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def search(self, kb: str, query: str, **options: Any) -> list[dict[str, Any]]:
        response = self.client.post(f"/kbs/{kb}/search", json={"query": query, **options})
        assert response.status_code == 200, response.text
        passages: list[dict[str, Any]] = response.json()["passages"]
        return passages


@contextmanager
def running_service(database_url: str, data_dir: Path, **variables: str) -> Iterator[Running]:
    settings = load_settings(
        {
            "RAG_DATABASE__URL": database_url,
            "RAG_DATA_DIR": str(data_dir),
            "RAG_LLM__KIND": "extractive",
            **variables,
        }
    )
    asyncio.run(prepare(settings))
    loop = LoopThread()
    opened = open_worker(settings, owner="test")
    try:
        worker = loop.run(opened.__aenter__())
        try:
            with _served(settings) as url, httpx.Client(base_url=url + "/api/v1", timeout=60) as client:
                running = Running(url, database_url, settings, client, loop, worker)
                client.headers["Authorization"] = f"Bearer {running.admin_key}"
                yield running
        finally:
            loop.run(opened.__aexit__(None, None, None))
    finally:
        loop.close()


@contextmanager
def _served(settings: Settings) -> Iterator[str]:
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the API did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
