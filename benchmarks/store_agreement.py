"""Do all stores find the same? `python -m benchmarks.store_agreement [--only STORE…] [FOLDER…]`.

The same 5,000 chunks go into each store and are searched for 200 questions, with all documents allowed and
with 1, 10 and 50 % of them. Prints a Markdown table:

- *keyword*: percent of questions whose ten best by BM25 are those of the exact store, up to ties.
- *nearest*: percent of the ten nearest vectors of the exact store that are found (recall@10).

Folders are data sets as `benchmarks/dataset.py` describes them; their documents are cut and embedded as the
service does it (vectors are kept in `~/.cache/rag-service-bench`). Without any, the chunks are made up:
Chinese and English text with words as unevenly common as in a language, vectors in clusters as an embedder's
are. The servers are those of the tests (`tests/servers`).
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: on busy cores its threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from benchmarks.dataset import Dataset, load
from core.text import question_terms, terms
from core.types import EmbeddedRecord, Hit, IndexKind, IndexName, ParsedDocument, Record, Vector
from ingest.chunkers.base import to_records
from models.embedders.base import Embedder
from stores.base import VectorStore
from stores.filters import Filter, Lt
from stores.memory import MemoryStore

CHUNKS = 5000
QUESTIONS = 200
SHARES = (1, 10, 50, 100)  # percent of the documents that a search may find
TOP = 10
INDEX = IndexName(f"agreement{os.getpid()}", 1, IndexKind.CHUNKS)
AT_ONCE = 4  # questions
TESTS = Path(__file__).parents[1] / "tests"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as stores get it."""

    terms: tuple[str, ...]
    vector: Vector


@dataclass(frozen=True, slots=True)
class Corpus:
    """What stores are filled with and asked. Metadata `percent` of a record, 0 to 99, is its document's."""

    records: Sequence[EmbeddedRecord]
    questions: Sequence[Asked]

    @property
    def dim(self) -> int:
        return len(self.records[0].vector)


@dataclass(frozen=True, slots=True)
class Answers:
    """For each share, and each question in order, the best by keyword and by vector."""

    keyword: Mapping[int, list[list[Hit]]]
    nearest: Mapping[int, list[list[Hit]]]


def share(percent: int) -> Filter | None:
    """The filter that allows so many percent of the documents."""
    return Lt("percent", percent) if percent < 100 else None


