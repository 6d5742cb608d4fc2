"""How does a second run get its vectors without embedding again? They are kept by what they are vectors of."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.embedders.base import Embedder
from models.embedders.bundled import BundledEmbedder


def default_folder() -> Path:
    """`rag-service-bench` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rag-service-bench"


class CachedEmbedder:
    """Embedders of one kind that remember, in a SQLite file in `folder`, the vector of every passage.

    Each of `embedders` works on another passage at the same time (give one for each core). The key is a hash
    of the embedder's name and the text. Questions are embedded anew each time, so that the time of a search is
    the real one; `asked_s` adds it up. `computed` and `remembered` count passages, and `saved_s` adds up the
    seconds that the remembered ones would have taken.
    """

    def __init__(self, embedders: Sequence[Embedder], folder: Path) -> None:
        self._first = embedders[0]
        self._embedders = tuple(embedders)
        self._idle: asyncio.Queue[Embedder] = asyncio.Queue()
        for embedder in embedders:
            self._idle.put_nowait(embedder)
        folder.mkdir(parents=True, exist_ok=True)
        self._vectors = sqlite3.connect(folder / "vectors.sqlite", timeout=60, isolation_level=None)
        self._vectors.execute("PRAGMA journal_mode = WAL")
        self._vectors.execute(
            "CREATE TABLE IF NOT EXISTS vectors "
            "(key BLOB PRIMARY KEY, vector BLOB NOT NULL, seconds REAL NOT NULL)"
        )
        self.computed = self.remembered = 0
        self.saved_s = self.asked_s = 0.0

    @property
    def name(self) -> str:
        return self._first.name

    @property
    def max_tokens(self) -> int:
        return self._first.max_tokens

    async def dimension(self) -> int:
        return await self._first.dimension()

    def count_tokens(self, text: str) -> int:
        return self._first.count_tokens(text)

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        start = time.perf_counter()
        vectors = await self._first.embed_queries(texts)
        self.asked_s += time.perf_counter() - start
        return vectors

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        distinct = list(dict.fromkeys(texts))
        vectors = dict(zip(distinct, await asyncio.gather(*map(self._passage, distinct)), strict=True))
        return np.stack([vectors[text] for text in texts])

    async def close(self) -> None:
        self._vectors.close()
        for embedder in self._embedders:
            await embedder.close()

    async def _passage(self, text: str) -> NDArray[np.float32]:
        key = hashlib.sha256(f"{self.name}\x1f{text}".encode("utf-8", "surrogatepass")).digest()
        known = self._vectors.execute("SELECT vector, seconds FROM vectors WHERE key = ?", [key]).fetchone()
        if known is not None:
            self.remembered += 1
            self.saved_s += known[1] / len(self._embedders)
            return np.frombuffer(known[0], dtype=np.float32)
        embedder = await self._idle.get()
        try:
            start = time.perf_counter()
            vector: NDArray[np.float32] = (await embedder.embed_passages([text]))[0]
            seconds = time.perf_counter() - start
        finally:
            self._idle.put_nowait(embedder)
        self._vectors.execute(
            "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", [key, vector.tobytes(), seconds]
        )
        self.computed += 1
        return vector


def bundled(folder: Path) -> CachedEmbedder:
    """The bundled embedder, once for each core that this process may use."""
    return CachedEmbedder([BundledEmbedder(threads=1) for _ in range(cores())], folder)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
