"""One real service for all end-to-end tests; each test makes a knowledge base of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from up_service import UpService


@pytest.fixture(scope="session")
def service() -> Iterator[UpService]:
    """`rag-service up` on an empty folder, with an address (`url`), an `admin_key` and a `data_dir`."""
    # Short and open to PostgreSQL's own user, as `short_folder` of the other tests.
    folder = Path(tempfile.mkdtemp(prefix="rag-", dir="/tmp"))
    folder.chmod(0o711)
    running = UpService(folder)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)