def generated(
    *, chunks: int = CHUNKS, questions: int = QUESTIONS, dim: int = 64, clustered: bool = True, seed: int = 0
) -> Corpus:
    """Chunks and questions that depend on nothing but the arguments.

    Without `clustered` the vectors of chunks and questions lie anywhere, which is harder for approximate
    searches than anything an embedder makes; otherwise each question lies near a chunk.
    """
    random = np.random.default_rng(seed)
    base, topics = _directions(random, 1, dim), _directions(random, 20, dim)
    documents = _directions(random, max(100, chunks // 25), dim)
    languages = [_vocabulary(random, chinese) for chinese in (False, True)]
    records, texts = [], []
    for number in range(chunks):
        document = number % len(documents)
        words, joint = languages[document % 2]
        texts.append(_sentence(random, words, int(random.integers(20, 90))))
        noise = _directions(random, 1, dim)[0]
        towards = 0.8 * base[0] + 0.45 * topics[document % 20] + 0.25 * documents[document] + 0.3 * noise
        record = Record(f"c{number:05}", f"d{document:04}", "r1", joint.join(texts[-1]), position=number)
        records.append(_embedded(record, _unit(towards if clustered else noise), document % 100))
    asked = []
    for number in range(questions):
        place, noise = int(random.integers(chunks)), _directions(random, 1, dim)[0]
        words = [*random.choice(texts[place], size=random.integers(1, 6)), *languages[number % 2][0][:1]]
        near = _unit(records[place].vector + 0.4 * noise) if clustered else noise
        asked.append(Asked(tuple(dict.fromkeys(chain.from_iterable(map(terms, words)))), near))
    return Corpus(records, asked)


async def embedded(
    folders: Sequence[Path], embedder: Embedder, *, chunks: int = CHUNKS, questions: int = QUESTIONS
) -> Corpus:
    """The first chunks of the documents in the data sets, and questions of each in turn."""
    # Tests load this file, and the service takes seconds.
    from core.settings import Settings  # noqa: PLC0415
    from rag_service.new_kb import default_chunking  # noqa: PLC0415
    from rag_service.wiring import make_chunker  # noqa: PLC0415

    datasets = [load(folder) for folder in folders]
    chunker = make_chunker(embedder, default_chunking(Settings()))
    records: list[tuple[Record, int]] = []
    for number, (name, document) in enumerate((d.name, each) for d in datasets for each in d.documents):
        parsed = ParsedDocument(document.text, title=document.title or None)
        made = to_records(
            await chunker.cut(parsed),
            parsed,
            document_id=f"{name}/{document.id}",
            revision="r1",
            title=document.title or document.id,
        )
        records += [(record, number % 100) for record in made]
        if len(records) >= chunks:
            break
    vectors = await embedder.embed_passages([record.indexed_text for record, _ in records[:chunks]])
    texts = [question.text for question in _in_turn(datasets)][:questions]
    asked = await embedder.embed_queries(texts)
    return Corpus(
        [_embedded(record, v, percent) for (record, percent), v in zip(records, vectors, strict=False)],
        [Asked(tuple(question_terms(text)), v) for text, v in zip(texts, asked, strict=True)],
    )


async def fill(store: VectorStore, corpus: Corpus) -> None:
    await store.drop_index(INDEX)
    await store.ensure_index(INDEX, dim=corpus.dim)
    await store.upsert(INDEX, corpus.records)


async def answers(store: VectorStore, corpus: Corpus, *, others: int = QUESTIONS) -> Answers:
    """What a store that was filled with the corpus answers; without text search, nothing by keyword.

    All questions are asked by keyword of all documents, and the first `others` in the other ways.
    """

    async def by_keyword(asked: Asked, where: Filter | None) -> list[Hit]:
        return await store.search_text(INDEX, asked.terms, k=TOP, where=where)

    async def by_vector(asked: Asked, where: Filter | None) -> list[Hit]:
        return await store.search_dense(INDEX, asked.vector, k=TOP, where=where)

    everything, some = corpus.questions, corpus.questions[:others]
    keyword = {}
    if store.capabilities.full_text:
        for percent in SHARES:
            asked = everything if percent == 100 else some
            keyword[percent] = await _all(by_keyword, asked, share(percent))
    return Answers(keyword, {percent: await _all(by_vector, some, share(percent)) for percent in SHARES})


async def exact_answers(corpus: Corpus, *, others: int = QUESTIONS) -> Answers:
    """What `MemoryStore` answers."""
    store = MemoryStore()
    await fill(store, corpus)
    return await answers(store, corpus, others=others)


def same_ranking(ours: Sequence[Hit], best: Sequence[Hit]) -> bool:
    """The same records in the same order, except that near-equal scores of the exact store may change places."""
    if len(ours) != len(best):
        return False
    scores = {hit.record.id: hit.score for hit in best}
    last = best[-1].score if best else 0.0
    return all(
        abs(scores.get(mine.record.id, last) - theirs.score) <= 1e-4 * max(1.0, theirs.score)
        for mine, theirs in zip(ours, best, strict=True)
    )


def agreement(found: Sequence[Sequence[Hit]], best: Sequence[Sequence[Hit]]) -> float:
    """The part of the rankings that are the same, in [0, 1]."""
    same = [same_ranking(ours, theirs) for ours, theirs in zip(found, best, strict=True)]
    return sum(same) / len(same)


def recall(found: Sequence[Sequence[Hit]], best: Sequence[Sequence[Hit]]) -> float:
    """The part of the best records that were found, in [0, 1]."""
    pairs = [(_ids(ours), _ids(theirs)) for ours, theirs in zip(found, best, strict=True)]
    return sum(len(ours & theirs) for ours, theirs in pairs) / sum(len(theirs) for _, theirs in pairs)


# --- making up a corpus


def _directions(random: np.random.Generator, number: int, dim: int) -> Vector:
    made = random.normal(size=(number, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def _unit(vector: Vector) -> Vector:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _vocabulary(random: np.random.Generator, chinese: bool, words: int = 2000) -> tuple[list[str], str]:
    """Words, the most common first, and what is written between them."""
    if not chinese:
        return [f"{chr(97 + n % 26)}word{n}" for n in range(words)], " "
    characters = [chr(0x4E00 + int(n)) for n in random.choice(2500, size=700, replace=False)]
    return ["".join(random.choice(characters, size=random.integers(2, 4))) for _ in range(words)], "，"


def _sentence(random: np.random.Generator, words: list[str], length: int) -> list[str]:
    weights = 1 / np.arange(3, len(words) + 3)
    return [str(word) for word in random.choice(words, size=length, p=weights / weights.sum())]


def _embedded(record: Record, vector: Vector, percent: int) -> EmbeddedRecord:
    kept = replace(record, metadata={"percent": percent})
    return EmbeddedRecord(kept, np.asarray(vector, dtype=np.float32), tuple(terms(record.indexed_text)))


def _in_turn(datasets: Iterable[Dataset]) -> Iterable[object]:
    rows = zip_longest(*(dataset.measurable for dataset in datasets))
    return (question for row in rows for question in row if question is not None)


# --- asking


async def _all(
    search: Callable[[Asked, Filter | None], Awaitable[list[Hit]]],
    questions: Sequence[Asked],
    where: Filter | None,
) -> list[list[Hit]]:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(asked: Asked) -> list[Hit]:
        async with places:
            return await search(asked, where)

    return await asyncio.gather(*map(one, questions))


def _ids(hits: Sequence[Hit]) -> set[str]:
    return {hit.record.id for hit in hits}


# --- the command line


async def _table(corpus: Corpus, kinds: Sequence[str] | None) -> None:
    sys.path += [str(TESTS / folder) for folder in ("servers", "contract", "stores")]
    from running import LOCAL, running  # noqa: PLC0415 - not a package, and only needed here
    from subjects import build  # noqa: PLC0415

    from benchmarks.retrieval import machine  # noqa: PLC0415

    best = await exact_answers(corpus)
    heads = [f"keyword {percent} %" for percent in SHARES] + [f"nearest {percent} %" for percent in SHARES]
    print(f"| store | {' | '.join(heads)} | filled in |")
    print("|---" * (len(heads) + 2) + "|")
    for kind in kinds or LOCAL:
        with running(kind) as server:
            store = build(kind, server.url)
            await store.open()
            start = time.perf_counter()
            await fill(store, corpus)
            seconds = time.perf_counter() - start
            found = await answers(store, corpus)
            await store.close()
        numbers = [_percent(agreement, found.keyword.get(share), best.keyword[share]) for share in SHARES]
        numbers += [_percent(recall, found.nearest[share], best.nearest[share]) for share in SHARES]
        name = f"{kind} ({server.lookalike})" if server.lookalike else kind
        print(f"| {name} | {' | '.join(numbers)} | {seconds:.0f} s |", flush=True)
    print(
        f"\n{len(corpus.records)} chunks of {corpus.dim} numbers, {len(corpus.questions)} questions, ", end=""
    )
    print(f"{machine()}, {datetime.now(UTC).date()}")


def _percent(
    measure: Callable[[list[list[Hit]], list[list[Hit]]], float],
    found: list[list[Hit]] | None,
    best: list[list[Hit]],
) -> str:
    return "none" if found is None else f"{100 * measure(found, best):.1f}"


async def _main(folders: Sequence[Path], kinds: Sequence[str] | None, random: bool) -> None:
    if not folders:
        await _table(generated(clustered=not random), kinds)
        return
    from benchmarks.cache import bundled, default_folder  # noqa: PLC0415

    embedder = bundled(default_folder())
    try:
        corpus = await embedded(folders, embedder)
    finally:
        await embedder.close()
    await _table(corpus, kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="*", help="data sets; without any, chunks are made up")
    parser.add_argument("--only", nargs="+", metavar="STORE", help="these stores")
    parser.add_argument("--random", action="store_true", help="made-up vectors without clusters")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.folders, arguments.only, arguments.random))
    return 0


if __name__ == "__main__":
    sys.exit(main())
