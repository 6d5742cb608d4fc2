"""Which way of cutting suits the documents of this knowledge base? Tried on a sample, in memory, and measured.

Every candidate goes through the service's own pipeline, search and expansion; only the store is a memory one. The
sample and the time are bounded, so this is a comparison of candidates with each other, not a benchmark.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from core.db import documents
from core.db.documents import Live
from core.db.session import Database
from core.text import language as language_of
from core.text import sentences, squeezed, terms, weight
from core.types import IndexKind, ParsedDocument, Passage, Query
from ingest.chunkers.base import Chunking, Strategy
from ingest.pipeline import IngestPipeline, Source, Target
from ingest.summarise import always_extractive
from models.embedders.base import Embedder, Embedders
from models.llm.base import LLM, Message, Role, complete
from models.llm.sampling import SamplingParams
from rag_service.preview import first_characters
from rag_service.wiring import make_chunker
from rerankers.rerank import CoverageReranker
from retrievers.base import Mode, Scope
from retrievers.documents import Place
from retrievers.expand import Expander
from retrievers.structure import Structure
from retrievers.two_stage import TwoStageRetriever
from stores.live import LiveStores
from stores.memory import MemoryStore

PROMPT_TOKENS = (
    1200  # of passages that the evidence must be found in: what the prompt of a small model has room for
)
TOP_K = 5
POOL = 40
# What is tried unless the caller says otherwise: the sizes and strategies that differ most.
CANDIDATES = (
    Chunking(),
    Chunking(characters=200),
    Chunking(characters=800),
    Chunking(strategy=Strategy.HEADING_TREE, characters=600),
    Chunking(strategy=Strategy.PARENT_CHILD),
    Chunking(strategy=Strategy.TABLE_AWARE),
    Chunking(strategy=Strategy.RECURSIVE, characters=400, overlap=50),
)
CLOZE_WEIGHT = (12.0, 80.0)  # Chinese characters of a sentence that a question can be made of
INSTRUCTION = {
    "zh": "下面是文档中的一句话和它的上下文。请写一个只有这句话才能回答的问题，不要照抄原文，只输出问题。\n"
    "上下文：```\n{context}\n```\n这句话：{sentence}\n问题：",
    "en": "Below are a sentence of a document and its context. Write one question that this sentence answers, in other "
    "words than it uses. Write only the question.\nContext: ```\n{context}\n```\nSentence: {sentence}\nQuestion:",
}


@dataclass(frozen=True, slots=True)
class TuneDocument:
    id: str
    name: str
    parsed: ParsedDocument


@dataclass(frozen=True, slots=True)
class TuneQuestion:
    """A question; a passage answers it if it holds `evidence`, or (without) belongs to `document` (a name)."""

    question: str
    evidence: str = ""
    document: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate: shares in [0, 1], its chunks, and the seconds it took. `finished`: False where time ran out."""

    chunking: Chunking
    finished: bool
    chunks: int = 0
    recall_at_5: float = 0.0
    mrr: float = 0.0
    support: float = 0.0
    seconds: float = 0.0

    def rank(self, current: Chunking | None = None) -> tuple[float, float, float, bool, int]:
        """Larger is better: what the prompt sees decides, then the order, what is so now, the fewer chunks."""
        alike = (round(self.support, 2), round(self.mrr, 2), round(self.recall_at_5, 2))  # as they are shown
        return (*alike, self.chunking == current, -self.chunks)

    @property
    def finds(self) -> bool:
        """Whether it finds what answers any question."""
        return self.finished and bool(self.support or self.recall_at_5)


async def sampled(
    database: Database, kb_id: str, characters: int, *, first: Collection[str] = ()
) -> list[TuneDocument]:
    """Documents of about `characters` (weighted) together, the same ones each time; those named `first` before others.

    A document that is longer than what is left is cut off. Ids are hashes, so their order is as good as chance.
    """
    chosen: list[TuneDocument] = []
    room = float(characters)
    async with database.transaction() as session:
        known = await documents.searchable(session, kb_id)
        for live in sorted(known, key=lambda live: (live.name not in first, live.id)):
            parsed = await documents.get_text(session, live.id, live.revision)
            if parsed is None:
                continue
            whole = max(weight(parsed.text), 1.0)
            if whole > room:
                parsed = first_characters(parsed, max(int(len(parsed.text) * room / whole), 1))
            chosen.append(TuneDocument(live.id, live.name, parsed))
            room -= whole
            if room <= 0:
                break
    return [document for document in chosen if document.parsed.text.strip()]


