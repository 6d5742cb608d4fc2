"""How does text become vectors with any model of the sentence-transformers library? (extra `sentence-transformers`)"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.embedders.base import recipe
from models.embedders.batches import batches, unit_vectors
from models.torch_models import load_error

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MOST_TEXTS = 64


class SentenceTransformerEmbedder:
    """A model in this process: `model` is a folder, or a name that the library fetches from its hub.

    With `query_prefix` or `passage_prefix` those are put before the texts; without, the model's own prompts are, where
    it has some. `device` as torch names it (`cpu`, `cuda:0`, `mps`; None: the best there is). Texts of up to
    `batch_tokens` tokens are embedded together, the longest first, in a thread of its own.
    """

    def __init__(
        self,
        *,
        model: str,
        query_prefix: str = "",
        passage_prefix: str = "",
        device: str | None = None,
        threads: int = 1,
        batch_tokens: int = 8192,
    ) -> None:
        self._path = model
        self._prefixes = (query_prefix, passage_prefix)
        self._device = device
        self._threads = threads
        self._batch_tokens = batch_tokens
        self._model: SentenceTransformer | None = None
        self._loading = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")

    @property
    def name(self) -> str:
        return recipe("sentence-transformers", self._path, *self._prefixes)

    @property
    def max_tokens(self) -> int:
        return int(self._loaded().max_seq_length or 512)

    def count_tokens(self, text: str) -> int:
        """Those of the text, special tokens and prefix included; a prompt of the model's own is not."""
        return len(self._loaded().tokenizer(self._prefixes[1] + text, truncation=False)["input_ids"])

    async def dimension(self) -> int:
        return int((await self.embed_queries(["dimension"])).shape[1])

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed(texts, self._prefixes[0], lambda model: model.encode_query)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed(texts, self._prefixes[1], lambda model: model.encode_document)

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._model = None

    async def _embed(
        self,
        texts: Sequence[str],
        prefix: str,
        with_prompt: Callable[[SentenceTransformer], Callable[..., NDArray[np.float32]]],
    ) -> NDArray[np.float32]:
        loop = asyncio.get_running_loop()
        run = loop.run_in_executor
        if not texts:
            return np.empty((0, await self.dimension()), dtype=np.float32)
        model = await run(self._executor, self._loaded)
        encode = model.encode if any(self._prefixes) else with_prompt(model)
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        ready = [prefix + texts[place].encode("utf-8", "replace").decode() for place in order]
        found = []
        for batch in batches(ready, self.count_tokens, tokens=self._batch_tokens, texts_at_most=MOST_TEXTS):
            found.append(await run(self._executor, _encode, encode, batch))
        vectors = unit_vectors(np.concatenate(found), count=len(texts), model=self.name)
        result = np.empty_like(vectors)
        result[order] = vectors
        return result

    def _loaded(self) -> SentenceTransformer:
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> SentenceTransformer:
        with load_error("embedder", self._path):
            import torch  # noqa: PLC0415 (seconds and hundreds of megabytes)
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415

            torch.set_num_threads(self._threads)
            return SentenceTransformer(self._path, device=self._device)


def _encode(encode: Callable[..., NDArray[np.float32]], texts: Sequence[str]) -> NDArray[np.float32]:
    return encode(list(texts), batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True)
