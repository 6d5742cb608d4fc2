"""What does a user see of the command line when something is missing?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rag_service.cli import app


def rag_service(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(app, arguments, env=variables)


@pytest.mark.parametrize(
    "command",
    [
        "kb list",
        "kb show x",
        "kb delete x --yes",
        "documents list",
        "jobs list",
        "search x",
        "ask x",
        "ingest .",
    ],
)
def test_a_service_that_does_not_run_is_one_line_and_status_1(command: str) -> None:
    done = rag_service(*command.split(), RAG_URL="http://127.0.0.1:1", RAG_API_KEY="k")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "rag-service up" in done.stderr


def test_deleting_asks_first() -> None:
    done = rag_service("kb", "delete", "x", RAG_URL="http://127.0.0.1:1", RAG_API_KEY="k")
    assert done.exit_code == 1
    assert "Delete x and all its documents for good?" in done.stdout
    assert "does not answer" not in done.stderr


def test_without_a_key_the_error_names_the_file_and_the_variable(tmp_path: Path) -> None:
    done = rag_service("kb", "list", RAG_DATA_DIR=str(tmp_path))
    assert done.exit_code == 1
    assert str(tmp_path / "admin.key") in done.stderr
    assert "RAG_API_KEY" in done.stderr


def test_the_command_line_loads_no_store_model_or_http_library_until_it_needs_one() -> None:
    # `rag-service up` is resident beside the service: what it imports, it keeps.
    heavy = ("httpx", "rich", "sqlalchemy", "celery", "numpy", "psycopg", "fastapi")
    code = f"import sys, rag_service.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
