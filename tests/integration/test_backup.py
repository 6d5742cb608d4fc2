"""Does a knowledge base survive as a file? Backed up, damaged, restored beside itself and elsewhere, exported."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from running_service import Running

from ingest.backup_file import BackupFile, BackupWriter, SavedKb
from ingest.files import FileStore

LEAVE = (
    "# Leave\n\nEmployees have 15 days of annual leave. "
    + "It has to be agreed upon with the head of the department. " * 4
    + "\n\n# Parental leave\n\nIt lasts 158 days. "
    + "The certificate goes to the office of human resources. " * 4
)
TRAVEL = "# 差旅\n\n经济舱机票可以报销。出差补贴每天 120 元。\n"


def in_kb(service: Running, name: str) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get(f"/kbs/{name}").json()
    return found


@pytest.fixture(scope="module")
def backup(service: Running) -> bytes:
    """The backup of `original`, which has two documents."""
    service.client.post(
        "/kbs", json={"name": "original", "description": "所有规定", "chunking": {"characters": 100}}
    )
    service.upload("original", {"policies/leave.md": LEAVE}, attributes='{"department": "hr"}')
    service.upload("original", {"差旅.md": TRAVEL})
    service.work()
    response = service.client.get("/kbs/original/backup")
    assert response.status_code == 200
    return response.content


def restore(service: Running, content: bytes, **query: str) -> httpx.Response:
    return service.client.post("/kbs/restore", content=content, params=query)


def documents(service: Running, kb: str) -> dict[str, dict[str, Any]]:
    items = service.client.get(f"/kbs/{kb}/documents").json()["items"]
    return {item["name"]: item for item in items}


def stored(service: Running) -> set[str]:
    return {path.name for path in service.settings.files_dir.rglob("*") if path.is_file()}


def leftovers(service: Running) -> tuple[Any, ...]:
    """Everything that a refused or failed restoration could leave behind."""
    hidden = (
        "SELECT count(*) FROM documents JOIN knowledge_bases k ON k.id = kb_id WHERE k.deleted_at IS NOT NULL"
    )
    tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'kb\\_%%'"
    return service.rows(hidden), service.rows(tables), stored(service)


def test_a_restored_knowledge_base_answers_as_the_original_does(service: Running, backup: bytes) -> None:
    response = restore(service, backup, name="copy")
    assert response.status_code == 202, response.text
    assert response.json()["documents"] == 2
    assert service.client.get("/kbs/copy").status_code == 404  # not before all of it is there
    service.work()
    original, copy = in_kb(service, "original"), in_kb(service, "copy")
    own = ("id", "name", "created_at")
    assert {k: v for k, v in copy.items() if k not in own} == {
        k: v for k, v in original.items() if k not in own
    }
    for query in ("annual leave", "差旅补贴多少钱", "parental"):
        found, again = (
            [
                (p["document_name"], p["text"], p["section"], round(p["score"], 4))
                for p in service.search(kb, query)
            ]
            for kb in ("original", "copy")
        )
        assert found == again
        assert found
    for name, before in documents(service, "original").items():
        after = documents(service, "copy")[name]
        assert {**after, "id": 0} == {**before, "id": 0}
        for part in ("text", "original"):
            pair = [
                service.client.get(f"/kbs/{kb}/documents/{each['id']}/{part}")
                for kb, each in (("original", before), ("copy", after))
            ]
            assert [response.status_code for response in pair] == [200, 200]
            same = [r.json()["text"] if part == "text" else r.content for r in pair]
            assert same[0] == same[1]


def test_a_restored_document_is_read_again_and_deleted_like_any_other(
    service: Running, backup: bytes
) -> None:
    restore(service, backup, name="living")
    service.work()
    sizes = "SELECT chunks FROM documents JOIN knowledge_bases k ON k.id = kb_id WHERE k.name = 'living'"
    chunks = sum(row[0] for row in service.rows(sizes))
    kb_id = in_kb(service, "living")["id"]
    assert service.client.post("/kbs/living/reread").json() == {"documents": 2}
    service.work()
    lines = service.client.get("/kbs/living/export").text.splitlines()
    assert len(lines) == chunks  # under the ids that they had, not beside them
    new_text = "# Leave\n\nIt is 20 days now, says the living copy.\n"
    service.upload("living", {"policies/leave.md": new_text})
    service.work()
    assert "20 days" in service.search("living", "days")[0]["text"]
    assert "15 days" in service.search("original", "annual leave")[0]["text"]
    service.client.delete("/kbs/living")
    service.work()
    assert service.rows("SELECT count(*) FROM documents WHERE kb_id = %s", kb_id) == [(0,)]
    assert hashlib.sha256(new_text.encode()).hexdigest() not in stored(service)
    assert hashlib.sha256(LEAVE.encode()).hexdigest() in stored(service)  # the original's


def test_files_go_with_the_last_knowledge_base_that_has_them(service: Running) -> None:
    service.new_kb("lonely")
    content = "# Lonely\n\nNobody else has this text.\n"
    service.upload("lonely", {"lonely.md": content})
    service.work()
    backup = service.client.get("/kbs/lonely/backup").content
    service.client.delete("/kbs/lonely")
    service.work()
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    assert sha256 not in stored(service)
    restore(service, backup)
    service.work()
    assert sha256 in stored(service)
    assert hashlib.sha256(backup).hexdigest() not in stored(service)
    (document,) = documents(service, "lonely").values()
    service.client.delete(f"/kbs/lonely/documents/{document['id']}")
    service.work()
    assert sha256 not in stored(service)


def test_tar_lists_a_backup_and_its_parts_have_the_hashes_of_their_names(backup: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(backup)) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            assert hashlib.sha256(file.read()).hexdigest() == member.name.split("/")[1]


def members(backup: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(backup)) as archive:
        return [
            (member.name.split("/")[0], file.read())
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        ]


def rebuilt(parts: list[tuple[str, bytes]]) -> bytes:
    """A backup of these parts in which all hashes are right."""
    writer = BackupWriter()
    return b"".join([writer.part(kind, content) for kind, content in parts if kind != "end"] + [writer.end()])


def changed(backup: bytes, kind: str, old: str, new: str) -> bytes:
    parts = [(k, c.replace(old.encode(), new.encode()) if k == kind else c) for k, c in members(backup)]
    assert parts != members(backup)
    return rebuilt(parts)


def foreign() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "no tar", b"%PDF-1.7 " * 200
    yield "a short text", b"hello"
    for name, kind in (
        ("../../etc/passwd", tarfile.REGTYPE),
        ("kb/../../x", tarfile.REGTYPE),
        (f"kb/{'0' * 64}", tarfile.SYMTYPE),
        ("hello.txt", tarfile.REGTYPE),
        (f"files/{'0' * 64}", tarfile.REGTYPE),
    ):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member)
        yield f"{name} {kind!r}", buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    yield "packed", buffer.getvalue()


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in foreign()])
def test_what_is_no_backup_is_refused_and_leaves_nothing(service: Running, content: bytes) -> None:
    before = leftovers(service)
    response = restore(service, content, name="foreign")
    assert response.status_code == 422
    assert response.json()["code"] == "damaged-backup"
    assert leftovers(service) == before
    assert service.rows("SELECT count(*) FROM knowledge_bases WHERE name = 'foreign'") == [(0,)]


def test_every_cut_and_every_changed_byte_is_noticed(service: Running, backup: bytes) -> None:
    before = leftovers(service)
    end = len(backup) - 2 * tarfile.BLOCKSIZE  # what follows is padding of tar
    random = np.random.default_rng(3)
    cuts = [backup[: int(at)] for at in random.integers(0, end - tarfile.BLOCKSIZE, 20)]
    flips = []
    for at in random.integers(0, end, 40):
        flipped = bytearray(backup)
        flipped[int(at)] ^= 0x20
        flips.append(bytes(flipped))
    for content in cuts + flips:
        response = restore(service, content, name="damaged")
        # Padding between the parts says nothing: what was restored from it must be whole.
        assert response.status_code in (422, 202), response.text
        if response.status_code == 202:
            service.work()
            assert in_kb(service, "damaged")["documents"] == 2
            service.client.delete("/kbs/damaged")
            service.work()
    assert leftovers(service) == before


def without(backup: bytes, kind: str) -> bytes:
    return rebuilt([part for part in members(backup) if part[0] != kind])


def test_a_backup_with_a_part_taken_out_is_refused(service: Running, backup: bytes) -> None:
    writer = BackupWriter()
    blocks = [writer.part(kind, content) for kind, content in members(backup) if kind != "end"]
    for gone in range(len(blocks)):
        rest = b"".join(blocks[:gone] + blocks[gone + 1 :])
        response = restore(service, rest + BackupWriter.end(writer), name="lacking")
        assert response.status_code == 422


@pytest.mark.parametrize(
    ("kind", "old", "new", "said"),
    [
        ("documents", "policies/leave.md", "../leave.md", "is no name of a document"),
        ("documents", "policies/leave.md", "/leave.md", "is no name of a document"),
        ("chunks", '"document_id": "', '"document_id": "x', "does not hold"),
        ("chunks", '"vector": "', '"vector": "!', "not what a backup holds"),
        ("chunks", '"position": 1', '"position": 0', "arrived in"),
        ("texts", '"pages"', '"sheets"', "not what a backup holds"),
    ],
)
def test_a_backup_that_was_forged_fails_in_words_and_leaves_nothing(
    service: Running, backup: bytes, kind: str, old: str, new: str, said: str
) -> None:
    before = leftovers(service)
    response = restore(service, changed(backup, kind, old, new), name="forged")
    assert response.status_code == 202, response.text
    service.work()
    job = service.client.get(f"/jobs/{response.json()['job']['id']}").json()
    assert job["status"] == "failed"
    assert said in job["error"]["message"]
    assert service.client.get("/kbs/forged").status_code == 404
    assert leftovers(service) == before


def test_a_backup_that_lacks_originals_or_records_of_another_generation_fails(
    service: Running, backup: bytes
) -> None:
    before = leftovers(service)
    response = restore(service, without(backup, "files"), name="no-files")
    service.work()
    job = service.client.get(f"/jobs/{response.json()['job']['id']}").json()
    assert "lacks 2 originals" in job["error"]["message"]
    assert leftovers(service) == before


def saved_kb(backup: bytes, folder: Path) -> SavedKb:
    path = folder / "backup.tar"
    path.write_bytes(backup)
    return BackupFile(path).kb()


def test_vectors_of_another_embedder_are_refused_unless_the_originals_are_read_again(
    service: Running, backup: bytes, tmp_path: Path
) -> None:
    other = changed(backup, "kb", saved_kb(backup, tmp_path).embedder, "other-model")
    response = restore(service, other, name="reread")
    assert response.status_code == 409
    assert "other-model" in response.json()["detail"]
    assert "`reread`" in response.json()["hint"]
    longer = changed(backup, "kb", '"dim":384', '"dim":385')
    assert restore(service, longer, name="reread").status_code == 409
    assert restore(service, other, name="reread", reread="true").status_code == 202
    service.work()
    assert in_kb(service, "reread")["embedder"] == in_kb(service, "original")["embedder"]
    assert [d["status"] for d in documents(service, "reread").values()] == ["ready", "ready"]
    assert "15 days" in service.search("reread", "annual leave")[0]["text"]


def test_names_that_are_taken_and_stores_that_are_not_there_are_refused(
    service: Running, backup: bytes
) -> None:
    before = leftovers(service)
    assert restore(service, backup).status_code == 409
    assert restore(service, backup, name="../x").status_code == 422
    unknown = restore(service, backup, name="new", store="milvus")
    assert "connected to no store" in unknown.json()["detail"]
    assert restore(service, backup, name="new", store="redis").status_code == 503  # nobody answers there
    assert leftovers(service) == before


def test_a_name_that_is_taken_meanwhile_fails_the_job(service: Running, backup: bytes) -> None:
    before = leftovers(service)
    response = restore(service, backup, name="fast")
    service.new_kb("fast")
    service.work()
    job = service.client.get(f"/jobs/{response.json()['job']['id']}").json()
    assert "There is a knowledge base named 'fast' already." in job["error"]["message"]
    assert leftovers(service) == before


def test_readers_may_not_take_a_knowledge_base_away_or_bring_one(service: Running, backup: bytes) -> None:
    key = service.client.post("/keys", json={"name": "r", "role": "reader"}).json()["key"]
    with service.as_(key) as reader, service.as_(None) as nobody:
        for client, status in ((reader, 403), (nobody, 401)):
            assert client.get("/kbs/original/backup").status_code == status
            assert client.get("/kbs/original/export").status_code == status
            assert client.post("/kbs/restore", content=backup, params={"name": "x"}).status_code == status


def test_ingestion_waits_for_a_backup_and_goes_on_when_the_reader_has_left(service: Running) -> None:
    service.new_kb("busy")
    for number in range(40):
        service.upload("busy", {f"{number}.md": f"# Number {number}\n\n" + f"Line {number} of many. " * 4000})
    kb_id = in_kb(service, "busy")["id"]
    # Nothing needs to be read for this: the files alone are more than a connection's buffers take.
    service.rows(
        "UPDATE documents SET live_sha256 = sha256, live_revision = 'r' WHERE kb_id = %s RETURNING 1", kb_id
    )
    open_jobs = "SELECT count(*) FROM jobs WHERE kb_id = %s AND status = 'queued' AND kind = 'ingest'"
    one = "SELECT id FROM jobs WHERE kb_id = %s AND kind = 'ingest' ORDER BY created_at LIMIT 1"
    ((job_id,),) = service.rows(one, kb_id)
    with service.client.stream("GET", "/kbs/busy/backup") as response:
        reading = response.iter_raw(1)  # kept: the connection is closed with it
        next(reading)
        service.loop.run(service.worker.runner.run(job_id))
        assert service.rows(open_jobs, kb_id) == [(40,)]
    ended = "SELECT status FROM jobs WHERE kb_id = %s AND kind = 'backup-kb'"
    for _ in range(100):
        if service.rows(ended, kb_id) != [("running",)]:
            break
        service.client.get("/health")
    assert service.rows(ended, kb_id) == [("cancelled",)]
    service.client.delete("/kbs/busy")
    service.work()


def test_an_export_has_the_chunks_that_can_be_found(service: Running, backup: bytes) -> None:
    lines = [json.loads(line) for line in service.client.get("/kbs/original/export").text.splitlines()]
    by_place = {(line["document"], line["position"]): line for line in lines}
    assert len(by_place) == len(lines) == sum(d["chunks"] for d in documents(service, "original").values())
    first = by_place["policies/leave.md", 0]
    assert "15 days of annual leave" in first["text"]
    assert first["section"] == "Leave"
    assert first["page_start"] is None
    assert "vector" not in first
    text = service.client.get(f"/kbs/original/documents/{first['document_id']}/text").json()["text"]
    assert text[first["start"] : first["end"]] == first["text"]
    with_vectors = service.client.get("/kbs/original/export", params={"vectors": "true"}).text.splitlines()
    vectors = np.array([json.loads(line)["vector"] for line in with_vectors])
    assert vectors.shape == (len(lines), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_lost_original_forbids_a_backup_in_words_until_it_is_uploaded_again(service: Running) -> None:
    service.new_kb("losing")
    content = "# Lost\n\nThe original of this text gets lost.\n"
    service.upload("losing", {"lost.md": content, "kept.md": "# Kept\n\nThis one stays.\n"})
    service.work()
    lost = FileStore(service.settings.files_dir).path(hashlib.sha256(content.encode()).hexdigest())
    for name in ("lost.md", "lost under another name.md"):
        lost.unlink()
        refused = service.client.get("/kbs/losing/backup")
        assert refused.status_code == 409
        assert "Without all originals there is no backup; gone: lost.md." in refused.text
        assert service.upload("losing", {name: content})[0]["job"] is None
        assert lost.read_text() == content
        assert service.client.get("/kbs/losing/backup").status_code == 200
    lost.write_text("changed in place")
    service.upload("losing", {"lost.md": content})
    assert lost.read_text() == content


def test_an_empty_knowledge_base_can_be_backed_up_restored_and_exported(service: Running) -> None:
    service.new_kb("empty")
    assert service.client.get("/kbs/empty/export").content == b""
    restore(service, service.client.get("/kbs/empty/backup").content, name="still-empty")
    service.work()
    assert in_kb(service, "still-empty")["documents"] == 0


def test_the_commands_back_up_restore_and_export(service: Running, backup: bytes, tmp_path: Path) -> None:
    file, lines = tmp_path / "original.tar", tmp_path / "original.jsonl"
    backed_up = service.command("kb", "backup", "original", "--to", str(file))
    assert backed_up.output.startswith("Backed up 2 documents, ")
    again = service.command("kb", "backup", "original", "--to", str(file))
    assert again.exit_code == 1
    assert "is there already" in again.output
    restored = service.command("kb", "restore", str(file), "--name", "by-command")
    assert restored.output == "Restored by-command with 2 documents.\n"
    assert in_kb(service, "by-command")["documents"] == 2
    exported = service.command("kb", "export", "by-command", "--to", str(lines))
    assert exported.exit_code == 0, exported.output
    assert {json.loads(line)["document"] for line in lines.read_text().splitlines()} == {
        "policies/leave.md",
        "差旅.md",
    }
    file.write_bytes(file.read_bytes()[:-2000])
    refused = service.command("kb", "restore", str(file), "--name", "cut")
    assert refused.exit_code == 1
    assert "cut off" in refused.output
    missing = service.command("kb", "backup", "no-such", "--to", str(tmp_path / "x.tar"))
    assert missing.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [lines.name, file.name]
