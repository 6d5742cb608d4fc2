"""One running service, or one lab, for each test file: knowledge bases keep the tests apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import pytest_asyncio
from lab import Lab, TroubledStore, new_kb
from running_service import Running, running_service

import migrations
from core.db.session import Database
from ingest.files import FileStore
from ingest.intake import Intake
from ingest.queue import install_queue
from models.embedders.bundled import BundledEmbedder


@pytest.fixture(scope="module")
def service(
    new_database: Callable[[], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    small = {"RAG_SERVER__MAX_UPLOAD_MB": "1", "RAG_SERVER__MAX_REQUEST_MB": "3"}
    away = {"RAG_STORES__REDIS__URL": "redis://127.0.0.1:1"}  # nobody answers there
    with (
        new_database() as url,
        running_service(url, tmp_path_factory.mktemp("data"), **small, **away) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def prepared_url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with new_database() as url:
        migrations.upgrade(url)
        install_queue(url)
        yield url


@pytest.fixture(scope="module")
def embedder() -> BundledEmbedder:
    return BundledEmbedder()


@pytest_asyncio.fixture
async def lab(prepared_url: str, embedder: BundledEmbedder, tmp_path: Path) -> AsyncIterator[Lab]:
    database, store, files = Database(prepared_url), TroubledStore(prepared_url), FileStore(tmp_path)
    files.open()
    await store.open()
    lab = Lab(prepared_url, database, files, tmp_path, store, embedder, Intake(database, files), "")
    lab.kb_id = await new_kb(lab)
    yield lab
    await lab.sql("DELETE FROM knowledge_bases")  # equal files of other tests must not keep theirs alive
    await store.close()
    await database.close()
