"""How does one command run the whole service on one machine, and leave nothing behind?

`run` starts the embedded PostgreSQL (unless `database.url` names a server), migrates the database, starts the
API and a worker, and watches them: a process that dies is started again. Ctrl-C or SIGTERM ends all in order.
If this process itself is killed, the kernel ends its children (`processes.die_with_parent`).

It stays small, so it imports no part of the service but its settings.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from core.errors import Conflict, SettingsError, Unavailable
from core.settings import Settings, environment
from rag_service.local.logs import keep_bounded, last_lines, open_log
from rag_service.local.postgres import EmbeddedPostgres, make_data_dir
from rag_service.local.processes import die_with_parent
from rag_service.local.welcome import welcome

STOP_TIMEOUT_S = 15.0  # a child that has not ended by then is killed
TICK_S = 0.2  # how often the children are looked at
LOG_CHECK_S = 30.0  # how often the sizes of their logs are
LONGEST_DELAY_S = 30.0  # between two starts of a child that keeps dying
HEALTHY_AFTER_S = 60.0  # a child that lived this long starts afresh at the shortest delay
TRIES_UNTIL_READY = 3  # a child that dies this often before the service was ever ready will not get better
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORKER_NICE = 10  # unless the settings say otherwise: who asks waits, who uploads does not
# On busy cores OpenMP's waiting threads spin, which makes the bundled embedder 20 times slower.
CALM_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


@dataclass(frozen=True, slots=True)
class Child:
    """A process of the service: its name in messages and of its log, and its command."""

    name: str
    argv: Sequence[str]


def service_command(name: str) -> list[str]:
    """The command line of `rag-service NAME` under this Python."""
    return [sys.executable, "-m", "rag_service.cli", name]


MIGRATE = Child("migrate", service_command("migrate"))
CHILDREN = (Child("api", service_command("api")), Child("worker", service_command("worker")))


def run(
    settings: Settings,
    *,
    say: Callable[[str], None],
    migrate: Child = MIGRATE,
    children: Sequence[Child] = CHILDREN,
) -> None:
    """Run the service until a signal asks to stop; `say` gets every line for the terminal.

    `migrate` must end with 0 before `children` start, in their order; they end in reverse. Call it from the
    main thread. Raises `Conflict` if the service already runs with this `data_dir`, `SettingsError` if the
    port is taken, `Unavailable` if a part does not come up.
    """
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    make_data_dir(settings.data_dir)
    with _stop_signals_interrupt(), ExitStack() as stack:
        try:
            _run(settings, say, migrate, children, stack)
        except KeyboardInterrupt:
            say("\nStopping …")
        finally:
            _ignore_stop_signals()  # the stack must close to its end
    say("stopped")


def _run(
    settings: Settings,
    say: Callable[[str], None],
    migrate: Child,
    children: Sequence[Child],
    stack: ExitStack,
) -> None:
    lock = stack.enter_context(_only_one(settings.data_dir))
    # What a killed predecessor left is ending; a clean stop leaves the file empty.
    patience_s = STOP_TIMEOUT_S if _owner(lock) else 0.0
    settings = _with_port(settings, _free_port(settings.server.host, settings.server.port, patience_s))
    server = settings.server
    url = f"http://{_reachable(server.host)}:{server.port}"
    _write_owner(lock, url)

    variables = {"RAG_WORKER__NICE": str(WORKER_NICE)} | environment(settings)
    postgres = None
    if settings.database.url is None:
        say("Starting PostgreSQL …")
        postgres = stack.enter_context(EmbeddedPostgres(settings.data_dir))
        variables["RAG_DATABASE__URL"] = postgres.url
    threads = {"OMP_NUM_THREADS": str(settings.embedder.threads)} | CALM_THREADS
    start = _Starter(settings.data_dir / "logs", threads | dict(os.environ) | variables)

    first_start = not settings.admin_key_file.exists()
    say("Preparing the database …")
    _run_to_end(start, migrate)
    say("Starting the service …")
    keepers = [stack.enter_context(_Keeper(child, start, say)) for child in children]
    watch = _Watch(keepers, postgres, say)
    watch.until(lambda: _is_ready(server.host, server.port), tries=TRIES_UNTIL_READY)
    say(welcome(settings, url, first_start=first_start))
    watch.until(lambda: False)


class _Starter:
    """Starts children with one environment, each with its own log."""

    def __init__(self, logs: Path, variables: dict[str, str]) -> None:
        self._logs = logs
        self._variables = variables

    def log(self, child: Child) -> Path:
        return self._logs / f"{child.name}.log"

    def __call__(self, child: Child) -> subprocess.Popen[bytes]:
        with open_log(self.log(child)) as log:
            return subprocess.Popen(  # noqa: S603
                child.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._variables,
                start_new_session=True,  # Ctrl-C in the terminal is for us, and its group ends as one
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 (we have no threads)
            )


class _Keeper(AbstractContextManager["_Keeper"]):
    """Keeps one child running from entering to leaving."""

    def __init__(self, child: Child, start: _Starter, say: Callable[[str], None]) -> None:
        self.log = start.log(child)
        self.deaths = 0  # since it was last healthy
        self._child = child
        self._start = start
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_at = 0.0

    def __enter__(self) -> _Keeper:
        self.look()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            _end(self._process)

    def look(self) -> None:
        """Start the child if it is time to, and say so if it died."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._start_at:
                self._process, self._started = self._start(self._child), now
            return
        if self._process.poll() is None:
            return
        delay = self._count_death(now)
        self._say(
            f"{self._child.name} {_how_it_ended(self._process.returncode)}; it starts again in {delay:.0f} s. "
            f"The end of {self.log}:\n{last_lines(self.log)}"
        )
        _kill_group(self._process.pid)
        self._process, self._start_at = None, now + delay

    def _count_death(self, now: float) -> float:
        healthy = now - self._started > HEALTHY_AFTER_S
        self.deaths = 1 if healthy else self.deaths + 1
        return min(2.0 ** (self.deaths - 1), LONGEST_DELAY_S)


