"""Where do servers of stores come from, and what is said where they cannot come from there?"""

from __future__ import annotations

from collections.abc import Iterator

import containers
import pytest
import running

from core.settings import STORE_SERVERS


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    containers.obstacle.cache_clear()
    yield
    containers.obstacle.cache_clear()


def test_every_store_has_a_local_server_for_its_tests() -> None:
    assert set(running.LOCAL) == {"pgvector", *STORE_SERVERS} >= set(containers.SERVICES)


def test_a_store_of_which_no_image_is_known_is_a_local_process_unless_docker_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(running.LOCAL, "sixth", running.LOCAL["redis"])
    assert running.starter("sixth", "auto") is running.LOCAL["redis"]
    with pytest.raises(RuntimeError, match="sixth has no image"):
        running.starter("sixth", "docker")


@pytest.mark.parametrize("wish", ["auto", "local"])
def test_without_docker_the_server_is_a_local_process(no_engine: None, wish: str) -> None:
    assert running.starter("redis", wish) is running.LOCAL["redis"]


def test_docker_that_is_wanted_and_not_there_is_missed_in_words(no_engine: None) -> None:
    with pytest.raises(RuntimeError, match="RAG_TEST_SERVERS=docker, but no Docker engine answers"):
        running.starter("redis", "docker")
