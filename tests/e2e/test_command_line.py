"""Does the command line do its work against the real service?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

ENGLISH = "# Atlas\n\nThe warranty of the Atlas is 36 months.\n"
CHINESE = "# 休假\n\n正式员工每年享有十五天带薪年假。\n"


class Service(Protocol):
    """The fixture `service`: the running service's address and its admin key."""

    url: str
    admin_key: str


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(service: Service) -> Run:
    """Runs `rag-service …` as a user would; `status` is the exit status it must end with."""
    variables = {"RAG_URL": service.url, "RAG_API_KEY": service.admin_key, "PYTHONIOENCODING": "utf-8"}

    def run_(*arguments: str | Path, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "rag_service.cli", *map(str, arguments)],
            env={**os.environ, **variables, **more},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run_


@pytest.fixture
def kb(run: Run) -> str:
    name = f"终端-{uuid.uuid4().hex[:8]}"
    run("kb", "create", name, "--description", "for a test")
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hr").mkdir()
    (tmp_path / "hr" / "休假.md").write_text(CHINESE, encoding="utf-8")
    (tmp_path / "atlas.md").write_text(ENGLISH, encoding="utf-8")
    (tmp_path / ".hidden.md").write_text("secret", encoding="utf-8")
    return tmp_path


def test_a_folder_becomes_cited_answers(run: Run, kb: str, folder: Path) -> None:
    assert run("ingest", folder, "--kb", kb).stdout.strip() == "2 ready"
    listed = run("documents", "list", "--kb", kb).stdout
    assert "hr/休假.md" in listed
    assert "hidden" not in listed
    found = run("search", "warranty of the Atlas", "--kb", kb).stdout
    assert found.startswith("1. atlas.md, ")
    answer = run("ask", "正式员工每年享有多少天带薪年假？", "--kb", kb).stdout
    assert "十五天" in answer
    assert "[1] hr/休假.md, 休假 — “正式员工每年享有十五天带薪年假。”" in answer


def test_the_same_files_again_are_no_work(run: Run, kb: str, folder: Path) -> None:
    run("ingest", folder, "--kb", kb)
    assert run("ingest", folder, "--kb", kb).stdout.strip() == "2 unchanged"


def test_the_same_bytes_under_another_name_say_which_document_they_are(
    run: Run, kb: str, folder: Path
) -> None:
    run("ingest", folder, "--kb", kb)
    copy = folder / "copy.md"
    copy.write_text(ENGLISH, encoding="utf-8")
    said = run("ingest", copy, "--kb", kb).stdout.splitlines()
    assert said == ["copy.md: unchanged (same as atlas.md)", "1 unchanged"]


def test_files_that_fail_are_named_with_the_reason_and_the_others_are_there(
    run: Run, kb: str, folder: Path
) -> None:
    (folder / "tool.exe").write_bytes(b"MZ\x00")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    said = run("ingest", folder, "--kb", kb, status=1).stdout
    assert said.splitlines()[-1] == "2 ready, 2 failed"
    assert {line.split()[0] for line in said.splitlines()[1:3]} == {"tool.exe", "broken.pdf"}
    assert said.count("Supported are") == 1


def test_a_single_refused_file_is_told_too(run: Run, kb: str, tmp_path: Path) -> None:
    tool = tmp_path / "tool.exe"
    tool.write_bytes(b"MZ\x00")
    said = run("ingest", tool, "--kb", kb, status=1).stdout
    assert ".exe" in said
    assert said.splitlines()[-1] == "1 failed"


def test_without_waiting_the_jobs_go_on_alone(run: Run, kb: str, folder: Path) -> None:
    assert run("ingest", folder, "--kb", kb, "--no-wait").stdout.strip() == "2 queued"
    listed = run("jobs", "list", "--kb", kb).stdout.splitlines()[1:]
    assert len(listed) == 2
    job = json.loads(run("jobs", "show", listed[0].split()[0]).stdout)
    assert job["document_name"] in ("atlas.md", "hr/休假.md")


def test_an_answer_as_json_and_with_its_trace(run: Run, kb: str, folder: Path) -> None:
    run("ingest", folder, "--kb", kb)
    answer = json.loads(run("ask", "How long is the warranty?", "--kb", kb, "--json").stdout)
    assert "36 months" in answer["answer"]
    assert "retrieve" in run("ask", "How long is the warranty?", "--kb", kb, "--trace").stderr


def test_documents_and_knowledge_bases_are_shown_and_deleted(run: Run, kb: str, folder: Path) -> None:
    run("ingest", folder, "--kb", kb)
    assert json.loads(run("documents", "show", "atlas.md", "--kb", kb).stdout)["status"] == "ready"
    run("documents", "delete", "atlas.md", "--kb", kb, "--yes")
    assert "atlas.md" in run("documents", "show", "atlas.md", "--kb", kb, status=1).stderr
    assert json.loads(run("kb", "show", kb).stdout)["documents"] == 1
    run("kb", "delete", kb, "--yes")
    assert kb not in run("kb", "list").stdout


def test_a_knowledge_base_that_is_not_there_is_named(run: Run) -> None:
    assert "'nowhere'" in run("ask", "x", "--kb", "nowhere", status=1).stderr


def test_a_key_that_is_not_known_is_told(run: Run) -> None:
    said = run("kb", "list", status=1, RAG_API_KEY="rag_wrong").stderr
    assert "key" in said
    assert "rag_wrong" not in said
