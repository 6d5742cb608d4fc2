"""Can a stranger's file harm the worker? Each is read, or refused with a reason, in bounded memory and time.

Through the real child process, with the worker's own limits on memory. What is read is also chunked, as the worker does
outside the child.
"""

from __future__ import annotations

import io
import resource
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))
from hostile import NAMES, Hostile, hostile_files, large_pdf

from core.errors import InvalidValue, UnreadableDocument
from core.settings import IngestSettings
from core.text import terms
from ingest.archive import Archive, ArchiveLimits
from ingest.intake import clean_name
from ingest.parsers import Limits, sniff
from ingest.sandbox import parse_in_child

ROOT = Path(__file__).parents[3]
MEMORY_MB = IngestSettings().parse_memory_mb
MOST_RESIDENT_MB = (
    MEMORY_MB + 150
)  # with the code of libraries; a worker has 300 itself: together below 1.5 GiB
TIMEOUT_S = 30.0
MOST_CHUNKED = 300_000  # characters: enough for a regular expression to explode


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """A child's peak begins with that of the process that started it, here this one, until it runs its own program."""
    yield
    most, ours = (
        resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
    )
    assert most <= max(MOST_RESIDENT_MB, ours), f"a child took {most} MiB"


@pytest.mark.parametrize("hostile", hostile_files(), ids=str)
async def test_a_hostile_file_is_read_or_refused_with_a_reason(hostile: Hostile, tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(hostile.make())
    try:
        document = await parse_in_child(
            path, hostile.name, Limits(), timeout_s=TIMEOUT_S, memory_mb=MEMORY_MB, ocr_timeout_s=TIMEOUT_S
        )
    except UnreadableDocument as refusal:
        assert hostile.reads is None, refusal
        assert (hostile.refusal or "") in str(refusal)
        assert hostile.name in str(refusal)
        return
    assert hostile.refusal is None, document.text[:100]
    assert document.text.startswith(hostile.reads or "")
    terms(document.text[:MOST_CHUNKED])


async def test_a_pdf_of_50_mb_and_1000_pages_is_read_under_1_gib(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(large_pdf())
    assert path.stat().st_size > 50_000_000
    document = await parse_in_child(path, "plant.pdf", Limits(), timeout_s=120, memory_mb=900)
    assert len(document.pages) == 1000
    assert document.page_at(document.text.index("every 1042 hours")) == 943


WORKER = """
import asyncio, sys, threading, time
from pathlib import Path

import psutil

from core.errors import UnreadableDocument
from core.settings import load_settings
from rag_service import worker, wiring

settings = load_settings({"RAG_DATABASE__URL": "postgresql://nowhere/db", "RAG_DATA_DIR": sys.argv[1]})
embedder = wiring.EMBEDDERS["bundled"](settings.embedder)
asyncio.run(embedder.embed_passages(["All the words that a window holds. " * 300]))
parse = wiring.make_parse(settings)
me, peak, over = psutil.Process(), 0, threading.Event()

def watch():
    global peak
    while not over.is_set():
        resident = 0
        for process in (me, *me.children(recursive=True)):
            try:
                resident += process.memory_info().rss
            except psutil.Error:
                pass  # it is gone
        peak = max(peak, resident)
        time.sleep(0.01)

watcher = threading.Thread(target=watch)
watcher.start()
for path in map(Path, sys.argv[2:]):
    try:
        asyncio.run(parse(path, path.name))
    except UnreadableDocument as refusal:
        print(refusal, file=sys.stderr)
over.set()
watcher.join()
print(peak // 2**20)
"""


def test_a_worker_and_its_child_stay_below_1_5_gib(tmp_path: Path) -> None:
    worst = [hostile for hostile in hostile_files() if hostile.name in ("form-loop.pdf", "content-bomb.pdf")]
    for hostile in worst:
        (tmp_path / hostile.name).write_bytes(hostile.make())
    large = tmp_path / "large.txt"
    large.write_text("员工手册。" * 3_900_000, encoding="utf-8")
    files = [*(tmp_path / hostile.name for hostile in worst), large]
    done = subprocess.run(
        [sys.executable, "-c", WORKER, tmp_path, *files], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("needs more than 1024 MiB") == len(worst) == 2
    assert 1024 < int(done.stdout) < 1536


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    names = [hostile.name for hostile in hostile_files()]
    assert len(set(names)) == len(names) >= 100


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_cleaned_or_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"text")
    try:
        cleaned = clean_name(name)
    except InvalidValue as refusal:
        assert "longer than" in refusal.message
        return
    assert not cleaned.startswith("/")
    assert not {"..", "."} & set(cleaned.split("/"))
    assert cleaned.isprintable()
    assert sniff(path, cleaned).name == "TXT"


# --- archives -----------------------------------------------------------------------------------------------------


def _archive(*members: tuple[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(info, content)
    return buffer.getvalue()


def _overlapping() -> bytes:
    """Every entry of the list points at the same packed bytes. https://www.bamsoftware.com/hacks/zipbomb/"""
    content = b"0" * 10_000_000
    data = bytearray(_archive(*((f"{number:03}.txt", content) for number in range(120))))
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 42 : at + 46] = bytes(4)  # the offset of the entry
        at += 46
    return bytes(data)


ARCHIVES = {
    "one-large": (_archive(("a.txt", bytes(100 * 2**20))), "expands from"),
    "overlapping": (_overlapping(), "more than"),
    "link": (_archive(("a.txt", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), "is a link"),
    "folder-link": (_archive(("a", b"/etc"), ("a/passwd.txt", b"x"), mode=stat.S_IFLNK | 0o777), "is a link"),
    "nothing": (_archive(), "no files"),
    "only-hidden": (_archive((".bashrc", b"x"), ("__MACOSX/a", b"x")), "no files"),
    "cut": (_archive(("a.txt", b"text" * 999))[:-30], "damaged"),
    "cut-in-the-middle": (b"PK\x03\x04" + bytes(1000), "damaged"),
}


async def _unpack(path: Path) -> dict[str, bytes]:
    with Archive(path, ArchiveLimits()) as archive:
        return {
            clean_name(entry.name): b"".join([block async for block in archive.blocks(entry)])
            for entry in archive.entries
        }


@pytest.mark.parametrize(("data", "words"), ARCHIVES.values(), ids=list(ARCHIVES))
async def test_a_hostile_archive_is_refused_with_a_reason(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(UnreadableDocument, match=words):
        await _unpack(path)


async def test_hostile_names_in_an_archive_stay_inside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(
        _archive(*((name, b"x") for name in ("../../up.txt", "/etc/passwd", "C:\\a\\b.txt", "😀/a\x1b.txt")))
    )
    assert list(await _unpack(path)) == ["up.txt", "etc/passwd", "C:/a/b.txt", "😀/a.txt"]


@pytest.mark.parametrize("name", ["inner.zip", "inner.gz", "inner.7z", "inner.tar"])
def test_what_is_packed_inside_an_archive_is_not_opened(name: str, tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(_archive(("a.txt", b"x")))
    with pytest.raises(UnreadableDocument, match=r"archive inside an archive|cannot be read"):
        sniff(path, name)
