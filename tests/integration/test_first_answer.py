"""Do the lines that `rag-service up` prints lead to a cited answer, in a terminal that knows nothing of it?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


@pytest.fixture
def said(data_dir: Path) -> Iterator[list[str]]:
    """What the service said until it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rag_service.cli", "up"],
        env=os.environ | {"RAG_DATA_DIR": str(data_dir), "RAG_SERVER__PORT": "0", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        yield lines
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_the_printed_lines_run_anywhere_and_end_in_a_cited_answer(said: list[str], tmp_path: Path) -> None:
    commands = [line for line in said if line.startswith("  ")]
    ingest, ask, curl = commands
    outputs = [
        subprocess.run(
            ["sh", "-c", command],
            env=BARE,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for command in (ingest, ask)
    ]
    assert [output.returncode for output in outputs] == [0, 0], outputs
    assert "3 ready" in outputs[0].stdout
    assert "36 months" in outputs[1].stdout
    assert "[1] atlas-9-manual.md" in outputs[1].stdout
    assert curl.startswith("  curl ")
