"""Logs of local processes keep their last run and do not grow without bound."""

from __future__ import annotations

from pathlib import Path

from rag_service.local.logs import keep_bounded, last_lines, open_log


def test_a_new_run_begins_a_new_file_and_keeps_the_last_one(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "api.log"
    for run in (b"first\n", b"second\n"):
        with open_log(file) as log:
            log.write(run)
    assert file.read_text() == "second\n"
    assert file.with_name("api.log.1").read_text() == "first\n"


def test_a_long_log_is_emptied_while_its_writer_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "api.log"
    with open_log(file) as log:
        log.write(b"old\n" * 100)
        log.flush()
        keep_bounded(file, limit=10)
        log.write(b"new\n")
    assert file.read_text() == "new\n"
    assert file.with_name("api.log.1").read_text() == "old\n" * 100


def test_a_short_log_stays(tmp_path: Path) -> None:
    file = tmp_path / "api.log"
    file.write_text("line\n")
    keep_bounded(file, limit=10)
    assert file.read_text() == "line\n"


def test_the_last_lines_survive_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "api.log"
    file.write_bytes(b"a\n" * 50_000 + b"\xff\nlast\n")
    assert last_lines(file, 2) == "�\nlast"


def test_a_missing_log_is_said_to_be_empty(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none.log") == "(nothing was written)"
