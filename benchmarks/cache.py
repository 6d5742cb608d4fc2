"""How does a second run get its vectors without embedding again? They are kept by what they are vectors of."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.embedders.base import Embedder


def default_folder() -> Path:
    """`rag-service-bench` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rag-service-bench"


class CachedEmbedder:
    """An embedder that remembers, in a SQLite file in `folder`, the vector of every passage it was given.

    The key is a hash of the embedder's name and the text. Questions are embedded anew each time, so that the
    time of a search is the real one. `computed` and `remembered` count passages, and `saved_s` adds up the
    seconds that the remembered ones took when they were computed.
    """

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self._embedder = embedder
        folder.mkdir(parents=True, exist_ok=True)
        self._vectors = sqlite3.connect(folder / "vectors.sqlite", timeout=60, isolation_level=None)
        self._vectors.execute("PRAGMA journal_mode = WAL")
        self._vectors.execute(
            "CREATE TABLE IF NOT EXISTS vectors "
            "(key BLOB PRIMARY KEY, vector BLOB NOT NULL, seconds REAL NOT NULL)"
        )
        self.computed = self.remembered = 0
        self.saved_s = 0.0

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dim(self) -> int:
        return self._embedder.dim

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    def count_tokens(self, text: str) -> int:
        return self._embedder.count_tokens(text)

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embedder.embed_queries(texts)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        result = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):  # one at a time: a run that is stopped loses one vector
            result[row] = await self._passage(text)
        return result

    async def close(self) -> None:
        self._vectors.close()
        await self._embedder.close()

    async def _passage(self, text: str) -> NDArray[np.float32]:
        key = hashlib.sha256(f"{self.name}\x1f{text}".encode("utf-8", "surrogatepass")).digest()
        known = self._vectors.execute("SELECT vector, seconds FROM vectors WHERE key = ?", [key]).fetchone()
        if known is not None:
            self.remembered += 1
            self.saved_s += known[1]
            return np.frombuffer(known[0], dtype=np.float32)
        start = time.perf_counter()
        vector: NDArray[np.float32] = (await self._embedder.embed_passages([text]))[0]
        entry = [key, vector.tobytes(), time.perf_counter() - start]
        self._vectors.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", entry)
        self.computed += 1
        return vector
