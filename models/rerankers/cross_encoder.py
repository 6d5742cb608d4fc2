"""How do we rerank with a cross-encoder of the sentence-transformers library? (extra `sentence-transformers`)"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from core.errors import ModelError, ModelTimeout
from models.torch_models import load_error

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

BATCH = 16  # pairs at a time


class CrossEncoderModel:
    """A model in this process: `model` is a folder, or a name that the library fetches from its hub.

    `device` as torch names it (None: the best there is). One question at a time, in a thread of its own; an answer
    that takes longer than `timeout_s` is `ModelTimeout` (the thread ends its work first, then takes the next).
    The first question also loads the model.
    """

    def __init__(
        self, *, model: str, device: str | None = None, threads: int = 1, timeout_s: float = 30.0
    ) -> None:
        self._path = model
        self._device = device
        self._threads = threads
        self._timeout_s = timeout_s
        self._model: CrossEncoder | None = None
        self._loading = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reranker")

    @property
    def name(self) -> str:
        return f"cross-encoder {self._path}"

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        pairs = [(_clean(question), _clean(text)) for text in texts]
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._predict, pairs)
        try:
            async with asyncio.timeout(self._timeout_s):
                scores = await work
        except TimeoutError:
            raise ModelTimeout(
                f"{self.name} took longer than {self._timeout_s:g} s.",
                hint="Raise reranker.timeout_s, or lower reranker.pool.",
            ) from None
        if scores.shape != (len(texts),) or not np.isfinite(scores).all():
            raise ModelError(
                f"{self.name} gave scores of shape {scores.shape} for {len(texts)} texts.",
                hint="reranker.model must be a model with one output.",
            )
        return [float(score) for score in scores]

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._model = None

    def _predict(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        return np.asarray(self._loaded().predict(pairs, batch_size=BATCH, show_progress_bar=False))

    def _loaded(self) -> CrossEncoder:
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> CrossEncoder:
        with load_error("reranker", self._path):
            import torch  # noqa: PLC0415 (seconds and hundreds of megabytes)
            from sentence_transformers import CrossEncoder  # noqa: PLC0415

            torch.set_num_threads(self._threads)
            return CrossEncoder(self._path, device=self._device)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # lone surrogates
