"""`rag-service up`: from an empty folder to a cited answer, again with all data, and away without a trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from up_service import UpService, eventually

LEAVE = "# Leave\n\nParental leave is 16 weeks.\n"
QUESTION = "How many weeks is parental leave?"


def rag_service(service: UpService, *arguments: str) -> str:
    """The command line of a user of this service; returns what it prints."""
    variables = {"RAG_URL": service.url, "RAG_API_KEY": service.admin_key}
    done = subprocess.run(
        [sys.executable, "-m", "rag_service.cli", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_from_an_empty_folder_to_a_cited_answer_and_again_after_a_restart(
    data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "leave.md").write_text(LEAVE, encoding="utf-8")
    service = UpService(data_dir)
    service.start()
    try:
        assert service.admin_key in service.output  # shown on the first start
        rag_service(service, "ingest", str(tmp_path))
        first = rag_service(service, "ask", QUESTION)
        assert "16 weeks.[1]" in first
        assert "leave.md" in first
        service.stop()
        service.start()
        assert service.admin_key not in service.output
        assert rag_service(service, "ask", QUESTION) == first
        assert "unchanged" in rag_service(service, "ingest", str(tmp_path))
    finally:
        service.stop()


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_part_that_is_killed_comes_back(service: UpService, part: str) -> None:
    before = service.part(part)
    before.kill()
    before.wait(60)
    eventually(lambda: service.part(part).pid != before.pid)

    def answers() -> bool:
        done = subprocess.run(
            [sys.executable, "-m", "rag_service.cli", "kb", "list"],
            env=os.environ | {"RAG_URL": service.url, "RAG_API_KEY": service.admin_key},
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    eventually(answers)


def test_the_worker_steps_back_for_the_api(service: UpService) -> None:
    asks, works = service.part("api").nice(), service.part("worker").nice()
    assert works == min(asks + 10, 19)


def test_when_the_supervisor_is_killed_no_process_stays(data_dir: Path) -> None:
    service = UpService(data_dir)
    service.start()
    tree = service.tree()
    try:
        service.kill_supervisor()
        _, alive = psutil.wait_procs(tree, timeout=60)
        assert alive == []
    finally:
        for process in tree:
            if process.is_running():
                process.kill()
