"""Do stores find what the exact store finds, among 5,000 chunks? The same ones in each, made up or real.

`RAG_TEST_DATA` names folders with data sets (with colons between them, see `benchmarks.store_agreement`), to
take real chunks from instead of made-up ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from store_contract import Subject, refuses_text

from benchmarks import store_agreement as data
from stores.base import VectorStore

T = TypeVar("T")

# Taken out of the environment, where the service would refuse it as an unknown setting.
_DATA = os.environ.pop("RAG_TEST_DATA", None)

LEAST_AGREEMENT = 0.95  # of rankings by keyword
LEAST_RECALL = 0.98  # in the ten nearest


class StoreAgreement:
    """Part of `store_spec.StoreSpec`."""

    @pytest.fixture(scope="class")
    @classmethod
    def corpus(cls, subject: Subject) -> data.Corpus:
        return _corpus(subject.slow)

    @pytest.fixture(scope="class")
    @classmethod
    def exact(cls, subject: Subject) -> data.Answers:
        return _exact(subject.slow)

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def filled(
        cls, subject: Subject, store: VectorStore, corpus: data.Corpus
    ) -> AsyncIterator[VectorStore]:
        await data.fill(store, corpus)
        yield store
        if not subject.slow:
            await store.drop_index(data.INDEX)

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def answers(cls, subject: Subject, filled: VectorStore, corpus: data.Corpus) -> data.Answers:
        return await data.answers(filled, corpus, others=_others(subject.slow))

    @pytest.mark.parametrize("percent", data.SHARES)
    async def test_rankings_by_keyword_are_those_of_the_exact_store(
        self, filled: VectorStore, answers: data.Answers, exact: data.Answers, percent: int
    ) -> None:
        if not await refuses_text(filled, data.INDEX):
            same = data.agreement(answers.keyword[percent], exact.keyword[percent])
            assert same >= LEAST_AGREEMENT

    @pytest.mark.parametrize("percent", data.SHARES)
    async def test_the_nearest_are_found_among_many_and_under_filters(
        self, answers: data.Answers, exact: data.Answers, percent: int
    ) -> None:
        assert data.recall(answers.nearest[percent], exact.nearest[percent]) >= LEAST_RECALL

    async def test_term_stats_of_many_chunks_are_exact(
        self, filled: VectorStore, corpus: data.Corpus
    ) -> None:
        if await refuses_text(filled, data.INDEX):
            return
        words = sorted({term for embedded in corpus.records[:20] for term in embedded.terms})[:60]
        stats = await filled.term_stats(data.INDEX, words)
        assert stats.total == len(corpus.records)
        assert stats.document_frequency == {
            word: sum(word in embedded.terms for embedded in corpus.records) for word in words
        }


@cache
def _corpus(slow: bool) -> data.Corpus:
    chunks, questions = (500, 40) if slow else (data.CHUNKS, data.QUESTIONS)
    if _DATA is None:
        return data.generated(chunks=chunks, questions=questions)
    return _run(_real([Path(folder) for folder in _DATA.split(":")], chunks, questions))


@cache
def _exact(slow: bool) -> data.Answers:
    return _run(data.exact_answers(_corpus(slow), others=_others(slow)))


def _others(slow: bool) -> int:
    """How many questions are asked in other ways than by keyword of all documents."""
    return 10 if slow else 40


async def _real(folders: list[Path], chunks: int, questions: int) -> data.Corpus:
    from benchmarks.cache import bundled, default_folder

    embedder = bundled(default_folder())
    try:
        return await data.embedded(folders, embedder, chunks=chunks, questions=questions)
    finally:
        await embedder.close()


def _run(coroutine: Coroutine[object, object, T]) -> T:
    """In a loop of its own, which does not become the current one."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)
