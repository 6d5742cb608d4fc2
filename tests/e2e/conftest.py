"""One real service for all end-to-end tests; each test makes a knowledge base of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from folders import short_folder
from up_service import UpService


@pytest.fixture(scope="session")
def service() -> Iterator[UpService]:
    """`rag-service up` on an empty folder, with an address (`url`), an `admin_key` and a `data_dir`."""
    with short_folder() as folder:
        running = UpService(folder)
        try:
            running.start()
            yield running
        finally:
            running.stop()
