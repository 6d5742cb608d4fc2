"""How does a text that was embedded before cost nothing? Its vector is kept under a hash of model and text."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.embedders.base import Embedder

logger = logging.getLogger(__name__)
T = TypeVar("T")

DROPPED = 0.1  # of the vectors, when there are too many: the part that was unused for longest
QUESTIONS = 32
BUSY_S = 10.0  # longest wait for another process that writes


class CachedEmbedder:
    """`inner`, with the vectors of passages remembered in the file `path` (SQLite; several processes may share it).

    It holds about `max_mb` MiB at most; then those unused for longest go. Vectors are kept as they were (float32), so
    that a text has the same vector whether it was remembered or not. The file may be removed at any time. If it
    cannot be used, that is logged, and everything is embedded anew. The vectors of the last `QUESTIONS` questions are
    kept in memory: the stages of an answer, and each of several knowledge bases, ask for the same one.
    """

    def __init__(self, inner: Embedder, path: Path, *, max_mb: int) -> None:
        self._inner = inner
        self._vectors = _Vectors(path, most_bytes=max_mb * 2**20)
        self._questions: OrderedDict[str, NDArray[np.float32]] = OrderedDict()  # the last one used at the end

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def max_tokens(self) -> int:
        return self._inner.max_tokens

    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    async def dimension(self) -> int:
        return await self._inner.dimension()

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        known = {text: self._questions[text] for text in texts if text in self._questions}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing or not texts:
            fresh = await self._inner.embed_queries(missing)
            if not texts:
                return fresh
            # Copies, for a row would keep the rows beside it.
            known |= {text: vector.copy() for text, vector in zip(missing, fresh, strict=True)}
        for text, vector in known.items():
            self._questions[text] = vector
            self._questions.move_to_end(text)
        while len(self._questions) > QUESTIONS:
            self._questions.popitem(last=False)
        return np.stack([known[text] for text in texts])

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [self._key(text) for text in texts]
        known = await asyncio.to_thread(self._vectors.get, keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing or not texts:
            fresh = await self._inner.embed_passages(list(missing.values()))
            if not texts:
                return fresh
            new = dict(zip(missing, fresh, strict=True))
            await asyncio.to_thread(self._vectors.put, new)
            known |= new
        return np.stack([known[key] for key in keys])

    async def close(self) -> None:
        await asyncio.to_thread(self._vectors.close)
        await self._inner.close()

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.name}\x1f{text}".encode("utf-8", "surrogatepass")).digest()


class _Vectors:
    """The file. Its calls block for milliseconds, and may come from any thread."""

    def __init__(self, path: Path, *, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Those that are known."""

        def read(connection: sqlite3.Connection) -> dict[bytes, NDArray[np.float32]]:
            found = {}
            for key in keys:
                row = connection.execute("SELECT vector FROM vectors WHERE key = ?", [key]).fetchone()
                if row is not None:
                    found[key] = np.frombuffer(row[0], dtype=np.float32)
            connection.executemany(
                "UPDATE vectors SET used = ? WHERE key = ?", [(time.time_ns(), key) for key in found]
            )
            return found

        return self._run(read) or {}

    def put(self, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
                [(key, vector.tobytes(), time.time_ns()) for key, vector in vectors.items()],
            )
            if _bytes_used(connection) > self._most_bytes:
                connection.execute(
                    "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used LIMIT "
                    "(SELECT 1 + CAST(count(*) * ? AS INTEGER) FROM vectors))",
                    [DROPPED],
                )

        self._run(write)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` returns, in one transaction; None, and a line in the log, if the file cannot be used."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self._path)
                with self._connection as transaction:
                    return work(transaction)
            except (sqlite3.Error, OSError) as error:
                logger.warning(
                    "The cache of embeddings %s cannot be used (%s); it may be removed.", self._path, error
                )
                return None


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last vectors, not the file
    connection.execute(
        "CREATE TABLE IF NOT EXISTS vectors "
        "(key BLOB PRIMARY KEY, vector BLOB NOT NULL, used INTEGER NOT NULL) STRICT"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS vectors_by_use ON vectors (used)")
    return connection


def _bytes_used(connection: sqlite3.Connection) -> int:
    """Of the file, what is not free for new rows."""
    [(pages, free, size)] = connection.execute(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    )
    return int((pages - free) * size)
