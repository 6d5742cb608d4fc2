"""Does `rag-service doctor` find what is wrong, and say what to do?"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import migrations
from ingest.queue import install_queue
from rag_service.cli import app


def doctor(data_dir: Path, **variables: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    variables = {"RAG_DATA_DIR": str(data_dir), "RAG_LLM__KIND": "extractive", **variables}
    done = CliRunner().invoke(app, ["doctor"], env=variables)
    assert done.stderr == ""
    return done.exit_code, done.stdout


def test_a_prepared_database_passes_every_check(data_dir: Path, database_url: str) -> None:
    migrations.upgrade(database_url)
    install_queue(database_url)
    status, said = doctor(data_dir, RAG_DATABASE__URL=database_url)
    assert "✗" not in said
    assert status == 0
    for name in (
        "settings",
        "data folder",
        "database",
        "schema",
        "store pgvector",
        "queue",
        "embedder",
        "language model",
    ):
        assert f"✓ {name}: " in said


def test_an_empty_database_needs_the_migration(data_dir: Path, database_url: str) -> None:
    status, said = doctor(data_dir, RAG_DATABASE__URL=database_url)
    assert status == 1
    assert "✗ schema: " in said
    assert "✗ queue: " in said
    assert "rag-service migrate" in said


def test_a_database_that_is_away_is_named_and_the_models_are_still_checked(data_dir: Path) -> None:
    status, said = doctor(data_dir, RAG_DATABASE__URL="postgresql://nobody@127.0.0.1:1/x")
    assert status == 1
    assert "✗ database: " in said
    assert "RAG_DATABASE__URL" in said
    assert "✓ embedder: " in said


def test_an_engine_that_is_away_is_named_with_what_to_do(data_dir: Path, database_url: str) -> None:
    status, said = doctor(
        data_dir,
        RAG_DATABASE__URL=database_url,
        RAG_LLM__KIND="ollama",
        RAG_LLM__URL="http://127.0.0.1:1",
        RAG_LLM__MODEL="qwen3:4b",
    )
    assert status == 1
    assert "✗ language model: " in said
    assert "ollama serve" in said


def test_each_store_has_a_line_of_its_own(data_dir: Path, database_url: str) -> None:
    status, said = doctor(
        data_dir,
        RAG_DATABASE__URL=database_url,
        RAG_STORES__REDIS__URL="redis://127.0.0.1:1",
        RAG_STORES__ELASTICSEARCH__URL="http://127.0.0.1:1",
    )
    assert status == 1
    assert "✓ store pgvector: answers" in said
    assert "✗ store redis: Redis" in said
    [line] = [line for line in said.splitlines() if line.startswith("✗ store elasticsearch: ")]
    assert line.count("Cannot connect to host") == 1
    assert "caused by" not in line


def test_other_stores_are_checked_though_the_database_is_away(data_dir: Path) -> None:
    nobody = "postgresql://nobody@127.0.0.1:1/x"
    _, said = doctor(data_dir, RAG_DATABASE__URL=nobody, RAG_STORES__REDIS__URL="redis://127.0.0.1:1")
    assert "✗ store redis: " in said
    assert "store pgvector" not in said


def test_a_broker_that_is_away_is_named_without_its_password(data_dir: Path, database_url: str) -> None:
    status, said = doctor(
        data_dir, RAG_DATABASE__URL=database_url, RAG_BROKER__URL="redis://:hunter2@127.0.0.1:1/0"
    )
    assert status == 1
    assert "✗ queue: " in said
    assert "RAG_BROKER__URL" in said
    assert "hunter2" not in said


def test_an_unknown_setting_is_named_and_nothing_else_is_tried(data_dir: Path) -> None:
    status, said = doctor(data_dir, RAG_FLAVOUR="mint")
    assert status == 1
    assert said.startswith("✗ settings: ")
    assert "RAG_FLAVOUR is not a setting" in said
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize(
    "url", ["postgresql://u:hunter2@[h/db", "postgresql://u:hunter2@h:port/db", "mysql://u:hunter2@h"]
)
def test_an_address_that_is_none_is_named_without_its_password(data_dir: Path, url: str) -> None:
    status, said = doctor(data_dir, RAG_DATABASE__URL=url)
    assert status == 1
    assert "RAG_DATABASE__URL" in said
    assert "hunter2" not in said


def test_the_embedded_database_is_started_for_the_check_and_stopped(data_dir: Path) -> None:
    status, said = doctor(data_dir)
    assert status == 0
    assert "embedded, started for this check" in said
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
