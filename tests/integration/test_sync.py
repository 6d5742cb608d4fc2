"""Does a knowledge base follow its folder: no more, no less, and nobody else's documents?"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from running_service import Running


@pytest.fixture
def kb(service: Running, request: pytest.FixtureRequest) -> str:
    return service.new_kb(request.node.name.removeprefix("test_")[:60])


def write(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        path = folder / (name.replace("__", "/") + ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n\n{text}\n", encoding="utf-8")


def names(service: Running, kb: str) -> list[str]:
    return [item["name"] for item in service.client.get(f"/kbs/{kb}/documents").json()["items"]]


def jobs(service: Running, kb: str) -> int:
    return len(service.client.get(f"/kbs/{kb}/jobs", params={"limit": 200}).json()["items"])


def sync(service: Running, kb: str, folder: Path, *options: str) -> str:
    done = service.command("sync", kb, str(folder), *options)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()[-1]


def test_only_what_changed_is_read_again(service: Running, kb: str, tmp_path: Path) -> None:
    write(tmp_path, a="Apples are red.", b="Pears are green.", sub__c="员工年假十五天。")
    assert sync(service, kb, tmp_path) == "3 ready"
    before = jobs(service, kb)
    assert sync(service, kb, tmp_path) == "3 unchanged"
    assert jobs(service, kb) == before
    write(tmp_path, b="Pears are yellow.", d="Plums are blue.")
    assert sync(service, kb, tmp_path) == "2 ready, 2 unchanged"
    assert jobs(service, kb) == before + 2
    assert "yellow" in service.search(kb, "pears")[0]["text"]


def test_what_is_gone_is_removed_and_nobody_elses_documents(
    service: Running, kb: str, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, a="Apples are red.", b="Pears are green.")
    write(two, c="Plums are blue.")
    service.upload(kb, {"by-hand.md": "# By hand\n\nNobody's folder has this.\n"})
    sync(service, kb, one)
    sync(service, kb, two)
    (one / "a.md").unlink()
    assert sync(service, kb, one) == "1 unchanged, 1 removed"
    service.work()
    assert names(service, kb) == ["b.md", "by-hand.md", "c.md"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    service: Running, kb: str, tmp_path: Path
) -> None:
    write(tmp_path, a="Apples are red.", b="Pears are green.")
    sync(service, kb, tmp_path)
    (tmp_path / "a.md").unlink()
    write(tmp_path, b="Pears are yellow.", c="Plums are blue.")
    before = jobs(service, kb)
    done = service.command("sync", kb, str(tmp_path), "--dry-run")
    assert [line.split() for line in done.output.splitlines()[1:4]] == [
        ["add", "c.md"],
        ["change", "b.md"],
        ["remove", "a.md"],
    ]
    assert done.output.splitlines()[-1] == "1 to add, 1 to change, 1 to remove, 0 unchanged"
    assert jobs(service, kb) == before
    assert names(service, kb) == ["a.md", "b.md"]


def test_an_empty_or_missing_folder_removes_nothing_unless_told_to(
    service: Running, kb: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mount"
    write(folder, a="Apples are red.")
    sync(service, kb, folder)
    (folder / "a.md").unlink()
    refused = service.command("sync", kb, str(folder))
    assert refused.exit_code == 1
    assert "Is it mounted?" in refused.output
    folder.rmdir()
    assert service.command("sync", kb, str(folder)).exit_code == 1
    assert names(service, kb) == ["a.md"]
    folder.mkdir()
    assert sync(service, kb, folder, "--allow-empty") == "1 removed"
    assert names(service, kb) == []
    assert sync(service, kb, folder) == "nothing to do"


def test_a_renamed_file_is_not_lost(service: Running, kb: str, tmp_path: Path) -> None:
    """Equal bytes are kept once, under the first name: that is the one which goes."""
    write(tmp_path, old="Apples are red.")
    sync(service, kb, tmp_path)
    (tmp_path / "old.md").rename(tmp_path / "new.md")
    assert sync(service, kb, tmp_path) == "1 ready, 1 removed"
    service.work()
    assert names(service, kb) == ["new.md"]
    assert "red" in service.search(kb, "apples")[0]["text"]


def test_of_two_equal_files_the_other_takes_over(service: Running, kb: str, tmp_path: Path) -> None:
    write(tmp_path, a="Apples are red.")
    (tmp_path / "b.md").write_bytes((tmp_path / "a.md").read_bytes())
    sync(service, kb, tmp_path)
    assert names(service, kb) == ["a.md"]
    assert sync(service, kb, tmp_path) == "2 unchanged"
    (tmp_path / "a.md").unlink()
    assert sync(service, kb, tmp_path) == "1 ready, 1 removed"
    assert names(service, kb) == ["b.md"]


def test_a_document_of_another_source_is_not_taken_over(service: Running, kb: str, tmp_path: Path) -> None:
    write(tmp_path / "one", a="Apples are red.")
    write(tmp_path / "two", a="Apples are green.")
    sync(service, kb, tmp_path / "one")
    refused = service.command("sync", kb, str(tmp_path / "two"))
    assert refused.exit_code == 1
    assert "which comes from folder:" in refused.output
    assert "red" in service.search(kb, "apples")[0]["text"]


def test_what_was_uploaded_by_hand_under_the_same_name_is_adopted(
    service: Running, kb: str, tmp_path: Path
) -> None:
    write(tmp_path, a="Apples are red.")
    service.upload(kb, {"a.md": (tmp_path / "a.md").read_bytes()})
    service.work()
    assert sync(service, kb, tmp_path, "--source", "fruit") == "1 unchanged"
    (document,) = service.client.get(f"/kbs/{kb}/documents").json()["items"]
    assert document["source"] == "folder:fruit"


def test_files_inside_archives_come_and_go(service: Running, kb: str, tmp_path: Path) -> None:
    def pack(*names: str) -> None:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for name in names:
                archive.writestr(f"{name}.md", f"# {name}\n\nAll about {name}.\n")

    pack("apples", "pears")
    assert sync(service, kb, tmp_path) == "2 ready"
    pack("apples", "plums")
    assert sync(service, kb, tmp_path) == "1 ready, 1 unchanged, 1 removed"
    assert names(service, kb) == ["all.zip/apples.md", "all.zip/plums.md"]
    (tmp_path / "all.zip").write_bytes(b"PK\x03\x04 broken")
    assert service.command("sync", kb, str(tmp_path)).exit_code == 1
    assert names(service, kb) == ["all.zip/apples.md", "all.zip/plums.md"]
    (tmp_path / "all.zip").unlink()
    assert sync(service, kb, tmp_path, "--allow-empty") == "2 removed"


@pytest.mark.skipif(os.geteuid() == 0, reason="only root can read everything")
def test_a_folder_that_cannot_be_read_removes_nothing(service: Running, kb: str, tmp_path: Path) -> None:
    write(tmp_path, a="Apples are red.", sub__b="Pears are green.")
    sync(service, kb, tmp_path)
    (tmp_path / "sub").chmod(0)
    assert service.command("sync", kb, str(tmp_path)).exit_code == 1
    assert names(service, kb) == ["a.md", "sub/b.md"]


def test_a_source_of_a_client_is_a_folder_with_a_name(service: Running, kb: str) -> None:
    for source in ("", "folder:", "url:x", "folder:" + "x" * 200):
        files = {"file": ("a.md", b"# A\n\nText.\n")}
        response = service.client.post(f"/kbs/{kb}/documents", files=files, data={"source": source})
        assert response.status_code == 422, source
