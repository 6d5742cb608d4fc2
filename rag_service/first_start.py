"""What a database needs before the service can run: the schema, the queue, an admin key, a first knowledge base."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import func, select

import migrations
from core.db import kbs, keys
from core.db.models import ApiKey
from core.db.session import Database
from core.settings import Settings
from ingest.queue import install_queue
from rag_service.new_kb import new_kb
from rag_service.wiring import database_url, make_embedder

DEFAULT_KB = "default"


async def prepare(settings: Settings) -> None:
    """Bring the database up to date; on the very first start make the admin key and the first knowledge base.

    The key goes to `settings.admin_key_file` (only this user may read it) and is printed nowhere else.
    Safe to run again, and by several machines at the same time.
    """
    url = database_url(settings)
    migrations.upgrade(url)
    if settings.broker.url is None:
        install_queue(url)
    database = Database(url)
    try:
        await _first_rows(database, settings)
    finally:
        await database.close()


async def _first_rows(database: Database, settings: Settings) -> None:
    async with database.transaction() as session:
        await session.execute(select(func.pg_advisory_xact_lock(migrations.LOCK)))
        if (await session.execute(select(func.count()).select_from(ApiKey))).scalar_one() > 0:
            return
        _, key = await keys.create(session, name="admin", role="admin")
        embedder = make_embedder(settings)
        try:
            await kbs.create(session, await new_kb(settings, embedder, name=DEFAULT_KB))
        finally:
            await embedder.close()
        write_secret(settings.admin_key_file, key)


def write_secret(path: Path, secret: str) -> None:
    """Write a file that only this user may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
