"""What every test may use: a real PostgreSQL, fresh databases in it, and an environment without our settings.

Set `RAG_TEST_DATABASE_URL` to test against a server of your own (its user must be allowed to create
databases); otherwise the embedded server is started once for the whole run.

Where `CI` is set, a test that is skipped fails, unless its reason is one of `SKIPS_IN_CI`: a missing server or
program would else pass unnoticed.
"""

# ruff: noqa: E402 (the environment must be right before the imports)

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin, which makes the embedder 20 times slower.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0")
# Taken out of the environment, where the service would refuse it as an unknown setting.
_TEST_DATABASE_URL = os.environ.pop("RAG_TEST_DATABASE_URL", None)
os.environ.pop("RAG_TEST_PULL", None)  # of tests/images/build.sh

import sys
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from rag_service.local.postgres import EmbeddedPostgres

# The starters of servers are imported by their own names.
sys.path.append(str(Path(__file__).parent / "servers"))
import running  # also takes RAG_TEST_SERVERS out of the environment
from folders import short_folder

NewDatabase = Callable[[], AbstractContextManager[str]]
# Reasons that lie in the system or in what is tested, not in something that CI forgot to install.
SKIPS_IN_CI = ("only root ", "only Linux ", "Linux only")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_skip_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_skip_in_ci(report)
    return report


def _fail_skip_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if any(allowed in reason for allowed in SKIPS_IN_CI):
        return
    report.outcome = "failed"
    report.longrepr = f"{reason}\nIn CI this must run; a reason that lies elsewhere goes into SKIPS_IN_CI."


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kind, place in sorted(running.used.items()):
        terminalreporter.write_line(f"Server of {kind}: {place}")


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
