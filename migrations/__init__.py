"""The database schema, step by step (Alembic). `upgrade` brings a database to the newest step."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from core.db.session import driver_url, unavailable

LOCK = 7_246_170  # PostgreSQL advisory lock that keeps two starting machines apart; any number, never changed


def config(url: str) -> Config:
    """Alembic's configuration for the database at `url`; there is no alembic.ini."""
    result = Config()
    result.set_main_option("script_location", str(Path(__file__).parent))
    result.attributes["url"] = driver_url(url)
    return result


def upgrade(url: str) -> None:
    """Bring the schema to the newest step; does nothing if it is there. Concurrent calls wait for each other.

    Raises `DatabaseUnavailable` when the server does not answer.
    """
    try:
        command.upgrade(config(url), "head")
    except OperationalError as error:
        raise unavailable(error) from error


def is_current(url: str) -> bool:
    """Whether the database's schema is the newest step."""
    engine = create_engine(driver_url(url))
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return current == ScriptDirectory.from_config(config(url)).get_current_head()
