"""Which files does `rag-service ingest` send, under which names, in which requests?"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadRequest
from rag_service.cli.client import LocalFile
from rag_service.cli.ingest import (
    BYTES_PER_REQUEST,
    FILES_PER_REQUEST,
    Outcome,
    batches,
    find_files,
    in_words,
)


def write(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_files_of_a_folder_are_named_by_their_path_inside_it(tmp_path: Path) -> None:
    write(tmp_path / "docs" / "b.md")
    write(tmp_path / "docs" / "制度" / "休假.md")
    assert [file.name for file in find_files([tmp_path / "docs"])] == ["b.md", "制度/休假.md"]


def test_a_file_named_directly_keeps_its_own_name_even_if_hidden(tmp_path: Path) -> None:
    assert [file.name for file in find_files([write(tmp_path / "a" / ".notes.md")])] == [".notes.md"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (".git/config", "a/.DS_Store", "a/.cache/x.md", "a/kept.md"):
        write(tmp_path / name)
    assert [file.name for file in find_files([tmp_path])] == ["a/kept.md"]


def test_a_broken_link_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "kept.md")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    assert [file.name for file in find_files([tmp_path])] == ["kept.md"]


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "kept.md")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [file.name for file in find_files([tmp_path])] == ["kept.md"]


def test_the_same_file_given_twice_is_sent_once(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md")
    assert len(find_files([file, tmp_path])) == 1


def test_two_files_that_would_share_a_name_are_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / "x" / "a.md"), write(tmp_path / "y" / "a.md")]
    with pytest.raises(BadRequest, match=r"'a\.md'"):
        find_files(paths)


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"nowhere does not exist"):
        find_files([tmp_path / "nowhere"])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no files"):
        find_files([tmp_path])


def test_batches_hold_every_file_once_in_order_and_not_too_many(tmp_path: Path) -> None:
    path = write(tmp_path / "a.md")
    files = [LocalFile(path, f"{number}.md") for number in range(2 * FILES_PER_REQUEST + 1)]
    groups = list(batches(files))
    assert [len(group) for group in groups] == [FILES_PER_REQUEST, FILES_PER_REQUEST, 1]
    assert [file for group in groups for file in group] == files


def test_a_file_larger_than_a_request_goes_alone(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small.md"), tmp_path / "large.md"
    with large.open("wb") as sparse:
        sparse.truncate(BYTES_PER_REQUEST + 1)
    groups = batches([LocalFile(path, path.name) for path in (small, large, small)])
    assert [[file.name for file in group] for group in groups] == [["small.md"], ["large.md"], ["small.md"]]


def test_the_closing_line_counts_what_there_is() -> None:
    outcomes = [Outcome("a", "ready"), Outcome("b", "failed", "broken"), Outcome("c", "ready")]
    assert in_words(outcomes) == "2 ready, 1 failed"
