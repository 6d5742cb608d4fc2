"""One running service for each test file: knowledge bases keep the tests apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from running_service import Running, running_service


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
