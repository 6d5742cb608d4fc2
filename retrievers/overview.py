"""What answers a question about whole documents? Their summaries, or of each document the sentence on the topic.

A summary that a model wrote cannot be quoted: the passage quotes the document's own key sentences, which were chosen
when it was read, and the written summary only leads them in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from core.errors import NotFound
from core.text import FACT, HEADING_MARK, is_cjk, question_terms, sentences, simplified, term_finder, terms
from core.types import Hit, IndexKind, Passage, Query, Record, Span
from retrievers.base import Mode, Retriever, Scope
from retrievers.documents import Documents, Place
from retrievers.fusion import coverage, inverse_document_frequency
from retrievers.two_stage import within
from retrievers.whole_document import Kind, WholeDocumentQuestion
from stores.filters import And, Eq

ABOUT_DOCUMENTS = 3  # told about where the question names none
ABOUT_SECTIONS = 5  # of one document, whose summaries are told, too
WHICH_DOCUMENTS = 10
WHICH_POOL = 200  # chunks on the topic, from which each document's best is taken
LEAST_COVERAGE = 0.65  # of the topic's words, by rarity, in a document that covers it
HALF = 0.5  # where no document holds so much of the topic, words cannot tell
BELOW_BEST = 0.1  # as much less may a document hold where none holds enough
# Below the best: as near a document in the other script must be where none has the words.
LEAST_CLOSENESS = 0.02
SEARCHED = 50  # summaries
# Terms of a question about a whole document that name none.
_GENERIC = frozenset(
    terms(
        "summarise summarize summary overview gist outline main mainly content topic subject purpose say cover contain "
        "describe discuss all please give short brief tell show document doc file"
    )
)
LONGEST_STRETCH = 200_000  # characters between a summary's first and last key sentence


class OverviewRetriever:
    """Finds passages that stand for whole documents."""

    def __init__(self, *, documents: Documents, retriever: Retriever) -> None:
        self._documents = documents
        self._retriever = retriever

    async def retrieve(self, question: WholeDocumentQuestion, scope: Scope) -> list[Passage]:
        """The documents, best first, each as a passage (of a single one asked about also its sections)."""
        if question.kind == Kind.WHICH:
            return await self._which(question.topic, scope)
        return await self._about(question, scope)

    async def _about(self, asked: WholeDocumentQuestion, scope: Scope) -> list[Passage]:
        try:
            found = await self._summaries(asked.topic, scope)
        except NotFound:  # nothing was ever indexed here
            return []
        live = await self._documents.live(scope, {hit.record.document_id for hit in found})
        hits = [h for h in found if (d := live.get(h.record.document_id)) and d.revision == h.record.revision]
        names = {hit.record.document_id: live[hit.record.document_id].name for hit in hits}
        named = _named(asked, [(hit, _titles(names[hit.record.document_id], hit.record)) for hit in hits])
        if asked.name and not named:
            return []
        chosen = (named or hits)[:ABOUT_DOCUMENTS]
        if len(chosen) == 1:
            chosen += await self._sections(chosen[0].record, scope)
        return [replace(p, kb=scope.kb_name) for p in await self._passages(chosen, names)]

    async def _summaries(self, question: str, scope: Scope) -> list[Hit]:
        """Summaries of whole documents, the nearest first; those whose words fit are among them."""
        index, store = scope.index(IndexKind.SUMMARIES), scope.store
        inside = within(scope.document_ids)
        where = And((Eq("position", 0), inside)) if inside else Eq("position", 0)
        vector = (await scope.embedder.embed_queries([question]))[0]
        dense = await store.search_dense(index, vector, k=SEARCHED, where=where)
        lexical = await store.search_text(index, question_terms(question), k=SEARCHED, where=where)
        near = {hit.record.id for hit in dense}
        return [*dense, *(Hit(hit.record, 0.0) for hit in lexical if hit.record.id not in near)]

    async def _sections(self, record: Record, scope: Scope) -> list[Hit]:
        """The first section summaries of the document, in order."""
        index = scope.index(IndexKind.SUMMARIES)
        of_document = Eq("document_id", record.document_id), Eq("revision", record.revision)
        total = await scope.store.count(index, where=And(of_document))
        if total < 2:
            return []
        vector = (await scope.embedder.embed_queries([record.text]))[0]
        hits = await scope.store.search_dense(index, vector, k=total, where=And(of_document))
        parts = sorted((hit for hit in hits if hit.record.position), key=lambda hit: hit.record.position)
        return parts[:ABOUT_SECTIONS]

    async def _passages(self, hits: Sequence[Hit], names: dict[str, str]) -> list[Passage]:
        kept = [(hit, spans) for hit in hits if (spans := _bounded(hit.record.key_sentences))]
        places = [
            Place(hit.record.document_id, hit.record.revision, Span(spans[0].start, spans[-1].end))
            for hit, spans in kept
        ]
        texts = await self._documents.texts(places)
        return [
            _whole(hit, spans, place, text, names[hit.record.document_id])
            for (hit, spans), place, text in zip(kept, places, texts, strict=True)
            if text is not None
        ]

    async def _which(self, topic: str, scope: Scope) -> list[Passage]:
        query = Query(topic, (topic,))
        found = (await self._retriever.retrieve(query, scope, mode=Mode.UNION, pool=WHICH_POOL)).passages
        if not found:
            return []
        wanted = question_terms(topic)
        stats = await scope.store.term_stats(scope.index(IndexKind.CHUNKS), wanted)
        rarity = inverse_document_frequency(stats, wanted)
        return [
            replace(
                passage,
                whole=True,
                spans=(_sentence_on(passage.record, set(wanted)),),
                lead=passage.document_name,
            )
            for passage in _covering(found, rarity)
        ]


def _covering(found: Sequence[Passage], rarity: Mapping[str, float]) -> list[Passage]:
    """The best chunk of each document that covers the topic, best first.

    Where none does, of the nearest documents in the other script (Chinese or not): words cannot match there. In the
    topic's own script a near document without its words need not mention it; other words for the same are left to the
    ordinary search, which goes on where nothing is returned.

    A document covers a topic by the words that one of its chunks holds, and those that all of them hold together (the
    mean of both): a topic has several sides, which stand apart.
    """
    best: dict[str, Passage] = {}
    held: dict[str, set[str]] = {}
    terms_in = term_finder(rarity)
    for passage in sorted(found, key=lambda p: (-p.coverage, -p.dense, p.record.id)):
        best.setdefault(passage.record.document_id, passage)
        held.setdefault(passage.record.document_id, set()).update(terms_in(passage.record.indexed_text))
    covers = {i: (p.coverage + coverage(rarity, held[i])) / 2 for i, p in best.items()}
    ranked = sorted(best, key=lambda i: (-covers[i], -best[i].dense, best[i].record.id))
    most = covers[ranked[0]]
    holding = [i for i in ranked if covers[i] >= min(LEAST_COVERAGE, most - BELOW_BEST)]
    if most < HALF:
        foreign = [i for i in ranked if best[i].foreign]
        nearest = max((best[i].dense for i in foreign), default=0.0)
        holding = [i for i in foreign if best[i].dense >= nearest - LEAST_CLOSENESS]
    return [best[i] for i in holding[:WHICH_DOCUMENTS]]


def _sentence_on(record: Record, wanted: set[str]) -> Span:
    """The sentence of the chunk that holds most of the wanted terms; of equals no heading, then the first."""

    def fit(span: Span) -> tuple[int, bool, int]:
        line = record.text[span.start : span.end]
        tells = bool(FACT.search(line)) and not HEADING_MARK.match(line)
        return len(wanted.intersection(terms(line))), tells, -span.start

    best = max(sentences(record.text), key=fit)
    return Span(record.start + best.start, record.start + best.end)


def _bounded(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple(span for span in spans if span.end - spans[0].start <= LONGEST_STRETCH)


def _whole(hit: Hit, spans: tuple[Span, ...], place: Place, text: str, name: str) -> Passage:
    record = replace(hit.record, text=text, start=place.span.start, end=place.span.end, metadata={})
    passage = Passage(record, name, hit.score, dense=hit.score, summary=hit.score, spans=spans, whole=True)
    # A summary that is not made of these very sentences was written by a model.
    written = "".join(hit.record.text.split()) != "".join(passage.kept_text.replace(" … ", "").split())
    return replace(passage, lead=f"{name}: {hit.record.text}" if written else name)


def _named(asked: WholeDocumentQuestion, titled: Sequence[tuple[Hit, Sequence[str]]]) -> list[Hit]:
    """The documents that the question names; where it names none, the only one whose titles hold all its own words."""
    own = set(question_terms(asked.subject)) - _GENERIC
    holding = [hit for hit, titles in titled if own and _holds(titles, own)]
    named = [hit for hit, titles in titled if _is_named(asked.topic, titles)]
    if asked.name and own:  # whatever else it says, it does not ask about the document
        named = [hit for hit in named if hit in holding]
    return named or (holding if len(holding) == 1 else [])


def _holds(titles: Sequence[str], wanted: set[str]) -> bool:
    """Whether the titles together hold all the terms: of Chinese ones the characters, as 恒力合同 for 采购合同-恒力."""
    title = simplified(" \n ".join(titles))
    held = set(terms(title))
    return all(term in held or (is_cjk(term) and set(term) <= set(title)) for term in wanted)


def _titles(name: str, record: Record) -> tuple[str, ...]:
    """What a question may call the document: its file name, with or without folder and extension, and its title."""
    path = PurePath(name)
    return name, path.name, path.stem, record.title


def _is_named(question: str, titles: Sequence[str]) -> bool:
    """Whether the question holds a title as it is, or all words of one that has at least two, in any order."""
    asked, words = _spoken(question), set(terms(question))
    held = (simplified(title) for title in titles if len(title) > 1)
    return any(_spoken(t) in asked or (len(own := set(terms(t))) > 1 and own <= words) for t in held)


def _spoken(name: str) -> str:
    """As one would write it in a sentence: who-is-who as "who is who"."""
    return re.sub(r"[-_\s]+", " ", name.lower())
