"""What every test may use: a real PostgreSQL, fresh databases in it, and an environment without our settings.

Set `RAG_TEST_DATABASE_URL` to test against a server of your own (its user must be allowed to create
databases); otherwise the embedded server is started once for the whole run.
"""

# ruff: noqa: E402 (the environment must be right before the imports)

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin, which makes the embedder 20 times slower.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0")
# Taken out of the environment, where the service would refuse it as an unknown setting.
_TEST_DATABASE_URL = os.environ.pop("RAG_TEST_DATABASE_URL", None)

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from rag_service.local.postgres import EmbeddedPostgres

NewDatabase = Callable[[], AbstractContextManager[str]]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RAG_"):
            monkeypatch.delenv(name)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty folder with a short path that PostgreSQL's own user can enter (root's tests need that)."""
    with short_folder() as folder:
        yield folder


@contextmanager
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rag-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL 18 with pgvector, shared by all tests. Use `database_url` for data."""
    if _TEST_DATABASE_URL:
        yield _TEST_DATABASE_URL
        return
    with short_folder() as folder, EmbeddedPostgres(folder) as server:
        yield server.url


@pytest.fixture(scope="session")
def new_database(postgres_server: str) -> NewDatabase:
    """Call it for a context manager that gives the URL of a fresh, empty database and drops it at the end."""

    @contextmanager
    def create() -> Iterator[str]:
        name = f"test_{uuid.uuid4().hex[:12]}"
        _execute(
            postgres_server, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
        )
        try:
            yield urlunsplit(urlsplit(postgres_server)._replace(path=f"/{name}"))
        finally:
            _execute(postgres_server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    return create


@pytest.fixture
def database_url(new_database: NewDatabase) -> Iterator[str]:
    """The URL (`postgresql://…`) of a fresh, empty database for this test; dropped afterwards."""
    with new_database() as url:
        yield url


def _execute(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
