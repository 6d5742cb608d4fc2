"""The embedded PostgreSQL keeps its data through every kind of ending, and says clearly why it will not run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from core.errors import DatabaseUnavailable, SettingsError
from rag_service.local.postgres import EmbeddedPostgres
from rag_service.local.processes import processes_in

OWNER = """
import sys, time
from pathlib import Path
from rag_service.local.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def write(url: str, number: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (n int)")
        connection.execute("INSERT INTO t VALUES (%s)", [number])


def read(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def start_owner(data_dir: Path) -> subprocess.Popen[str]:
    """Another process that runs the server of `data_dir`; returns when it is up."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert owner.stdout is not None
    assert owner.stdout.readline().strip().isdigit()
    owner.stdout.close()
    return owner


def test_a_restart_keeps_data_and_a_stop_leaves_no_process(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    with server:
        write(server.url, 1)
    assert not server.alive
    assert processes_in(data_dir / "postgres") == set()
    with server:
        assert read(server.url) == [1]


def test_vectors_and_chinese_text_work_in_the_embedded_database(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE EXTENSION vector")
        row = connection.execute("SELECT '[1,0]'::vector <=> '[0,1]'::vector, length('知识库'), upper('é')")
        assert row.fetchone() == (1.0, 3, "É")


def test_starting_twice_is_fine_and_so_is_stopping_twice(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert server.pid is None


def test_the_server_ends_with_a_killed_owner_and_the_next_one_finds_the_data(data_dir: Path) -> None:
    owner = start_owner(data_dir)
    server = EmbeddedPostgres(data_dir)
    write(server.url, 1)
    owner.kill()
    owner.wait()
    with server:  # at once: the old server may still be writing its checkpoint
        assert read(server.url) == [1]
    assert eventually(lambda: processes_in(data_dir / "postgres") == set())


def test_a_killed_server_recovers_what_was_committed(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    write(server.url, 1)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: not server.alive)
    server.stop()
    with server:
        assert read(server.url) == [1]


def test_a_first_start_that_was_cut_short_is_begun_again(data_dir: Path) -> None:
    half = data_dir / "postgres.new" / "base"
    half.mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir) as server:
        write(server.url, 1)
    assert not (data_dir / "postgres.new").exists()


def test_a_stale_pid_file_that_names_a_living_stranger_does_no_harm(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    with server:
        write(server.url, 1)
    (data_dir / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}/postgres\n1\n5432\n")
    with server:
        assert read(server.url) == [1]


def test_a_second_owner_is_refused_by_the_process_id_of_the_first(data_dir: Path) -> None:
    owner = start_owner(data_dir)
    try:
        with pytest.raises(DatabaseUnavailable, match=f"Process {owner.pid} already runs"):
            EmbeddedPostgres(data_dir).start()
    finally:
        owner.kill()
        owner.wait()
    assert eventually(lambda: processes_in(data_dir / "postgres") == set())


def test_data_of_another_major_version_are_refused_untouched(data_dir: Path) -> None:
    pgdata = data_dir / "postgres"
    with EmbeddedPostgres(data_dir):
        pass
    (pgdata / "PG_VERSION").write_text("17\n")
    with pytest.raises(SettingsError, match="written by PostgreSQL 17"):
        EmbeddedPostgres(data_dir).start()


def test_a_long_path_gets_a_short_private_socket_folder(data_dir: Path) -> None:
    long = data_dir / ("x" * 100)
    with EmbeddedPostgres(long) as server:
        write(server.url, 1)
        with psycopg.connect(server.url) as connection:
            folder = Path(connection.info.host)
        assert not folder.is_relative_to(long)
        assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()


def test_a_socket_folder_that_others_can_enter_is_refused(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    (data_dir / "run").chmod(0o755)
    with pytest.raises(SettingsError, match="mode 0700"):
        EmbeddedPostgres(data_dir).start()


def test_a_file_in_the_place_of_the_data_folder_is_refused_in_words(data_dir: Path) -> None:
    (data_dir / "file").touch()
    with pytest.raises(SettingsError, match="RAG_DATA_DIR"):
        EmbeddedPostgres(data_dir / "file").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to switch users")
def test_root_runs_the_server_as_another_user(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to switch users")
def test_a_folder_that_the_servers_user_cannot_enter_is_refused_in_words(data_dir: Path) -> None:
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(SettingsError, match="RAG_DATA_DIR"):
        EmbeddedPostgres(closed / "data").start()
