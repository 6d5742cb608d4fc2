"""A remembered vector is the vector, and costs no embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cache import CachedEmbedder
from models.embedders.bundled import BundledEmbedder

TEXTS = ["a text", "另一段文字", "a text"]


async def test_a_second_run_computes_nothing_and_gets_the_same_vectors(tmp_path: Path) -> None:
    first = CachedEmbedder([BundledEmbedder(), BundledEmbedder()], tmp_path)
    computed = await first.embed_passages(TEXTS)
    assert np.array_equal(computed, await BundledEmbedder().embed_passages(TEXTS))
    assert (first.computed, first.remembered) == (2, 0)
    await first.close()

    second = CachedEmbedder([BundledEmbedder(), BundledEmbedder()], tmp_path)
    assert np.array_equal(await second.embed_passages(TEXTS), computed)
    assert (second.computed, second.remembered) == (0, 2)
    assert second.saved_s > 0
    await second.close()


async def test_questions_are_embedded_anew_and_as_questions(tmp_path: Path) -> None:
    embedder = CachedEmbedder([BundledEmbedder(), BundledEmbedder()], tmp_path)
    passages = await embedder.embed_passages(TEXTS)
    assert not np.array_equal(await embedder.embed_queries(TEXTS), passages)
    assert embedder.computed == 2
    await embedder.close()
