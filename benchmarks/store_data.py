"""What do stores hold when they are measured? Chunks whose vectors and words are like real ones, by a fixed seed.

Vectors resemble those that multilingual-e5-small makes of Wikipedia passages (10,117 of them were looked at): two
chance ones have a cosine of 0.74, the tenth nearest one of about 0.89, and the variance falls along the axes.
Chunks of one document are near each other. Words are as unevenly common as those of a language (Zipf's law).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidValue
from core.text import terms
from core.types import EmbeddedRecord, Record, Vector, derived_id

CHUNKS_PER_DOCUMENT = 20
WORDS_PER_CHUNK = 120
VOCABULARY = 50_000
WORDS_PER_QUESTION = 6

_COMMON, _TOPIC, _DOCUMENT, _OWN = 0.74, 0.10, 0.09, 0.07  # shares of a vector's squared length


@dataclass(frozen=True, slots=True)
class Question:
    """A vector near one chunk, and words of it."""

    vector: Vector
    terms: tuple[str, ...]


class Corpus:
    """`size` chunks with vectors of shape (size, dim), and questions about them.

    `vectors` are to be used in place of made-up ones (float32, of unit length); those behind `size` become
    the questions'.
    """

    def __init__(self, size: int, dim: int, *, vectors: NDArray[np.float32] | None = None) -> None:
        random = np.random.default_rng(20)
        self.size = size
        self.documents = max(1, size // CHUNKS_PER_DOCUMENT)
        self._made = vectors is None
        self._all = _made_up(size, dim, random) if vectors is None else vectors
        self.vectors = self._all[:size]
        share = 1 / np.arange(3, VOCABULARY + 3)
        self._words = random.choice(VOCABULARY, size=(size, WORDS_PER_CHUNK), p=share / share.sum())

    @classmethod
    def of_file(cls, size: int, path: Path) -> Corpus:
        """With the vectors of a NumPy file. Raises `InvalidValue` if it holds too few."""
        vectors = np.load(path).astype(np.float32)
        if len(vectors) <= size:
            raise InvalidValue(
                f"{path} has {len(vectors)} vectors; {size} chunks and some questions need more.",
                hint="Ask for fewer chunks.",
            )
        return cls(size, vectors.shape[1], vectors=vectors)

    def document(self, place: int) -> str:
        return f"d{place % self.documents}"

    def places(self, documents: int) -> NDArray[np.intp]:
        """Where the chunks of the first `documents` documents are."""
        return np.flatnonzero(np.arange(self.size) % self.documents < documents)

    def batches(self, length: int) -> Iterator[list[EmbeddedRecord]]:
        for start in range(0, self.size, length):
            yield [self._record(place) for place in range(start, min(start + length, self.size))]

    def questions(self, number: int) -> list[Question]:
        random = np.random.default_rng(21)
        return [self._question(place, random) for place in random.integers(self.size, size=number)]

    def nearest(self, vector: Vector, k: int, places: NDArray[np.intp]) -> set[str]:
        """The ids of the right answer, among the chunks at these places."""
        cosines = self.vectors[places] @ vector
        return {_id(place) for place in places[np.argsort(-cosines, kind="stable")[:k]]}

    def _record(self, place: int) -> EmbeddedRecord:
        text = " ".join(f"w{word}" for word in self._words[place])
        record = Record(
            id=_id(place),
            document_id=self.document(place),
            revision="r1",
            text=text,
            header="Handbook",
            section="Handbook",
            start=0,
            end=len(text),
            position=place // self.documents,
            metadata={"source": "benchmark", "year": 2000 + place % 25},
        )
        return EmbeddedRecord(record, self.vectors[place], tuple(terms(record.indexed_text)))

    def _question(self, place: int, random: np.random.Generator) -> Question:
        own = self._words[place]
        words = random.choice(np.unique(own), size=WORDS_PER_QUESTION, replace=False)
        if self._made:
            noise = _axes(len(self.vectors[0]), 1, random)[0]
            vector = self.vectors[place] + np.float32(np.sqrt(_OWN)) * noise
        else:
            vector = self._all[random.integers(self.size, len(self._all))]
        return Question(_unit(vector[None])[0], tuple(f"w{word}" for word in words))


def _id(place: int) -> str:
    return derived_id("chunk", int(place))


def _made_up(size: int, dim: int, random: np.random.Generator) -> NDArray[np.float32]:
    documents, topics = max(1, size // CHUNKS_PER_DOCUMENT), max(1, size // 400)
    document = np.arange(size) % documents
    topic = random.integers(topics, size=documents)[document]
    parts = (
        (_COMMON, np.ones((1, dim), dtype=np.float32) / np.float32(np.sqrt(dim))),
        (_TOPIC, _axes(dim, topics, random)[topic]),
        (_DOCUMENT, _axes(dim, documents, random)[document]),
        (_OWN, _axes(dim, size, random)),
    )
    return _unit(sum((np.float32(np.sqrt(share)) * part for share, part in parts), np.float32(0)))


def _axes(dim: int, number: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Directions at random, in which each axis counts less than the one before it."""
    normal = random.standard_normal((number, dim), dtype=np.float32)
    return _unit(normal / np.sqrt(np.arange(1, dim + 1, dtype=np.float32)))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
