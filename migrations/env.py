"""How Alembic reaches the database. Run through `migrations.upgrade`, not the alembic command."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

from core.db.models import Base
from migrations import LOCK


def run() -> None:
    engine = create_engine(context.config.attributes["url"])
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            context.configure(connection=connection, target_metadata=Base.metadata)
            context.run_migrations()
    finally:
        engine.dispose()


run()
