"""Does anything get lost, doubled or left behind, whoever is killed when? Rounds of an ingest with `kill -9` in each.

    python tests/crash/rounds.py 30                    # the vectors in the embedded PostgreSQL, as is the queue
    python tests/crash/rounds.py 30 --store redis      # in a server of their own, which is killed, too
    python tests/crash/rounds.py 30 --broker rabbitmq  # (or redis) as the queue, and killed, too
    python tests/crash/rounds.py 30 --disk             # and the disk is full now and then; needs root
    python tests/crash/rounds.py 30 --clock            # and the clock jumps; needs Debian's package faketime

In each round documents are uploaded, updated and deleted while one part of the service is killed at a random moment:
the worker, the API, the database's server (with the queue in it), the store's server, or all processes at once. What is
not acknowledged is sent again, as a careful client does. At the end `fsck` looks at everything, and every document
that was acknowledged is searched for. Prints one line; exit status 1 if it does not say 0 four times.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Protocol
from unittest import mock

import httpx

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("e2e", "servers")]

from folders import short_folder
from postgres_server import running_postgres
from process import free_port
from rabbitmq_server import running_rabbitmq
from redis_server import running_redis
from running import running
from up_service import UpService, eventually

DOCUMENTS = 500
UPDATED, DELETED = 5, 10  # one in so many documents gets a new version, goes
KB = "rounds"
PATIENCE_S = 300.0  # for an answer that acknowledges, and from one job to the next
AGAIN_S = 0.3  # between two tries
SETTINGS = {
    "RAG_WORKER__LEASE_S": "2",
    "RAG_WORKER__NICE": "0",  # what is tried here is not its patience
    "RAG_INGEST__CHUNK_CHARACTERS": "100",  # two chunks each
    "RAG_FSCK__EVERY_H": "0",
}
BROKERS = {"redis": lambda: running_redis(search=False), "rabbitmq": running_rabbitmq}
DISK_MB = 900  # of the file system for a full disk
FULL_S = 4.0  # for which it is full, at most
JUMPS_S = (-86_400, -60, 60, 86_400)  # of the clock
FAKE_CLOCK = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
OPEN_JOBS = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')"
STUCK_JOBS = (
    "SELECT document_name, status, stage, attempts, lease_until - now(), run_after - now(), signalled_at - now(), "
    "error FROM jobs WHERE status IN ('queued', 'running') LIMIT 5"
)
FAILED_JOBS = "SELECT document_name, error FROM jobs WHERE status = 'failed'"


def sentences(number: int, version: int) -> list[str]:
    """Of a document; each is found by a word that no other has."""
    marks = [hashlib.sha256(f"{number} {version} {place}".encode()).hexdigest()[:16] for place in range(2)]
    return [
        f"Shelf {place} of locker {number} belongs to {mark}, who keeps tools and papers in it and has the keys of the "
        "upper and the lower gate and of the tower, and answers for all of it."
        for place, mark in enumerate(marks)
    ]


class Server(Protocol):
    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    rounds: int
    acknowledged: int
    lost: int
    doubled: int
    returned: int
    orphans: int

    def __str__(self) -> str:
        counts = ("rounds", "acknowledged", "lost", "doubled", "returned", "orphans")
        return ", ".join(f"{name} {number}" for name, number in zip(counts, astuple(self), strict=True))

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.returned or self.orphans)


@dataclass(slots=True)
class Client:
    """Uploads, updates and deletes, each again and again until it is acknowledged."""

    service: UpService
    versions: dict[int, int] = field(default_factory=dict)  # of the documents that are there
    deleted: set[int] = field(default_factory=set)
    ids: dict[int, str] = field(default_factory=dict)
    acknowledged: int = 0

    def upload(self, number: int, version: int) -> None:
        text = "\n\n".join(sentences(number, version)).encode()
        files = {"file": (f"locker-{number}.md", text)}
        response = self._until(lambda http: http.post(f"/kbs/{KB}/documents", files=files), 202)
        self.ids[number] = response.json()["files"][0]["document_id"]
        self.versions[number] = version
        self.acknowledged += 1

    def delete(self, number: int) -> None:
        path = f"/kbs/{KB}/documents/{self.ids[number]}"
        self._until(lambda http: http.delete(path), 202, 404)  # 404: the answer before got lost
        del self.versions[number]
        self.deleted.add(number)

    def search(self, text: str) -> list[str]:
        body = {"query": text, "top_k": 50, "structure": {"parents": False, "neighbours": False}}
        response = self._until(lambda http: http.post(f"/kbs/{KB}/search", json=body), 200)
        return [passage["text"] for passage in response.json()["passages"]]

    def ask(self, method: str, path: str, *expected: int, body: object = None) -> httpx.Response:
        return self._until(lambda http: http.request(method, path, json=body), *expected)

    def _until(self, send: Callable[[httpx.Client], httpx.Response], *expected: int) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self.service.client() as http:
                    response = send(http)
                if response.status_code in expected:
                    return response
                said = response.text
                if response.status_code not in (500, 503, 507):
                    raise RuntimeError(f"{response.request.method} {response.url}: {said}")
            except httpx.TransportError as error:
                said = repr(error)
            if time.monotonic() > deadline:
                raise RuntimeError(f"Never acknowledged: {said}")
            time.sleep(AGAIN_S)


class Rounds:
    """The service, who uses it, and who kills it. `faults` are done to it beside the kills of its own processes."""

    def __init__(
        self,
        service: UpService,
        faults: dict[str, Callable[[], None]],
        *,
        rounds: int,
        documents: int,
        seed: int,
    ) -> None:
        self._service = service
        self._faults = faults
        self._rounds = rounds
        self._documents = documents
        self._random = random.Random(seed)
        self._client = Client(service)
        self.victims: list[str] = []

    def run(self, *, store: str) -> Outcome:
        self._client.ask("POST", "/kbs", 201, body={"name": KB, "store": store})
        for number in range(self._rounds):
            self._round(range(number, self._documents, self._rounds))
        self._wait_for_jobs()
        return self._outcome()

    def _round(self, numbers: range) -> None:
        """Upload these, and change earlier ones, while something dies."""
        todo = self._operations(numbers)
        failures: list[BaseException] = []

        def use() -> None:
            try:
                for operation in todo:
                    operation()
            except BaseException as error:
                failures.append(error)

        user = threading.Thread(target=use)
        user.start()
        time.sleep(self._random.uniform(0, 3))
        victim = self._random.choice(list(self._weapons))
        self.victims.append(victim)
        self._weapons[victim]()
        user.join()
        if failures:
            raise failures[0]

    def _operations(self, numbers: range) -> list[Callable[[], None]]:
        client, earlier = self._client, sorted(self._client.versions)
        self._random.shuffle(earlier)
        updates = earlier[: len(numbers) // UPDATED]
        deletions = earlier[len(updates) :][: len(numbers) // DELETED]
        todo: list[Callable[[], None]] = [lambda n=n: client.upload(n, 1) for n in numbers]  # type: ignore[misc]
        todo += [lambda n=n: client.upload(n, client.versions[n] + 1) for n in updates]  # type: ignore[misc]
        todo += [lambda n=n: client.delete(n) for n in deletions]  # type: ignore[misc]
        self._random.shuffle(todo)
        return todo

    @property
    def _weapons(self) -> dict[str, Callable[[], None]]:
        return {
            "worker": lambda: self._service.part("worker").kill(),
            "api": lambda: self._service.part("api").kill(),
            "database": self._kill_database,
            "everything": self._kill_everything,
            **self._faults,
        }

    def _kill_database(self) -> None:
        supervisor = self._service.tree()[0]
        for process in supervisor.children():
            if process.name() == "postgres":
                process.kill()

    def _kill_everything(self) -> None:
        self._service.kill()
        self._service.start()

    def _wait_for_jobs(self) -> None:
        """Until none is open. However slow the machine is: fails only if none is done for a long time."""
        left = self._rows(OPEN_JOBS)
        while left != [(0,)]:
            before = left
            try:
                eventually(lambda: self._rows(OPEN_JOBS) != before, patience_s=PATIENCE_S)  # noqa: B023
            except AssertionError:
                raise RuntimeError(f"Stuck: {self._rows(STUCK_JOBS)}") from None
            left = self._rows(OPEN_JOBS)

    def _rows(self, query: str) -> list[object]:
        try:
            return list(self._service.rows(query))
        except Exception as error:
            return [error]

    def _outcome(self) -> Outcome:
        client = self._client
        lost = doubled = 0
        for number, version in client.versions.items():
            counts = [_count(client.search(sentence), sentence) for sentence in sentences(number, version)]
            lost += min(counts) == 0
            old = [s for v in range(1, version) for s in sentences(number, v)]
            doubled += max(counts) > 1 or any(_count(client.search(s), s) for s in old)
        returned = sum(
            any(_count(client.search(s), s) for s in sentences(number, 1)) for number in client.deleted
        )
        failed = self._rows(FAILED_JOBS)
        if failed:
            raise RuntimeError(f"Jobs failed: {failed}")
        return Outcome(self._rounds, client.acknowledged, lost, doubled, returned, self._problems())

    def _problems(self) -> int:
        """What `fsck` finds."""
        path = f"/fsck/{self._client.ask('POST', '/fsck', 202, body={}).json()['id']}"
        eventually(lambda: self._client.ask("GET", path, 200).json()["finished_at"] is not None)
        check = self._client.ask("GET", path, 200).json()
        if check["report"] is None or check["report"]["unchecked"] or check["report"]["busy"]:
            raise RuntimeError(f"fsck: {check}")
        for finding in check["report"]["findings"]:
            sys.stderr.write(f"{finding}\n")
        return int(check["report"]["problems"])


def _count(passages: list[str], sentence: str) -> int:
    mark = sentence.split("belongs to ")[1][:16]
    return sum(mark in passage for passage in passages)


def _killing(server: Server, chance: random.Random) -> Callable[[], None]:
    def kill() -> None:
        server.kill()
        time.sleep(chance.uniform(0, 1))
        server.start()

    return kill


def _filling(folder: Path, chance: random.Random) -> Callable[[], None]:
    """Leave no room on the folder's file system for a while."""

    def fill() -> None:
        filler = folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(2**16)):
                    pass
            time.sleep(chance.uniform(1, FULL_S))
        finally:
            filler.unlink()

    return fill


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    size = f"size={DISK_MB}m,mode=711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Clock:
    """What the time is for the database, by libfaketime: leases and turns go by its clock.

    Not for the service's own processes: Debian's libfaketime cannot do the sleep of Python 3.11.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        if not FAKE_CLOCK.exists():
            raise RuntimeError(f"{FAKE_CLOCK} is not here: apt-get install faketime.")
        self._file = folder / "clock"
        self._chance = chance
        self._offset = 0
        self._write()
        self._variables = {
            "LD_PRELOAD": str(FAKE_CLOCK),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self) -> None:
        self._offset += self._chance.choice(JUMPS_S)
        self._write()

    def _write(self) -> None:
        self._file.write_text(f"{self._offset:+d}s\n")
        self._file.chmod(0o644)

    @contextmanager
    def database(self) -> Iterator[Server]:
        """A PostgreSQL under this clock."""
        environment = {"PATH": os.defpath, "LC_ALL": "C"} | self._variables
        with (
            mock.patch("rag_service.local.postgres._server_environment", lambda: environment),
            running_postgres() as server,
        ):
            yield server


@dataclass(frozen=True, slots=True)
class Setup:
    """Where vectors and queue are, and what goes wrong beside kills."""

    store: str = "pgvector"
    broker: str | None = None
    disk: bool = False
    clock: bool = False


@contextmanager
def rounds_of(setup: Setup, *, rounds: int, documents: int, seed: int) -> Iterator[Rounds]:
    chance = random.Random(seed)
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        variables = {**SETTINGS, "RAG_SERVER__PORT": str(free_port())}  # the same after every start
        faults: dict[str, Callable[[], None]] = {}
        if setup.store != "pgvector":
            server = stack.enter_context(running(setup.store))
            variables[f"RAG_STORES__{setup.store.upper()}__URL"] = server.url
            faults["store"] = _killing(server, chance)
        if setup.broker is not None:
            broker = stack.enter_context(BROKERS[setup.broker]())
            variables["RAG_BROKER__URL"] = broker.url
            faults["broker"] = _killing(broker, chance)
        if setup.disk:
            stack.enter_context(_small_disk(folder))
            faults["disk"] = _filling(folder, chance)
        if setup.clock:
            clock = Clock(stack.enter_context(short_folder()), chance)
            database = stack.enter_context(clock.database())
            variables["RAG_DATABASE__URL"] = database.url
            faults |= {"clock": clock.jump, "database": _killing(database, chance)}
        service = UpService(folder, **variables)
        stack.callback(service.stop)
        service.start()
        yield Rounds(service, faults, rounds=rounds, documents=documents, seed=seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rounds", type=int)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--store", default="pgvector")
    parser.add_argument("--broker", choices=sorted(BROKERS), help="instead of the queue in the database")
    parser.add_argument("--disk", action="store_true", help="the disk is full now and then (as root)")
    parser.add_argument("--clock", action="store_true", help="the clock jumps")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    wanted = parser.parse_args()
    sys.stderr.write(f"seed {wanted.seed}\n")
    setup = Setup(wanted.store, wanted.broker, wanted.disk, wanted.clock)
    with rounds_of(setup, rounds=wanted.rounds, documents=wanted.documents, seed=wanted.seed) as rounds:
        outcome = rounds.run(store=setup.store)
    sys.stderr.write(f"killed: {', '.join(rounds.victims)}\n")
    sys.stdout.write(f"{outcome}\n")
    return int(not outcome.is_clean)


if __name__ == "__main__":
    sys.exit(main())
