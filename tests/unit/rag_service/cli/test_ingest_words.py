"""What does `rag-service ingest` say of files that fail, and of a connection that breaks off?"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rag_service.cli import app
from rag_service.cli.ingest import Outcome, print_failed, print_same

SUPPORTED = "Supported are .md, .pdf."


def accept_and_close(server: socket.socket) -> None:
    server.accept()[0].close()


def test_a_hint_is_told_once_with_the_files_that_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    refused = [
        Outcome(f"{name}.exe", "failed", f"{name}.exe: files of type .exe cannot be read.", SUPPORTED)
        for name in "abcd"
    ]
    old = Outcome("old.doc", "failed", "old.doc is of the old Office format.", "Save it as .docx.")
    print_failed([*refused, old, Outcome("empty.md", "failed", "empty.md is empty.")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:7]] == [
        "failed", "a.exe", "b.exe", "c.exe", "d.exe", "old.doc", "empty.md",
    ]  # fmt: skip
    assert lines[7:] == [f"a.exe, b.exe and 2 more: {SUPPORTED}", "old.doc: Save it as .docx."]


def test_a_file_whose_bytes_are_there_under_another_name_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_same(
        [
            Outcome("new.md", "ready"),
            Outcome("copy.md", "unchanged", same_as="policy/tariff.md"),
            Outcome("twin.md", "ready", same_as="new.md"),
            Outcome("broken.md", "failed", "broken", same_as="other.md"),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "copy.md: unchanged (same as policy/tariff.md)",
        "twin.md: ready (same as new.md)",
    ]


def test_the_reason_does_not_repeat_a_very_long_name(capsys: pytest.CaptureFixture[str]) -> None:
    name = "员" * 250 + ".exe"
    print_failed([Outcome(name, "failed", f"{name}: files of type .exe cannot be read.", SUPPORTED)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"{name}  员")
    assert lines[1].endswith("员.exe: files of type .exe cannot be read.")
    assert len(lines[1]) < len(name) + 100


def test_a_connection_that_breaks_off_says_that_running_it_again_is_safe(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        hang_up = threading.Thread(target=accept_and_close, args=(server,))
        hang_up.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = CliRunner().invoke(app, ["ingest", str(tmp_path)], env={"RAG_URL": url, "RAG_API_KEY": "k"})
        hang_up.join()
    assert done.exit_code == 1
    assert "broke off" in done.stderr
    assert "Running it again is safe" in done.stderr
