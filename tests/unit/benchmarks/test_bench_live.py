"""Are the copies that fill a large knowledge base a sound backup, near their originals?"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.live import _copies
from core.types import Record
from ingest.backup_file import (
    FORMAT,
    VERSION,
    BackupFile,
    BackupWriter,
    SavedDocument,
    SavedKb,
    SavedText,
    record_line,
)

NOW = datetime(2026, 11, 27, tzinfo=UTC)
TEXT = "Parental leave is 16 weeks."
VECTOR = np.eye(1, 384, dtype=np.float32)[0]


def small_backup(path: Path) -> BackupFile:
    sha256 = hashlib.sha256(TEXT.encode()).hexdigest()
    writer = BackupWriter()
    kb = SavedKb(
        format=FORMAT,
        version=VERSION,
        made_at=NOW,
        name="kb",
        description="",
        store="pgvector",
        embedder="e",
        dim=384,
        settings={},
    )
    document = SavedDocument(
        id="d",
        name="leave.md",
        sha256=sha256,
        size=len(TEXT),
        revision="r",
        title="Leave",
        language="en",
        pages=None,
        characters=len(TEXT),
        chunks=1,
        summary="s",
        attributes={},
        created_at=NOW,
        updated_at=NOW,
    )
    record = Record("c", "d", "r", TEXT, end=len(TEXT))
    parts = [
        writer.model("kb", kb),
        writer.lines("documents", [document.model_dump_json()]),
        writer.model("texts", SavedText(document_id="d", text=TEXT, title=None, pages=[], sections=[])),
        writer.part("files", TEXT.encode()),
        writer.lines("chunks", [record_line(record, VECTOR)]),
        writer.end(),
    ]
    path.write_bytes(b"".join(parts))
    return BackupFile(path)


def test_copies_of_a_backup_are_a_backup_with_so_many_of_everything_but_originals(tmp_path: Path) -> None:
    copied = tmp_path / "copied.tar"
    copied.write_bytes(b"".join(_copies(small_backup(tmp_path / "one.tar"), 3)))
    counts = BackupFile(copied).check()
    assert (counts["documents"], counts["texts"], counts["files"], counts["chunks"]) == (3, 3, 1, 3)
    backup = BackupFile(copied)
    names = {d.name for m in backup.members() if m.kind == "documents" for d in backup.documents(m)}
    assert names == {"0/leave.md", "1/leave.md", "2/leave.md"}


def test_a_copys_vector_is_near_the_originals_and_not_the_same(tmp_path: Path) -> None:
    copied = tmp_path / "copied.tar"
    copied.write_bytes(b"".join(_copies(small_backup(tmp_path / "one.tar"), 3)))
    backup = BackupFile(copied)
    vectors = [v for m in backup.members() if m.kind == "chunks" for _, v in backup.records(m)]
    cosines = [float(vector @ VECTOR) for vector in vectors]
    assert cosines[0] == 1.0
    assert all(0.95 < cosine < 0.995 for cosine in cosines[1:])
