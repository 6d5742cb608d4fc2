"""How does a test get a store's server in Docker? By testcontainers, from the image that docker-compose.yml names.

    python tests/servers/containers.py redis     prints the name of its image

Where the official image cannot be pulled, `tests/images/build.sh` builds a stand-in under its tag; its labels say
what is in it and whether that is a lookalike.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import docker
import httpx
import psycopg
import pymongo
import yaml
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container
from process import exchange, free_port
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"
START_S = 180.0  # on busy cores
# Ryuk removes what a killed test run leaves behind, but is itself an image that must be pulled. Ours carry a label:
#   docker rm -f $(docker ps -aq --filter label=rag-service.tests)
testcontainers_config.ryuk_disabled = True


@dataclass(frozen=True, slots=True)
class Service:
    """How tests run one of the services of docker-compose.yml: on loopback, without passwords where that can be."""

    name: str
    port: int
    url: str
    answers: Callable[[str, Container], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        return str(yaml.safe_load(COMPOSE_FILE.read_text())["services"][self.name]["image"])


def _postgres_answers(url: str, _: Container) -> bool:
    with psycopg.connect(url, connect_timeout=2):
        return True


def _milvus_answers(url: str, container: Container) -> bool:
    return bool(container.exec_run(["curl", "-fs", "http://localhost:9091/healthz"]).exit_code == 0)


def _redis_answers(url: str, _: Container) -> bool:
    return exchange(int(url.rsplit(":", 1)[1]), b"PING\r\n", 5) == b"+PONG"


def _elasticsearch_answers(url: str, _: Container) -> bool:
    return httpx.get(f"{url}/_cluster/health", params={"wait_for_status": "yellow"}, timeout=5).is_success


def _mongo_answers(url: str, _: Container) -> bool:
    with pymongo.MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=1000) as client:
        return bool(client.admin.command("hello")["ok"])


SERVICES = {
    "pgvector": Service(
        "postgres",
        5432,
        "postgresql://rag:rag@127.0.0.1:{port}/rag",
        _postgres_answers,
        environment={"POSTGRES_USER": "rag", "POSTGRES_PASSWORD": "rag"},
    ),
    "milvus": Service(
        "milvus",
        19530,
        "http://127.0.0.1:{port}",
        _milvus_answers,
        environment={
            "DEPLOY_MODE": "STANDALONE",
            "ETCD_USE_EMBED": "true",
            "ETCD_DATA_DIR": "/var/lib/milvus/etcd",
            "COMMON_STORAGETYPE": "local",
            "QUERYNODE_SEGCORE_INTERIMINDEX_ENABLEINDEX": "false",
            "OMP_NUM_THREADS": "1",
        },
        command=("milvus", "run", "standalone"),
        security_opt=("seccomp:unconfined",),
    ),
    "redis": Service(
        "redis",
        6379,
        "redis://127.0.0.1:{port}",
        _redis_answers,
        command=("redis-server", "--appendonly", "yes"),
    ),
    "elasticsearch": Service(
        "elasticsearch",
        9200,
        "http://127.0.0.1:{port}",
        _elasticsearch_answers,
        environment={
            "discovery.type": "single-node",
            "xpack.security.enabled": "false",
            "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
        },
    ),
    "mongo": Service("mongo", 27017, "mongodb://127.0.0.1:{port}", _mongo_answers),
}


class ServerContainer:
    """A server in a container. Start after `kill`, it has the same address and the same data."""

    def __init__(self, service: Service, port: int, container: Container) -> None:
        self._service = service
        self._container = container
        self.url = service.url.format(port=port)
        labels = container.image.labels
        self.lookalike: str | None = labels.get("rag-service.lookalike")
        stand_in = labels.get("rag-service.stand-in")
        self.place = f"in Docker, {service.image}" + (f" (stand-in: {stand_in})" if stand_in else "")

    def start(self) -> None:
        """Return when it answers; raises `RuntimeError` with the end of its output."""
        self._container.start()
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._answers():
            self._container.reload()
            if self._container.status == "exited" or time.monotonic() > deadline:
                raise RuntimeError(self._container.logs(tail=60).decode(errors="replace"))
            time.sleep(0.1)

    def kill(self) -> None:
        """As kill -9 would."""
        self._container.kill()
        self._container.wait()

    def freeze(self) -> None:
        """Keep the port open and answer nothing."""
        self._container.pause()

    def thaw(self) -> None:
        self._container.unpause()

    def _answers(self) -> bool:
        try:
            return self._service.answers(self.url, self._container)
        except (OSError, psycopg.OperationalError, httpx.HTTPError, pymongo.errors.PyMongoError, APIError):
            return False


@contextmanager
def running_container(kind: str) -> Iterator[ServerContainer]:
    service = SERVICES[kind]
    port = free_port()
    container = (
        DockerContainer(service.image)
        .with_envs(**service.environment)
        .with_kwargs(labels={"rag-service.tests": ""}, security_opt=list(service.security_opt))
    )
    container.ports[service.port] = ("127.0.0.1", port)
    if service.command:
        container.with_command(list(service.command))
    with container:
        server = ServerContainer(service, port, container.get_wrapped_container())
        server.wait()
        yield server


@cache
def obstacle(kind: str) -> str | None:
    """Why Docker cannot run the server of this store, in words; None if it can. Pulls the image if it must."""
    if kind not in SERVICES:
        return f"{kind} has no image"
    image = SERVICES[kind].image
    client = _engine()
    if client is None:
        return "no Docker engine answers"
    try:
        client.images.get(image)
    except ImageNotFound:
        try:
            client.images.pull(image)
        except DockerException as error:
            return f"the image {image} is not here and cannot be pulled ({type(error).__name__})"
    finally:
        client.close()
    return None


def _engine() -> docker.DockerClient | None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # the client forgets the socket that nobody answers on
        with contextlib.suppress(DockerException, OSError):
            return docker.from_env(timeout=600)
        gc.collect()
    return None


if __name__ == "__main__":
    sys.stdout.write(f"{SERVICES[sys.argv[1]].image}\n")
