"""Chunks that end where the subject changes, as the embedder sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core.types import ParsedDocument, Span
from ingest.chunkers.base import Piece
from ingest.chunkers.packing import Packer, is_heading, readable_regions
from models.embedders.base import Embedder

BATCH = 64  # sentences embedded at a time


class SemanticChunker:
    """Ends a chunk where neighbouring sentences are further apart than is usual in the document, or where it is full.

    The distance between two neighbours is one minus the cosine of their vectors; a break is where it is above the
    `breakpoint` percentile of all distances of the document (Kamradt 2023, "5 Levels of Text Splitting"; LlamaIndex's
    SemanticSplitterNodeParser does the same, but knows no longest chunk and embeds a whole document at once).
    Every sentence is embedded: reading takes about twice as long as with the default strategy.
    """

    def __init__(self, packer: Packer, embedder: Embedder, *, breakpoint: int) -> None:
        self._packer = packer
        self._embedder = embedder
        self._breakpoint = breakpoint

    @property
    def name(self) -> str:
        return f"semantic-{self._packer.limit:g}-{self._breakpoint}-{self._packer.max_tokens}"

    async def cut(self, document: ParsedDocument) -> list[Piece]:
        text = document.text
        found = [list(self._packer.pieces(text, region)) for region in readable_regions(document)]
        distances = await self._distances(text, [sentence for region in found for sentence in region])
        far = float(np.percentile(distances, self._breakpoint)) if distances else 0.0
        pieces: list[Piece] = []
        first = 0  # number of the region's first sentence
        for region in found:
            between = distances[first : first + len(region) - 1]
            if between and is_heading(document, region[0]):
                between[0] = 0.0  # a heading alone says nothing
            for group in _groups(region, between, far):
                pieces += [Piece(span) for span in self._packer.join(text, group)]
            first += len(region)
        return pieces

    async def _distances(self, text: str, found: Sequence[Span]) -> list[float]:
        """Between each sentence and the next; no more than a batch of vectors is kept in memory."""
        distances: list[float] = []
        last: NDArray[np.float32] | None = None
        for start in range(0, len(found), BATCH):
            batch = [text[span.start : span.end] for span in found[start : start + BATCH]]
            vectors = await self._embedder.embed_passages(batch)
            if last is not None:
                vectors = np.concatenate([last, vectors])
            distances += [1 - float(a @ b) for a, b in pairwise(vectors)]
            last = vectors[-1:]
        return distances


def _groups(region: Sequence[Span], distances: Sequence[float], far: float) -> Iterator[list[Span]]:
    """The region's sentences in groups without a distance above `far` inside."""
    group: list[Span] = []
    for number, sentence in enumerate(region):
        if group and distances[number - 1] > far:
            yield group
            group = []
        group.append(sentence)
    if group:
        yield group
