"""What becomes of requests when the settings name another embedder, or a reranker that is away?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from running_service import Running, running_service

LEAVE_MD = "# Leave\n\nParental leave is 16 weeks. The company pays for all of it.\n"


@pytest.fixture(scope="module")
def service(
    new_database: Callable[[], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A service whose reranker is a server that is not there (port 9 discards, and nobody listens)."""
    reranker = {"RAG_RERANKER__KIND": "http", "RAG_RERANKER__URL": "http://127.0.0.1:9"}
    with (
        new_database() as url,
        running_service(url, tmp_path_factory.mktemp("data"), **reranker) as running,
    ):
        yield running


def test_a_reranker_that_is_away_leaves_the_searchs_order_and_the_answer_says_so(service: Running) -> None:
    kb = service.new_kb("degraded")
    service.upload(kb, {"leave.md": LEAVE_MD})
    service.work()
    answer = service.ask(kb, "How many weeks is parental leave?")
    assert "16 weeks" in answer["answer"]
    [reason] = answer["degraded"]
    assert reason.startswith("rerank: No model server answers at http://127.0.0.1:9")


def test_another_embedder_is_refused_with_both_names(service: Running) -> None:
    kb = service.new_kb("older")
    service.upload(kb, {"leave.md": LEAVE_MD})
    service.work()
    service.rows("UPDATE knowledge_bases SET embedder = 'older-model' WHERE name = %s RETURNING id", kb)
    for response in (
        service.client.post(f"/kbs/{kb}/ask", json={"question": "How long is parental leave?"}),
        service.client.post(f"/kbs/{kb}/search", json={"query": "parental leave"}),
        service.client.post(f"/kbs/{kb}/documents", files={"file": ("new.md", LEAVE_MD.encode())}),
    ):
        assert response.status_code == 409, response.text
        assert "older-model" in response.text
        assert "multilingual-e5-small-q4" in response.text
