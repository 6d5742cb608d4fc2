"""`rag-service up` with small real children: it starts, watches, restarts and ends them, and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

# The service in small: `migrate` makes the admin key, `api` answers /ready, `worker` waits with a child.
PARTS = """
import http.server, os, pathlib, signal, subprocess, sys, time
name, folder = sys.argv[1], pathlib.Path(os.environ["RAG_DATA_DIR"])
signal.signal(signal.SIGTERM, lambda *_: (open(folder / "ended", "a").write(name + "\\n"), sys.exit(0)))
(folder / f"{name}.pid").write_text(str(os.getpid()))
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/v1/ready" else 404)
        self.end_headers()
if name == "migrate":
    (folder / "admin.key").write_text("secret-key")
elif name == "broken":
    sys.exit("no such luck")
elif name == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif name == "worker":
    subprocess.Popen(["sleep", "600"])
if name == "api":
    http.server.HTTPServer(("127.0.0.1", int(os.environ["RAG_SERVER__PORT"])), Ready).serve_forever()
elif name != "migrate":
    time.sleep(600)
"""

UP = """
import signal, sys
from pathlib import Path
from core.errors import RagError
from core.settings import load_settings
from rag_service.local import supervisor
from rag_service.local.supervisor import Child, run
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup, which ignores it
supervisor.STOP_TIMEOUT_S = float(sys.argv[2])
parts = sys.argv[1]
children = [Child(name, [sys.executable, "-c", parts, name]) for name in sys.argv[3:]]
try:
    run(load_settings(), say=lambda line: print(line, flush=True), migrate=children[0], children=children[1:])
except RagError as error:
    sys.exit(str(error))
"""


class Up:
    """A running supervisor, what it has said so far, and its children by name."""

    def __init__(self, data_dir: Path, parts: tuple[str, ...], **environ: str) -> None:
        self.data_dir = data_dir
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP, PARTS, environ.pop("STOP_S", "20"), *parts],
            env=os.environ | {"RAG_DATA_DIR": str(data_dir), "RAG_SERVER__PORT": "0"} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def wait_for(self, words: str) -> None:
        assert eventually(lambda: words in self.said or self.process.poll() is not None), self.said
        assert words in self.said

    def pid_of(self, part: str) -> int:
        return int((self.data_dir / f"{part}.pid").read_text())

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(60)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextmanager
def up(
    data_dir: Path, database_url: str | None, *parts: str, ready: bool = True, **environ: str
) -> Iterator[Up]:
    if database_url is not None:
        environ["RAG_DATABASE__URL"] = database_url
    running = Up(data_dir, ("migrate", *parts), **environ)
    try:
        if ready:
            running.wait_for("Ctrl-C stops everything.")
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def all_gone(family: list[psutil.Process]) -> bool:
    return not any(is_alive(one) for one in family)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_worker_then_api_and_leaves_no_process(
    data_dir: Path, database_url: str, number: signal.Signals
) -> None:
    with up(data_dir, database_url, "api", "worker") as running:
        assert eventually(lambda: len(running.family()) == 3)  # api, worker and the worker's own child
        family = running.family()
        assert running.end(number) == 0
    assert (data_dir / "ended").read_text().split() == ["worker", "api"]
    assert running.said.endswith("stopped\n")
    assert all_gone(family)


def test_two_stop_signals_in_one_moment_stop_it_as_one_does(data_dir: Path, database_url: str) -> None:
    with up(data_dir, database_url, "api") as running:
        running.process.send_signal(signal.SIGSTOP)  # so that both wait for it
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGTERM)
        assert running.end(signal.SIGCONT) == 0
    assert running.said.endswith("stopped\n")
    assert "Traceback" not in running.said


def test_the_embedded_database_starts_and_stops_with_the_service(data_dir: Path) -> None:
    with up(data_dir, None, "api", "worker") as running:
        family = running.family()
        assert any(one.name() == "postgres" for one in family)
        assert running.end(signal.SIGINT) == 0
    assert all_gone(family)


def test_a_killed_supervisor_takes_everything_with_it_and_the_next_start_works(data_dir: Path) -> None:
    with up(data_dir, None, "api", "worker") as running:
        family = running.family()
        running.end(signal.SIGKILL)
    # The stand-in worker does not look after its own child; the kernel tells direct children only.
    for orphan in family:
        with suppress(psutil.NoSuchProcess):
            if orphan.name() == "sleep":
                orphan.kill()
    with up(data_dir, None, "api", "worker") as again:
        again.end(signal.SIGINT)
    assert eventually(lambda: all_gone(family))


def test_a_child_that_dies_is_started_again_with_its_last_words_shown(
    data_dir: Path, database_url: str
) -> None:
    with up(data_dir, database_url, "api", "worker") as running:
        first = running.pid_of("worker")
        os.kill(first, signal.SIGKILL)
        running.wait_for("worker was ended by SIGKILL; it starts again in 1 s.")
        assert eventually(lambda: running.pid_of("worker") != first)


def test_a_killed_database_is_started_again(data_dir: Path) -> None:
    with up(data_dir, None, "api") as running:
        [server] = [
            one for one in running.family() if one.name() == "postgres" and one.ppid() == running.process.pid
        ]
        server.kill()
        running.wait_for("PostgreSQL ended; starting it again.")
        assert eventually(
            lambda: any(
                one.name() == "postgres" and one.ppid() == running.process.pid and one.pid != server.pid
                for one in running.family()
            )
        )


def test_a_child_that_ignores_the_signal_is_killed_after_the_deadline(
    data_dir: Path, database_url: str
) -> None:
    with up(data_dir, database_url, "api", "stubborn", STOP_S="0.5") as running:
        family = running.family()
        assert running.end(signal.SIGINT) == 0
    assert all_gone(family)


def test_a_second_start_names_the_first(data_dir: Path, database_url: str) -> None:
    with up(data_dir, database_url, "api") as running:
        with up(data_dir, database_url, "api", ready=False) as second:
            assert second.wait() == 1
        assert f"(process {running.process.pid})" in second.said
        assert "already runs at http://127.0.0.1:" in second.said


def test_a_taken_port_is_named_before_anything_starts(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with up(data_dir, None, "api", ready=False, RAG_SERVER__PORT=port) as running:
            assert running.wait() == 1
    assert f"port {port}: another program uses that port. Set another port" in running.said
    assert "RAG_SERVER__PORT" in running.said
    assert not (data_dir / "postgres").exists()


def test_a_service_that_never_gets_ready_is_given_up_with_its_log(data_dir: Path, database_url: str) -> None:
    with up(data_dir, database_url, "broken", ready=False) as running:
        assert running.wait() == 1
    assert "no such luck" in running.said
    assert f"The service does not start; {data_dir}/logs/broken.log says why." in running.said


def test_the_admin_key_is_shown_on_the_first_start_only(data_dir: Path, database_url: str) -> None:
    with up(data_dir, database_url, "api") as first:
        pass
    with up(data_dir, database_url, "api") as second:
        pass
    assert "secret-key" in first.said
    assert "secret-key" not in second.said
    assert f"$(cat {data_dir}/admin.key)" in second.said
