"""Is a ZIP unpacked only as far as its limits go, and are its files named as their owner named them?"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import UnreadableDocument
from ingest.archive import Archive, ArchiveLimits, is_archive

Write = Callable[[zipfile.ZipFile], None]


def archive(path: Path, write: Write) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        write(target)
    return path


def files(**members: str) -> Write:
    def write(target: zipfile.ZipFile) -> None:
        for name, text in members.items():
            target.writestr(name, text)

    return write


def names(path: Path, **limits: int) -> list[str]:
    with Archive(path, ArchiveLimits(**limits)) as opened:
        return [entry.name for entry in opened.entries]


async def contents(path: Path) -> dict[str, bytes]:
    with Archive(path, ArchiveLimits()) as opened:
        return {
            entry.name: b"".join([block async for block in opened.blocks(entry)]) for entry in opened.entries
        }


async def test_files_come_out_as_they_went_in_and_nothing_else_does(tmp_path: Path) -> None:
    def write(target: zipfile.ZipFile) -> None:
        target.mkdir("policies")
        for name in ("policies/休假.md", "__MACOSX/._a.md", ".git/config", "a.txt", "folder/.DS_Store"):
            target.writestr(name, f"content of {name}")

    path = archive(tmp_path / "a.zip", write)
    assert await contents(path) == {
        "policies/休假.md": "content of policies/休假.md".encode(),
        "a.txt": b"content of a.txt",
    }


@pytest.mark.parametrize(
    ("encoding", "wanted"),
    [
        ("gb18030", ["员工手册/休假制度.txt", "plain.txt", "员工手册/加班的规定.txt"]),
        ("utf-8", ["员工手册/休假制度.txt", "plain.txt", "员工手册/加班的规定.txt"]),
        ("gb18030", ["翡翠.txt"]),
        ("cp437", ["Café/Müller.txt"]),
    ],
)
def test_names_that_do_not_say_their_encoding_are_told_by_their_letters(
    encoding: str, wanted: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    info = [zipfile.ZipInfo(f"{number}" * len(name.encode(encoding))) for number, name in enumerate(wanted)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for each in info:
            target.writestr(each, b"text")
    data = buffer.getvalue()
    for each, name in zip(info, wanted, strict=True):
        data = data.replace(each.filename.encode(), name.encode(encoding))
    path.write_bytes(data)
    assert names(path) == wanted


def test_too_many_files_are_refused_before_their_list_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", files(**{f"{number}.txt": "" for number in range(50)}))
    assert len(names(path, max_files=50)) == 50
    with pytest.raises(UnreadableDocument, match="50 files in the archive, more than 49"):
        names(path, max_files=49)
    with pytest.raises(UnreadableDocument, match="list of files has"):
        names(path, max_files=2)


def test_a_list_hidden_in_the_zip64_record_is_measured_too(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", files(**{f"{number}.txt": "" for number in range(70_000)}))
    assert b"PK\x06\x06" in path.read_bytes()
    with pytest.raises(UnreadableDocument, match="list of files has"):
        names(path, max_files=1000)


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", files(a="x" * 600, b="x" * 600))
    with pytest.raises(UnreadableDocument, match="1200 bytes, more than 1199"):
        names(path, max_bytes=1199)


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", files(a="0" * (40 * 2**20)))
    with pytest.raises(UnreadableDocument, match="expands from"):
        names(path)


async def test_no_more_than_the_declared_size_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", files(a="0" * 2**20))
    data = path.read_bytes()
    path.write_bytes(data.replace((2**20).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(UnreadableDocument, match="damaged: Bad CRC"):
        await contents(path)


def link(target: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("passwords.txt")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    target.writestr(info, "/etc/passwd")


def by_lzma(target: zipfile.ZipFile) -> None:
    target.writestr("a.txt", "text", compress_type=zipfile.ZIP_LZMA)


@pytest.mark.parametrize(
    ("write", "words"), [(link, "is a link, not a file"), (by_lzma, "method that is not unpacked here")]
)
async def test_what_is_no_ordinary_file_is_refused(write: Write, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match=words):
        await contents(archive(tmp_path / "a.zip", write))


async def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", files(a="text"))
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flags of the file's own header, and those in the list
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnreadableDocument, match="a is encrypted"):
        await contents(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04 and then nothing", "damaged: it has no list of files"),
        (b"PK\x05\x06" + bytes(18), "no files in the archive"),
        (b"just words", "damaged"),
    ],
)
def test_what_is_no_archive_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(UnreadableDocument, match=words):
        names(path)


def test_archives_are_known_by_their_extension() -> None:
    assert [is_archive(name) for name in ("a.zip", "b/A.ZIP", "zip", "a.zip.md", "a.docx")] == [
        True,
        True,
        False,
        False,
        False,
    ]
