"""What do readers see meanwhile? Books whose every entry is a chunk, and somebody who looks at them all the time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

import httpx

BOOKS = ("atlas", "ledger", "manual")
VERSIONS = ("first", "second")
ENTRIES = 20  # of a book: two batches of chunks
SETTINGS = {
    "RAG_WORKER__LEASE_S": "2",
    "RAG_INGEST__CHUNK_CHARACTERS": "100",  # each entry becomes a chunk
    "RAG_RETRIEVAL__POOL": "200",  # room for two versions of a book
}
PAUSE_S = 0.1  # between two looks of a reader


def content(book: str, version: str) -> bytes:
    entries = (
        f"Entry {number:02} of the {book} in its {version} version names the keeper of room {number * 7919 % 1000}, "
        "who has the keys of the upper and the lower gate and of the tower, and answers for all that is kept there."
        for number in range(ENTRIES)
    )
    return "\n\n".join(entries).encode()


def whole(version: str) -> list[tuple[str, str]]:
    """Every entry of a version, once."""
    return [(version, f"Entry {number:02}") for number in range(ENTRIES)]


def entries(response: httpx.Response) -> list[tuple[str, str]]:
    """Version and number of the entries that were found, in order."""
    texts = [passage["text"] for passage in response.json()["passages"]]
    return sorted(
        (version, text[:8]) for text in texts for version in VERSIONS if f"its {version} version" in text
    )


def upload(client: httpx.Client, kb: str, book: str, version: str) -> str:
    """The id of the job that reads it."""
    form = {"attributes": json.dumps({"book": book})}
    files = {"file": (f"{book}.md", content(book, version))}
    response = client.post(f"/kbs/{kb}/documents", files=files, data=form)
    assert response.status_code == 202, response.text
    return str(response.json()["files"][0]["job"]["id"])


def search(client: httpx.Client, kb: str, book: str) -> httpx.Response:
    """Everything that is found of the book, chunk by chunk."""
    chunks = {"parents": False, "neighbours": False, "whole_document": False}
    body = {"query": f"Entry of the {book}", "top_k": 50, "filters": {"book": book}, "structure": chunks}
    return client.post(f"/kbs/{kb}/search", json=body)


def is_over(client: httpx.Client, job_id: str) -> bool:
    response = client.get(f"/jobs/{job_id}")
    return response.status_code == 200 and response.json()["status"] not in ("queued", "running")


def wrong_refusal(response: httpx.Response) -> str | None:
    """What is not as it should be in the answer that a store or the database is away."""
    if response.status_code != 503 or response.headers["content-type"] != "application/problem+json":
        return f"{response.status_code} {response.headers}"
    body = response.json()
    if body["code"] not in ("store-unavailable", "database-unavailable"):
        return f"code: {body}"
    if not body["detail"] or "RAG_" not in body.get("hint", ""):
        return f"words: {body}"
    if not int(response.headers.get("Retry-After", 0)) > 0 or not body.get("retry_after_s"):
        return f"when to try again: {response.headers} {body}"
    return None


class Reading:
    """Somebody who asks for all books again and again while the block runs.

    `wrong` says what no reader may see: part of a book, two versions of it, an answer without words. `statuses`
    and `versions` are those that were seen.
    """

    def __init__(self, ask: Callable[[str], httpx.Response], books: Sequence[str] = BOOKS) -> None:
        self.wrong: list[str] = []
        self.statuses: set[int] = set()
        self.versions: set[str] = set()
        self._ask = ask
        self._books = books
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _look_again_and_again(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            for book in self._books:
                wrong = self._look(self._ask(book))
                if wrong:
                    self.wrong.append(f"{book}: {wrong}")

    def _look(self, response: httpx.Response) -> str | None:
        self.statuses.add(response.status_code)
        if response.status_code != 200:
            return wrong_refusal(response)
        found: list[Any] = entries(response)
        self.versions |= {version for version, _ in found}
        return None if found in ([], *map(whole, VERSIONS)) else f"{len(found)} entries: {found}"