def cloze_questions(among: Sequence[TuneDocument], count: int) -> list[TuneQuestion]:
    """Questions without a model: a sentence of rare words without its rarest one; the sentence is the evidence.

    They repeat words of the text, so they flatter keyword search, and say nothing of questions in other words or
    another language. They do tell whether the place is found, and whether the prompt holds it.
    """
    found = [(document, text) for document in among for text in _sentences_to_ask(document.parsed)]
    frequency = Counter(term for _, text in found for term in set(terms(text)))
    scored = sorted(found, key=lambda pair: (-_rarity(pair[1], frequency), pair[1]))
    by_document: dict[str, list[tuple[TuneDocument, str]]] = {}
    for document, text in scored:
        by_document.setdefault(document.id, []).append((document, text))
    chosen = list(_in_turns(list(by_document.values())))[:count]
    return [TuneQuestion(_without_rarest(text, frequency), text, document.name) for document, text in chosen]


async def llm_questions(
    among: Sequence[TuneDocument], count: int, llm: LLM, *, seconds: float
) -> list[TuneQuestion]:
    """Questions that the language model asks about the sentences of `cloze_questions`, as many as time allows."""
    by_name = {document.name: document for document in among}
    until = time.monotonic() + seconds
    questions: list[TuneQuestion] = []
    for cloze in cloze_questions(among, count):
        if time.monotonic() > until:
            break
        asked = await _ask_for_question(by_name[cloze.document].parsed.text, cloze.evidence, llm)
        if asked:
            questions.append(replace(cloze, question=asked))
    return questions


async def _ask_for_question(text: str, sentence: str, llm: LLM) -> str:
    at = text.index(sentence)
    context = text[max(at - 300, 0) : at + len(sentence) + 300].replace("```", "'''")
    prompt = INSTRUCTION[language_of(sentence)].format(context=context, sentence=sentence)
    params = SamplingParams(max_new_tokens=80, temperature=0.0)
    answer = await complete(llm, [Message(Role.USER, prompt)], params)
    return answer.strip().partition("\n")[0][:500]


def _sentences_to_ask(parsed: ParsedDocument) -> Iterator[str]:
    least, most = CLOZE_WEIGHT
    for span in sentences(parsed.text):
        text = parsed.text[span.start : span.end]
        if least <= weight(text) <= most and len(set(terms(text))) >= 5 and text[0] not in "|#":
            yield text


def _rarity(text: str, frequency: Mapping[str, int]) -> float:
    return fmean(1 / frequency[term] for term in set(terms(text)))


def _without_rarest(text: str, frequency: Mapping[str, int]) -> str:
    """The sentence without its rarest word (of equals the longest), which would be the answer."""
    words = [w for w in text.replace("，", " ").replace("。", " ").split() if terms(w)]
    if len(words) < 4:  # Chinese: cut the rarest stretch of four characters
        place = max(
            range(0, max(len(text) - 4, 1)),
            key=lambda i: sum(1 / frequency[t] for t in terms(text[i : i + 4]) if frequency[t]),
        )
        return (text[:place] + text[place + 4 :]).strip()
    rarest = min(words, key=lambda w: (min(frequency[t] for t in terms(w)), -len(w)))
    return " ".join(text.replace(rarest, "", 1).split())


def _in_turns(groups: Sequence[Sequence[tuple[TuneDocument, str]]]) -> Iterator[tuple[TuneDocument, str]]:
    """One of each group, then the second of each …"""
    for number in range(max(map(len, groups), default=0)):
        yield from (group[number] for group in groups if number < len(group))