class _Watch:
    """Looks at all children and the database, again and again."""

    def __init__(
        self, keepers: Sequence[_Keeper], postgres: EmbeddedPostgres | None, say: Callable[[str], None]
    ) -> None:
        self._keepers = keepers
        self._postgres = postgres
        self._say = say
        self._logs_checked = 0.0

    def until(self, done: Callable[[], bool], *, tries: int | None = None) -> None:
        """Return when `done`; raise `Unavailable` if a child died `tries` times before."""
        while not done():
            self._look_at_postgres()
            for keeper in self._keepers:
                keeper.look()
                if tries is not None and keeper.deaths >= tries:
                    raise Unavailable(f"The service does not start; {keeper.log} says why.")
            self._look_at_logs()
            time.sleep(TICK_S)

    def _look_at_postgres(self) -> None:
        if self._postgres is None or self._postgres.alive:
            return
        self._say(
            f"PostgreSQL ended; starting it again. The end of its log:\n{last_lines(self._postgres.log)}"
        )
        self._postgres.stop()
        self._postgres.start()

    def _look_at_logs(self) -> None:
        now = time.monotonic()
        if now - self._logs_checked < LOG_CHECK_S:
            return
        self._logs_checked = now
        for log in (keeper.log for keeper in self._keepers):
            keep_bounded(log)
        if self._postgres is not None:
            keep_bounded(self._postgres.log)


def _run_to_end(start: _Starter, child: Child) -> None:
    process = start(child)
    try:
        status = process.wait()
    finally:
        _end(process)
    if status != 0:
        log = start.log(child)
        raise Unavailable(f"{child.name} {_how_it_ended(status)}. The end of {log}:\n{last_lines(log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child, and whatever is left of its group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    _kill_group(process.pid)
    process.wait()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing is left


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


@contextmanager
def _stop_signals_interrupt() -> Iterator[None]:
    """Within, the first of `STOP_SIGNALS` raises `KeyboardInterrupt`; afterwards all is as before."""

    asked = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:  # one is enough: stopping must not be interrupted half-way
            asked = True
            raise KeyboardInterrupt

    # Under nohup the end of the terminal is not a reason to stop.
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_stop_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _only_one(data_dir: Path) -> Iterator[IO[str]]:
    path = data_dir / "up.lock"
    try:
        lock = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"The data folder {data_dir} cannot be written: {error.strerror}.",
            hint="Set RAG_DATA_DIR to a folder that you may write to.",
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"rag-service already runs {_owner(lock) or f'with the data folder {data_dir}'}.",
                hint="Stop it first, or set another RAG_DATA_DIR and RAG_SERVER__PORT.",
            ) from None
        try:
            yield lock
        finally:
            lock.truncate(0)


def _owner(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip()


def _write_owner(lock: IO[str], url: str) -> None:
    lock.truncate(0)
    lock.write(f"at {url} (process {os.getpid()})")
    lock.flush()


def _with_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"server": settings.server.model_copy(update={"port": port})})


def _free_port(host: str, port: int, patience_s: float) -> int:
    """`port` if nobody listens on it, or a free one for 0. Waits up to `patience_s` for a taken one."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _bind(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise SettingsError(
                    f"The service cannot listen on {host}, port {port}: {_reason(error)}.",
                    hint="Set another port, for example `RAG_SERVER__PORT=8010 rag-service up`.",
                ) from None
        time.sleep(TICK_S)


def _bind(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program uses that port"
    return error.strerror or str(error)


def _reachable(host: str) -> str:
    """The host as this machine's browser reaches it."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 (we compare, we do not bind)
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(_reachable(host).strip("[]"), port, timeout=5)
    try:
        connection.request("GET", "/api/v1/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
