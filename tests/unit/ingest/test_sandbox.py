"""Can a document harm the worker? It is read in a child that is limited, replaced and never left behind."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from core.errors import UnreadableDocument
from core.types import ParsedDocument
from ingest.parsers import Limits, parse
from ingest.sandbox import parse_in_child

ROOT = Path(__file__).parents[3]


async def read(path: Path, *, timeout_s: float = 60.0, memory_mb: int = 500) -> ParsedDocument:
    return await parse_in_child(path, path.name, Limits(), timeout_s=timeout_s, memory_mb=memory_mb)


def children() -> list[psutil.Process]:
    """The children that read; the database of other tests may run beside them."""
    return [each for each in psutil.Process().children(recursive=True) if each.name() != "postgres"]


def is_limited(process: psutil.Process) -> bool:
    """Whether the child has limited itself, the last that it does before it begins to read."""
    return process.rlimit(psutil.RLIMIT_CPU)[0] != resource.RLIM_INFINITY


async def started_child() -> psutil.Process:
    """The child, once it has limited itself and has had time to begin reading."""
    while not (found := children()) or not is_limited(found[0]):  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # a process sets no event
    await asyncio.sleep(0.5)
    return found[0]


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A page that takes the HTML parser many seconds."""
    path = tmp_path / "slow.html"
    path.write_text("<html><body>" + "<p><b>word</b> and <i>more</i></p>" * 400_000)
    return path


async def test_a_child_reads_the_same_as_the_parent(tmp_path: Path) -> None:
    path = tmp_path / "手册.md"
    path.write_text("# 休假 😀\n\n年假十天。\n\n## 病假\n\n附证明。", encoding="utf-8")
    assert await read(path) == parse(path, path.name, Limits())
    assert children() == []


async def test_a_refusal_keeps_its_words_and_its_hint(tmp_path: Path) -> None:
    path = tmp_path / "old.doc"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(UnreadableDocument) as refusal:
        await read(path)
    assert refusal.value.hint is not None
    assert "save as .docx" in refusal.value.hint


async def test_a_child_that_takes_too_long_is_killed(slow: Path) -> None:
    with pytest.raises(UnreadableDocument, match=r"took longer than 0\.5 s"):
        await read(slow, timeout_s=0.5)
    assert children() == []


async def test_a_child_that_needs_too_much_memory_is_stopped(slow: Path) -> None:
    with pytest.raises(UnreadableDocument, match="needs more than 40 MiB"):
        await read(slow, memory_mb=40)
    assert children() == []


async def test_a_cancelled_task_takes_its_child_along(slow: Path) -> None:
    task = asyncio.create_task(read(slow))
    await started_child()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


async def test_a_crash_is_the_documents_fault_and_harms_nobody_else(tmp_path: Path, slow: Path) -> None:
    task = asyncio.create_task(read(slow))
    os.kill((await started_child()).pid, signal.SIGSEGV)
    with pytest.raises(UnreadableDocument, match="the parser crashed on it"):
        await task
    fine = tmp_path / "fine.txt"
    fine.write_text("fine")
    assert (await read(fine)).text == "fine"


async def test_many_are_read_at_the_same_time(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(4)]
    for path in paths:
        path.write_text(path.name)
    documents = await asyncio.gather(*map(read, paths))
    assert [document.text for document in documents] == [path.name for path in paths]


def test_it_works_from_a_thread_with_its_own_loop(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("from a thread")
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(asyncio.run(read(path)).text))
    thread.start()
    thread.join()
    assert texts == ["from a thread"]


async def test_the_child_sees_no_secrets(monkeypatch: pytest.MonkeyPatch, slow: Path) -> None:
    monkeypatch.setenv("RAG_DATABASE__URL", "postgresql://user:secret@host/db")
    task = asyncio.create_task(read(slow))
    environment = (await started_child()).environ()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "PATH" in environment
    assert not [name for name in environment if name.startswith("RAG_")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
def test_a_child_dies_with_its_parent(slow: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from ingest.parsers import Limits;"
        "from ingest.sandbox import parse_in_child;"
        "asyncio.run(parse_in_child(Path(sys.argv[1]), 'slow.html', Limits(), timeout_s=60, memory_mb=2000))"
    )
    parent = psutil.Popen([sys.executable, "-c", program, str(slow)], cwd=ROOT)
    while not (found := parent.children()) or not is_limited(
        found[0]
    ):  # it asks to die with its parent before
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(found, timeout=10)
    assert alive == []
    assert len(gone) == 1


def test_reading_plain_text_loads_no_library_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("plain")
    program = (
        "import sys; from pathlib import Path; from ingest.parsers import Limits, parse;"
        "parse(Path(sys.argv[1]), 'a.txt', Limits());"
        "print(sorted({'pypdfium2', 'docx', 'pptx', 'openpyxl', 'lxml', 'markdown_it'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


async def test_a_sheet_with_one_cell_in_its_last_corner_is_read(tmp_path: Path) -> None:
    """A sheet of a few hundred bytes may claim a cell in the last row and column of the largest sheet."""
    from openpyxl import Workbook

    plain = tmp_path / "plain.xlsx"
    workbook = Workbook()
    workbook.active["A1"] = "start"
    workbook.active["XFD1048576"] = "end"
    workbook.save(plain)
    document = await read(plain)
    assert document.text.startswith("Sheet\n\n| start |")
