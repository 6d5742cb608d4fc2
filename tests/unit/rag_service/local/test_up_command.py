"""`rag-service up` speaks to a person: errors are words, not tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rag_service.cli import app


def test_version_prints_the_installed_version() -> None:
    result = CliRunner().invoke(app, ["version"])
    assert result.stdout == f"{version('rag-service')}\n"


def test_an_unknown_setting_is_named_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_SERVER__PROT", "8010")
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 1
    assert result.stderr.startswith("rag-service: RAG_SERVER__PROT is not a setting")


def test_a_data_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path / "file" / "data"))
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == 1
    assert f"{tmp_path}/file/data cannot be made" in result.stderr


def test_a_database_that_is_away_is_named_without_a_traceback(tmp_path: Path) -> None:
    address = "postgresql://rag:secret@127.0.0.1:1/rag"
    environ = os.environ | {"RAG_DATABASE__URL": address, "RAG_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "rag_service.cli", "up"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "The database does not answer" in said
    assert "Check RAG_DATABASE__URL" in said
    assert "Traceback" not in said
    assert "secret" not in said


def test_the_supervisor_loads_no_heavy_library() -> None:
    """It lives as long as the service does, so its memory counts."""
    heavy = ("fastapi", "sqlalchemy", "celery", "numpy", "psycopg", "openai", "rich")
    code = (
        "import sys, rag_service.cli, rag_service.local.supervisor;"
        f"print(*[name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
