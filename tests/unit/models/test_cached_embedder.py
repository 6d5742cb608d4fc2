"""Does a text that was embedded before cost nothing, and does the memory stay true, small and expendable?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.embedders.cached import QUESTIONS, CachedEmbedder


class FakeEmbedder:
    """A vector is made of a hash of the text; counts the texts that it was asked for."""

    max_tokens = 512

    def __init__(self, name: str = "fake", dim: int = 8) -> None:
        self.name = name
        self._dim = dim
        self.asked: list[str] = []

    async def dimension(self) -> int:
        return self._dim

    def count_tokens(self, text: str) -> int:
        return len(text)

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self.embed_passages(texts)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        rows = [np.random.default_rng(abs(hash(text))).random(self._dim) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self._dim)

    async def close(self) -> None: ...


async def test_a_text_is_embedded_once_also_after_a_restart(tmp_path: Path) -> None:
    inner = FakeEmbedder()
    first = CachedEmbedder(inner, tmp_path / "cache" / "v.sqlite", max_mb=10)
    wanted = await first.embed_passages(["a", "b", "a"])
    assert inner.asked == ["a", "b"]
    await first.close()
    again = CachedEmbedder(inner, tmp_path / "cache" / "v.sqlite", max_mb=10)
    [a, _, b] = await again.embed_passages(["a", "c", "b"])
    np.testing.assert_array_equal([a, b, a], wanted)
    assert inner.asked == ["a", "b", "c"]
    assert (await again.embed_passages([])).shape == (0, 8)
    await again.close()


async def test_questions_are_remembered_until_the_next_ones_and_never_as_passages(tmp_path: Path) -> None:
    inner = FakeEmbedder()
    embedder = CachedEmbedder(inner, tmp_path / "v", max_mb=10)
    [[a], [b, again, c]] = [await embedder.embed_queries(texts) for texts in (["a"], ["b", "a", "c"])]
    np.testing.assert_array_equal(a, again)
    np.testing.assert_array_equal([b, c], await embedder.embed_queries(["b", "c"]))
    await embedder.embed_passages(["a"])
    assert inner.asked == ["a", "b", "c", "a"]
    inner.asked.clear()
    await embedder.embed_queries(["a"])  # used last, so it goes last
    await embedder.embed_queries([f"question {n}" for n in range(QUESTIONS - 1)])
    await embedder.embed_queries(["a", "b"])
    assert len(inner.asked) == QUESTIONS
    assert inner.asked[-1] == "b"
    many = [f"more {n}" for n in range(2 * QUESTIONS)]
    assert (await embedder.embed_queries(many)).shape == (2 * QUESTIONS, 8)
    assert (await embedder.embed_queries([])).shape == (0, 8)
    await embedder.close()


async def test_vectors_of_another_model_are_not_taken(tmp_path: Path) -> None:
    for name, dim in (("one", 8), ("two", 4)):
        embedder = CachedEmbedder(FakeEmbedder(name, dim), tmp_path / "v", max_mb=10)
        assert (await embedder.embed_passages(["a"])).shape == (1, dim)
        await embedder.close()


async def test_it_stays_below_its_size_and_forgets_what_was_unused_for_longest(tmp_path: Path) -> None:
    inner = FakeEmbedder(dim=1000)  # 4 KB each
    embedder = CachedEmbedder(inner, tmp_path / "v", max_mb=1)
    for start in range(0, 600, 20):
        await embedder.embed_passages(["kept", *(str(n) for n in range(start, start + 20))])
    assert (tmp_path / "v").stat().st_size < 1.3 * 2**20
    inner.asked.clear()
    await embedder.embed_passages(["kept", "599", "0"])
    assert inner.asked == ["0"]
    await embedder.close()


async def test_several_at_once_and_odd_texts(tmp_path: Path) -> None:
    embedders = [CachedEmbedder(FakeEmbedder(), tmp_path / "v", max_mb=10) for _ in range(4)]
    texts = ["", "\x00", "\ud800", "年假" * 5000, *map(str, range(40))]
    results = await asyncio.gather(*(embedder.embed_passages(texts) for embedder in embedders))
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    for embedder in embedders:
        await embedder.close()


@pytest.mark.parametrize("spoil", ["garbage", "folder"])
async def test_a_file_that_cannot_be_used_is_logged_and_texts_are_embedded_anyway(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    path = tmp_path / "v"
    path.mkdir() if spoil == "folder" else path.write_bytes(b"no database " * 500)
    inner = FakeEmbedder()
    embedder = CachedEmbedder(inner, path, max_mb=10)
    with caplog.at_level(logging.WARNING):
        assert (await embedder.embed_passages(["a"])).shape == (1, 8)
    assert "may be removed" in caplog.text
    await embedder.close()
