"""The schema: migrations make exactly what the models say, from any state and by several machines at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psycopg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

import migrations
from core.db.models import Base
from core.db.session import driver_url
from core.settings import Settings, environment, load_settings
from rag_service.first_start import prepare


def differences(url: str) -> list[object]:
    """What autogenerate would still change, types and server defaults included."""
    engine = create_engine(driver_url(url))
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            return list(compare_metadata(context, Base.metadata))
    finally:
        engine.dispose()


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in rows} - {"alembic_version"}


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        [count] = connection.execute(f"SELECT count(*) FROM {table}").fetchone() or [0]
        return int(count)


def service_settings(url: str, data_dir: Path) -> Settings:
    return load_settings({"RAG_DATABASE__URL": url, "RAG_DATA_DIR": str(data_dir)})


def test_an_upgraded_database_is_what_the_models_say(database_url: str) -> None:
    assert not migrations.is_current(database_url)
    migrations.upgrade(database_url)
    assert migrations.is_current(database_url)
    assert differences(database_url) == []
    assert tables(database_url) == set(Base.metadata.tables)


def test_upgrading_twice_changes_nothing_and_keeps_data(database_url: str) -> None:
    migrations.upgrade(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO api_keys (id, name, role, digest) VALUES ('k', 'n', 'admin', 'd')")
    migrations.upgrade(database_url)
    assert differences(database_url) == []
    assert rows(database_url, "api_keys") == 1


def test_every_step_goes_back_and_forth(database_url: str) -> None:
    migrations.upgrade(database_url)
    command.downgrade(migrations.config(database_url), "base")
    assert tables(database_url) == set()
    migrations.upgrade(database_url)
    assert differences(database_url) == []


def test_machines_that_start_at_the_same_time_prepare_one_database_once(
    database_url: str, tmp_path: Path
) -> None:
    variables = os.environ | environment(service_settings(database_url, tmp_path))
    argv = [sys.executable, "-m", "rag_service.cli", "migrate"]
    starts = [subprocess.Popen(argv, env=variables, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    endings = [(start.communicate(timeout=120)[1], start.returncode) for start in starts]
    assert endings == [("", 0)] * 3
    assert differences(database_url) == []
    assert rows(database_url, "api_keys") == 1
    assert rows(database_url, "knowledge_bases") == 1


def test_the_admin_key_is_written_once_for_this_user_only_and_only_its_hash_is_kept(
    database_url: str, tmp_path: Path
) -> None:
    settings = service_settings(database_url, tmp_path)
    asyncio.run(prepare(settings))
    key = settings.admin_key_file.read_text()
    assert settings.admin_key_file.stat().st_mode & 0o777 == 0o600
    asyncio.run(prepare(settings))
    assert settings.admin_key_file.read_text() == key
    with psycopg.connect(database_url) as connection:
        [row] = connection.execute("SELECT * FROM api_keys").fetchall()
    assert key.strip().startswith("rag_")
    assert key.strip() not in map(str, row)
