"""The real service to measure: `rag-service up` in a folder of its own, with a knowledge base of the size asked for.

A knowledge base is made from a data set (`benchmarks/dataset.py`): as much of it as is needed is read and embedded by
the service itself; the rest are copies of its documents under other names, whose vectors are moved a little. They come
in as a backup that is restored, so nothing is embedded twice.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

sys.path += [str(Path(__file__).parents[1] / "tests" / folder) for folder in ("e2e", "servers")]
from folders import short_folder
from up_service import UpService

from benchmarks.dataset import CorpusDocument
from core.types import Vector
from ingest.backup_file import BackupFile, BackupWriter, Member, SavedText, record_line

CHARACTERS = 100  # of a chunk: small ones are embedded fast
UPLOADED_AT_ONCE = 50
NEAR = 0.05  # squared length of what a copy's vector is moved by: its cosine to the original is about 0.975
KNOWN = Path.home() / ".cache" / "rag-service-bench" / "live-embeddings.sqlite"
QUIET = {"RAG_FSCK__EVERY_H": "0", "RAG_LLM__KIND": "extractive"}


@contextmanager
def live_service(*, known: Path | None = None, **variables: str) -> Iterator[UpService]:
    """The service, until the block ends. `known` keeps vectors of passages from one measurement to the next."""
    with short_folder() as folder:
        service = UpService(folder, **QUIET, **variables)
        vectors = folder / "cache" / "embeddings.sqlite"
        if known is not None and known.exists():
            vectors.parent.mkdir()
            shutil.copy(known, vectors)
        say("Starting the service …")
        try:
            service.start()
            yield service
        finally:
            service.stop()
            if known is not None and vectors.exists():
                known.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(vectors, known)


def fill(
    service: UpService,
    kb: str,
    documents: Sequence[CorpusDocument],
    *,
    base: int,
    chunks: int,
    characters: int = CHARACTERS,
) -> int:
    """Make the knowledge base with about `chunks` chunks, of which the service embeds about `base`."""
    with service.client() as client:
        made = f"{kb}-base" if chunks > base else kb
        new_kb(client, made, characters)
        say(f"Reading about {base} chunks …")
        upload(
            client,
            made,
            [(f"{d.id}.md", f"# {d.title}\n\n{d.text}") for d in _up_to(documents, base * characters)],
        )
        wait_until_read(client, made)
        there = chunks_of(client, made)
        if chunks > base:
            say(f"{there} chunks were read; copying them to about {chunks} …")
            _multiply(client, made, kb, round(chunks / there))
        return chunks_of(client, kb)


def new_kb(client: httpx.Client, name: str, characters: int) -> None:
    client.post("/kbs", json={"name": name, "chunking": {"characters": characters}}).raise_for_status()


def upload(client: httpx.Client, kb: str, files: Sequence[tuple[str, str]]) -> None:
    for start in range(0, len(files), UPLOADED_AT_ONCE):
        parts = [("file", (name, text.encode())) for name, text in files[start : start + UPLOADED_AT_ONCE]]
        client.post(f"/kbs/{kb}/documents", files=parts, timeout=600).raise_for_status()


def wait_until_read(client: httpx.Client, kb: str) -> None:
    while any(
        client.get(f"/kbs/{kb}/jobs", params={"status": s}).json()["items"] for s in ("queued", "running")
    ):
        time.sleep(0.5)
    failed = client.get(f"/kbs/{kb}/jobs", params={"status": "failed"}).json()["items"]
    if failed:
        raise SystemExit(f"Not everything was read: {failed[0]['error']}")


def chunks_of(client: httpx.Client, kb: str) -> int:
    """Chunks that readers can find, as `/metrics` has them."""
    lines = client.get(str(client.base_url.copy_with(path="/metrics"))).text.splitlines()
    return next(int(float(line.split()[-1])) for line in lines if line.startswith(f'rag_chunks{{kb="{kb}"}}'))


def say(what: str) -> None:
    """Where the measurement is, on standard error: the result alone is for standard output."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {"p50_ms": round(float(p50), 1), "p95_ms": round(float(p95), 1)}


def _up_to(documents: Sequence[CorpusDocument], characters: int) -> Iterator[CorpusDocument]:
    left = characters
    for document in documents:
        if left <= 0:
            return
        left -= len(document.text)
        yield document


def _multiply(client: httpx.Client, source: str, target: str, times: int) -> None:
    """Restore a backup of `source`, with `times` as many documents, as `target`; `source` goes."""
    with tempfile.TemporaryDirectory(prefix="rag-bench-") as folder:
        backup, larger = Path(folder) / "backup.tar", Path(folder) / "larger.tar"
        with (
            client.stream("GET", f"/kbs/{source}/backup", timeout=600) as response,
            backup.open("wb") as file,
        ):
            response.raise_for_status()
            for block in response.iter_bytes():
                file.write(block)
        with larger.open("wb") as file:
            for block in _copies(BackupFile(backup), times):
                file.write(block)
        with larger.open("rb") as file:
            asked = client.post("/kbs/restore", params={"name": target}, content=file, timeout=600)
    job = asked.raise_for_status().json()["job"]
    while (job := client.get(f"/jobs/{job['id']}").json())["status"] in ("queued", "running"):
        time.sleep(1)
    if job["status"] != "done":
        raise SystemExit(f"The copies were not restored: {job['error']}")
    client.delete(f"/kbs/{source}").raise_for_status()


def _copies(backup: BackupFile, times: int) -> Iterator[bytes]:
    """The backup with each document `times` times."""
    writer, random = BackupWriter(), np.random.default_rng(22)
    for member in backup.members():
        if member.kind in ("kb", "files"):
            yield writer.part(member.kind, b"".join(backup.blocks(member)))
            continue
        for copy in range(times):
            yield (
                writer.lines(member.kind, _copied(backup, member, copy, random))
                if member.kind != "texts"
                else (writer.model("texts", _copied_text(backup.model(member, SavedText), copy)))
            )
    yield writer.end()


def _copied(backup: BackupFile, member: Member, copy: int, random: np.random.Generator) -> list[str]:
    if member.kind == "documents":
        return [
            d.model_copy(update={"id": f"{d.id}-{copy}", "name": f"{copy}/{d.name}"}).model_dump_json()
            for d in backup.documents(member)
        ]
    return [
        record_line(
            replace(record, id=f"{record.id}-{copy}", document_id=f"{record.document_id}-{copy}"),
            _moved(vector, random) if copy else vector,
        )
        for record, vector in backup.records(member)
    ]


def _copied_text(saved: SavedText, copy: int) -> SavedText:
    return saved.model_copy(update={"document_id": f"{saved.document_id}-{copy}"})


def _moved(vector: Vector, random: np.random.Generator) -> Vector:
    noise = random.standard_normal(len(vector)) * np.sqrt(NEAR / len(vector))
    moved = np.asarray(vector + noise, dtype=np.float32)
    return np.asarray(moved / np.linalg.norm(moved), dtype=np.float32)
