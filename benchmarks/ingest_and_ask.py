"""Does reading documents slow answers, and how fast is it? The whole service, as `rag-service up` starts it.

    .venv/bin/python -m benchmarks.ingest_and_ask [FOLDER] [--seconds 60] [--nice 10] [--large 100000]

Asks `/search` one question after the other while nothing else is to do, then while hundreds of documents are read, and
prints p50 and p95 of both and their ratios. Then it lets the reading go on alone for as long, and embeds the same texts
(chunks, and summaries in the same proportion), as many as fit into the same time, with the bare embedder in this
process: chunks per second of both, and their ratio; and the CPU-seconds that each spent on a chunk, which other work
on the machine changes less. With `--large` documents are then read into a knowledge base of so many chunks. JSON.

Documents are pages of this repository, shuffled anew for each; or those of a data set (`benchmarks/dataset.py`).
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import json
import random
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from benchmarks.dataset import CorpusDocument, load
from benchmarks.live import chunks_of, fill, live_service, new_kb, percentiles, say, upload, wait_until_read
from benchmarks.retrieval import machine
from models.embedders.bundled import BundledEmbedder

if TYPE_CHECKING:
    from up_service import UpService

ROOT = Path(__file__).parents[1]
ASKED, READ, LARGE = "asked", "read", "large"  # knowledge bases: that is there, that grows, that has grown
CHARACTERS = 250  # of a chunk, as the settings have it by default
LARGE_BASE = 300  # chunks of the large knowledge base that are really embedded
PARAGRAPHS = 12  # of a document that is made from pages
THERE = 20  # documents that are there when the first questions come
SETTLED_S = 5.0  # what begins is not measured
QUESTIONS = [
    "How long is a job kept that failed?",
    "Which stores can a knowledge base move to?",
    "备份里有哪些内容？",
    "What happens when the database is away?",
    "哪些文件格式可以读取？",
    "How are citations checked?",
    "What does a worker do when it is killed?",
    "如何选择语言模型？",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a data set instead of this repository's pages")
    parser.add_argument("--documents", type=int, default=600, help="how many wait to be read (600)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the four measurements (60)")
    parser.add_argument(
        "--large", type=int, default=0, help="chunks of a knowledge base to read into at last (none)"
    )
    parser.add_argument("--nice", help="RAG_WORKER__NICE; unset: as `up` sets it")
    chosen = parser.parse_args()
    documents, questions = _of_folder(chosen.folder) if chosen.folder else (_of_pages(), QUESTIONS)
    variables = {"RAG_WORKER__NICE": chosen.nice} if chosen.nice else {}
    files = list(islice(documents, THERE + chosen.documents))
    with live_service(**variables) as service, service.client() as client:
        worker = service.part("worker")
        new_kb(client, ASKED, CHARACTERS)
        new_kb(client, READ, CHARACTERS)
        say("Reading the documents that are asked …")
        upload(client, ASKED, files[:THERE])
        wait_until_read(client, ASKED)
        _ask(client, questions, seconds=SETTLED_S)
        say("Asking while nothing is read …")
        idle = _ask(client, questions, seconds=chosen.seconds)
        upload(client, READ, files[THERE:])
        _ask(client, questions, seconds=SETTLED_S)
        say("Asking while documents are read …")
        busy, beside = _reading(client, worker, lambda: _ask(client, questions, seconds=chosen.seconds))
        say("Reading alone …")
        _, alone = _reading(client, worker, lambda: time.sleep(chosen.seconds))
        unread = len(client.get(f"/kbs/{READ}/jobs", params={"status": "queued"}).json()["items"])
        niceness = worker.nice()
        say("Fetching what was embedded …")
        texts = _texts(client, READ)
        large = _reading_into_large(service, files, chosen.large, chosen.seconds) if chosen.large else None
    if not unread:
        sys.exit("All documents were read before the measurements ended: ask for more (--documents).")
    say("Embedding alone …")
    bare = asyncio.run(_bare(texts, chosen.seconds))
    before, after = percentiles(idle), percentiles(busy)
    result: dict[str, Any] = {
        "idle": before | {"questions": len(idle)},
        "while_reading": after | {"questions": len(busy)},
        "ratio_p50": round(after["p50_ms"] / before["p50_ms"], 2),
        "ratio_p95": round(after["p95_ms"] / before["p95_ms"], 2),
        "reading_beside_questions": beside,
        "reading_alone": alone,
        "bare_embedder": bare,
        "ratio_rate": round(bare["chunks_per_s"] / alone["chunks_per_s"], 2),
        "ratio_cpu": round(alone["cpu_ms_per_chunk"] / bare["cpu_ms_per_chunk"], 2),
        "worker_nice": niceness,
        "chunks": sum(chunks for _, chunks in texts),
        "summaries": sum(not chunks for _, chunks in texts),
        "load": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if large is not None:
        result["reading_alone_large"] = large
        result["ratio_large"] = round(alone["chunks_per_s"] / large["chunks_per_s"], 2)
    print(json.dumps(result, indent=1))


def _ask(client: httpx.Client, questions: Sequence[str], *, seconds: float) -> list[float]:
    """The seconds that each question took, one after the other."""
    took, end = [], time.perf_counter() + seconds
    for question in cycle(questions):
        start = time.perf_counter()
        if start > end:
            return took
        client.post(f"/kbs/{ASKED}/search", json={"query": question}).raise_for_status()
        took.append(time.perf_counter() - start)
    return took


def _reading_into_large(
    service: UpService, files: Sequence[tuple[str, str]], chunks: int, seconds: float
) -> dict[str, float]:
    """How fast documents are read into a knowledge base that has so many chunks."""
    there, fresh = files[:THERE], files[THERE:]
    documents = [CorpusDocument(name.removesuffix(".md"), name, text) for name, text in there]
    with service.client() as client:
        client.delete(f"/kbs/{READ}").raise_for_status()  # what is left of it would be read, too
        fill(service, LARGE, documents, base=LARGE_BASE, chunks=chunks, characters=CHARACTERS)
        upload(client, LARGE, [(f"new-{name}", text) for name, text in fresh])
        time.sleep(SETTLED_S)
        say("Reading alone, into the large knowledge base …")
        return _reading(client, service.part("worker"), lambda: time.sleep(seconds), LARGE)[1]


def _reading(
    client: httpx.Client, worker: psutil.Process, meanwhile: Any, kb: str = READ
) -> tuple[Any, dict[str, float]]:
    """What `meanwhile` gives, and how fast documents were read."""
    chunks, cpu, start = _progress(client, kb), _cpu(worker), time.perf_counter()
    result = meanwhile()
    seconds = time.perf_counter() - start
    done, used = _progress(client, kb) - chunks, _cpu(worker) - cpu
    return result, {
        "chunks_per_s": round(done / seconds, 2),
        "cpu_ms_per_chunk": round(1000 * used / max(done, 1), 1),
    }


def _progress(client: httpx.Client, kb: str) -> float:
    """Chunks of documents that are read, and of the one that is being."""
    running = client.get(f"/kbs/{kb}/jobs", params={"status": "running"}).json()["items"]
    return chunks_of(client, kb) + sum(job["done"] for job in running if job["stage"] == "embedding")


def _cpu(worker: psutil.Process) -> float:
    """CPU-seconds of the worker and of the parsers that it ran."""
    times = worker.cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def _texts(client: httpx.Client, kb: str) -> list[tuple[str, int]]:
    """What was embedded, and how many chunks each is: 1, or 0 for a summary. In no order that matters to time."""
    backup = client.get(f"/kbs/{kb}/backup", timeout=600).raise_for_status().content
    texts = []
    with tarfile.open(fileobj=BytesIO(backup)) as archive:
        for member in archive:
            kind = member.name.split("/")[0]
            content = archive.extractfile(member)
            if kind in ("chunks", "summaries") and content is not None:
                records = map(json.loads, content.read().splitlines())
                texts += [(f"{each['header']}\n{each['text']}", int(kind == "chunks")) for each in records]
    random.Random(0).shuffle(texts)
    return texts


async def _bare(texts: Sequence[tuple[str, int]], seconds: float) -> dict[str, float]:
    embedder = BundledEmbedder(threads=1)
    await embedder.embed_passages([text for text, _ in texts[:5]])
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    for text, chunks in cycle(texts):
        if time.perf_counter() - start > seconds:
            break
        await embedder.embed_passages([text])
        done += chunks
    took, used = time.perf_counter() - start, time.process_time() - cpu
    await embedder.close()
    return {"chunks_per_s": round(done / took, 2), "cpu_ms_per_chunk": round(1000 * used / done, 1)}


def _of_folder(folder: Path) -> tuple[Iterator[tuple[str, str]], list[str]]:
    dataset = load(folder)
    files = ((f"{d.id}.md", f"# {d.title}\n\n{d.text}") for d in dataset.documents)
    return files, [question.text for question in dataset.questions]


def _of_pages() -> Iterator[tuple[str, str]]:
    pages = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "\n\n".join(page.read_text(encoding="utf-8") for page in pages)
    paragraphs = [
        each for each in text.split("\n\n") if len(each) > 100 and not each.startswith(("|", "```"))
    ]
    chance = random.Random(23)
    number = 0
    while True:
        yield f"{number}.md", f"# Page {number}\n\n" + "\n\n".join(chance.sample(paragraphs, PARAGRAPHS))
        number += 1


if __name__ == "__main__":
    main()
