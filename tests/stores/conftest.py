"""The stores meet real servers here; what they must do lies with the other contracts.

Each kind of server is started once for the whole run, when a test first asks for it. `RAG_TEST_REDIS_URL` (and
so on) names one to test instead, whose data stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "contract"))
pytest.register_assert_rewrite("store_contract", "store_properties", "store_agreement")

from milvus_server import running_milvus  # noqa: E402
from running import running  # noqa: E402
from store_contract import INDEX  # noqa: E402
from subjects import GIVEN, MILVUS_23, build, opened  # noqa: E402

from stores.base import VectorStore  # noqa: E402

ServerUrl = Callable[[str], str]


@pytest.fixture(scope="session")
def server_url() -> Iterator[ServerUrl]:
    """The URL of the server for a kind of store."""
    with ExitStack() as servers:

        @cache
        def url(kind: str) -> str:
            if kind in GIVEN:
                return GIVEN[kind]
            server = running_milvus("real") if kind == MILVUS_23 else running(kind)
            return servers.enter_context(server).url

        yield url


@pytest.fixture
async def store(server_url: ServerUrl, request: pytest.FixtureRequest) -> AsyncIterator[VectorStore]:
    """A store of the module's `KIND`, open, without the contract's `INDEX`."""
    kind: str = request.module.KIND
    async with opened(build(kind, server_url(kind))) as store:
        await store.drop_index(INDEX)
        yield store
        await store.drop_index(INDEX)