class _Remembering:
    """An embedder that embeds no passage twice: candidates share many chunks and all sentences."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}
        self.name, self.max_tokens = embedder.name, embedder.max_tokens

    async def dimension(self) -> int:
        return await self._embedder.dimension()

    def count_tokens(self, text: str) -> int:
        return self._embedder.count_tokens(text)

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return await self._embedder.embed_queries(texts)

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, await self._embedder.embed_passages(new), strict=True))
        return np.stack([self._known[text] for text in texts])

    async def close(self) -> None:
        return


@dataclass(slots=True)
class _Sample:
    """The sampled documents, as retrieval asks for them; `revision` is that of the candidate being measured."""

    documents: Mapping[str, TuneDocument]
    revisions: dict[str, str] = field(default_factory=dict)

    async def live(self, scope: Scope, document_ids: Collection[str]) -> dict[str, Live]:
        return {i: Live(i, self.documents[i].name, self.revisions[i]) for i in document_ids}

    async def foreign(self, scope: Scope, language: str) -> tuple[str, ...]:
        return tuple(i for i, each in self.documents.items() if language_of(each.parsed.text) != language)

    async def texts(self, places: Sequence[Place]) -> list[str | None]:
        return [self.documents[p.document_id].parsed.text[p.span.start : p.span.end] for p in places]

    async def layout(self, document_id: str, revision: str) -> ParsedDocument | None:
        return replace(self.documents[document_id].parsed, text="")


class Tuner:
    """Measures candidates one after the other on the same documents and questions."""

    def __init__(
        self, among: Sequence[TuneDocument], questions: Sequence[TuneQuestion], embedder: Embedder
    ) -> None:
        self._documents = among
        self._questions = questions
        self._embedder = _Remembering(embedder)

    async def measure(
        self, candidates: Sequence[Chunking], *, seconds: float
    ) -> AsyncGenerator[Measured, None]:
        """Each candidate's result as it is known; those that time does not suffice for are not finished."""
        until = time.monotonic() + seconds
        for chunking in candidates:
            start = time.monotonic()
            try:
                async with asyncio.timeout(max(until - start, 0)):
                    measured = await self._measure(chunking)
            except TimeoutError:
                yield Measured(chunking, finished=False, seconds=round(time.monotonic() - start, 1))
                continue
            yield replace(measured, seconds=round(time.monotonic() - start, 1))

    async def _measure(self, chunking: Chunking) -> Measured:
        kept = _Sample({document.id: document for document in self._documents})
        scope, chunks = await self._index(chunking, kept)
        retriever = TwoStageRetriever(documents=kept, chosen=20)
        expander = Expander(kept)
        results = []
        for question in self._questions:
            query = Query(question.question, (question.question,))
            found = (await retriever.retrieve(query, scope, mode=Mode.UNION, pool=POOL)).passages
            wanted = expander.wanted(found, 2 * TOP_K, Structure())
            ranked = (await CoverageReranker().rerank(query, found, top_k=wanted))[:wanted]
            expanded = await expander.expand(ranked, top_k=2 * TOP_K, how=Structure())
            results.append(_score(question, expanded.passages, self._embedder.count_tokens))
        recall, mrr, support = (fmean(column) for column in zip(*results, strict=True))
        return Measured(chunking, True, chunks, round(recall, 3), round(mrr, 3), round(support, 3))

    async def _index(self, chunking: Chunking, kept: _Sample) -> tuple[Scope, int]:
        store = MemoryStore()
        target = Target("tune", 1, store.kind, self._embedder.name, chunking)

        async def parse(path: Path, name: str) -> ParsedDocument:
            return kept.documents[str(path)].parsed

        async def report(stage: str, done: int, total: int) -> None:
            await asyncio.sleep(0)

        pipeline = IngestPipeline(
            parse=parse,
            make_chunker=make_chunker,
            summariser_of=always_extractive,
            embedders=Embedders(self._embedder),
            stores=LiveStores.of(store),
        )
        for document in self._documents:
            await pipeline.run(
                Source(document.id, document.name, document.id, Path(document.id)), target, report
            )
            kept.revisions[document.id] = pipeline.revision(target, document.id)
        return Scope("tune", 1, store, self._embedder), await store.count(target.index(IndexKind.CHUNKS))


def _score(
    question: TuneQuestion, passages: Sequence[Passage], count_tokens: Callable[[str], int]
) -> tuple[float, float, float]:
    """Recall at 5, reciprocal rank, and support: each 1 at best."""
    ranks = [rank for rank, passage in enumerate(passages, 1) if _answers(question, passage, passage.text)]
    room = PROMPT_TOKENS
    supported = False
    for passage in passages:
        tokens = count_tokens(passage.text)
        seen = passage.text if tokens <= room else passage.text[: len(passage.text) * room // tokens]
        supported = supported or _answers(question, passage, seen)
        room -= tokens
        if room <= 0:
            break
    first = min(ranks, default=math.inf)
    return float(first <= TOP_K), 1 / first, float(supported)


def _answers(question: TuneQuestion, passage: Passage, text: str) -> bool:
    if question.evidence:
        return squeezed(question.evidence) in squeezed(text)
    return question.document == passage.document_name
