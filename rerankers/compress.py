"""How passages are cut down to the space in the prompt without losing what answers the question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.text import is_bare, question_terms, sentences, terms, weight
from core.types import Passage, Query, Span

UNRELATED = 0.15  # what a sentence without a word of the question is worth, beside the 1 of one with all
AROUND = 0.4  # of what its neighbours are worth
HEADING = 0.3  # of a word that stands in the heading and not in the sentence


class KeepWhole:
    """Cuts nothing inside a passage; from the first one that does not fit on, passages are left out."""

    async def compress(self, query: Query, passages: Sequence[Passage], *, budget: float) -> list[Passage]:
        kept: list[Passage] = []
        for passage in passages:
            budget -= weight(passage.text)
            if budget < 0:
                break
            kept.append(passage)
        return kept


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the passage of this `rank`; its terms, those of the heading it stands under, and its weight
    (`core.text.weight`).

    `closeness` of it and the question where they were compared. `bare`: a heading or the rule of a table, which tells
    nothing by itself.
    """

    rank: int
    span: Span  # document offsets
    terms: frozenset[str]
    heading: frozenset[str]
    weight: float
    closeness: float | None
    bare: bool


class SentenceCompressor:
    """Drops whole sentences, the least related ones first, until the passages fit; if they fit, none.

    A sentence is worth the share of the question's terms in it, and (less) in its neighbours and the heading it stands
    under, rare terms counting more, by the rank of its passage and for its length: two short sentences may tell more
    than a long one. Where a passage's sentences were compared with the question (`Passage.near`), how near they are
    stands for the share. Headings and rules of tables come last. The constants were measured (docs/benchmarks.md).
    Whole sentences keep citations exact and numbers with their words.
    """

    async def compress(self, query: Query, passages: Sequence[Passage], *, budget: float) -> list[Passage]:
        total = sum(weight(passage.text) for passage in passages)
        if total <= budget:
            return list(passages)
        each = [sentences_of(rank, passage) for rank, passage in enumerate(passages)]
        return cut(passages, ranked(query, each), budget)


def ranked(query: Query, each: Sequence[Sequence[Sentence]]) -> list[Sentence]:
    """The sentences of the passages, those most related to the question first."""
    relation = _Relation.to(query, [sentence for found in each for sentence in found])
    valued = sorted(
        ((worth, s) for found in each for s, worth in zip(found, _worth(found, relation), strict=True)),
        key=lambda item: (-item[0], item[1].rank, item[1].span.start),
    )
    return [sentence for _, sentence in valued]


def cut(passages: Sequence[Passage], chosen: Iterable[Sentence], budget: float) -> list[Passage]:
    """The passages with those of the chosen sentences (best first) that fit into the budget, without the empty ones."""
    kept: dict[int, list[Span]] = {}
    for sentence in chosen:
        if sentence.weight <= budget:
            budget -= sentence.weight
            kept.setdefault(sentence.rank, []).append(sentence.span)
    return [replace(passages[rank], spans=_merged(kept[rank], passages[rank])) for rank in sorted(kept)]


def sentences_of(rank: int, passage: Passage) -> list[Sentence]:
    """The sentences of what is kept of the passage of this rank, in their order."""
    record = passage.record
    heading = frozenset(terms(record.header))
    result = []
    for span in passage.spans or (Span(record.start, record.end),):
        for local in sentences(record.text, Span(span.start - record.start, span.end - record.start)):
            text = record.text[local.start : local.end]
            place = Span(record.start + local.start, record.start + local.end)
            held, closeness = frozenset(terms(text)), _closeness(place, passage)
            result.append(Sentence(rank, place, held, heading, weight(text), closeness, is_bare(text)))
    return result


def _closeness(place: Span, passage: Passage) -> float | None:
    """Of the sentence that was compared there; a passage that was joined may be cut elsewhere."""
    near = (n.closeness for n in passage.near if n.span.start < place.end and place.start < n.span.end)
    return max(near, default=None)


@dataclass(frozen=True, slots=True)
class _Relation:
    """How a sentence is related to the question, in [0, 1]: the share of its terms, or (compared) how near it is among
    all that were.
    """

    rarity: Mapping[str, float]
    least: float
    range: float

    @classmethod
    def to(cls, query: Query, among: Sequence[Sentence]) -> _Relation:
        known = [sentence.closeness for sentence in among if sentence.closeness is not None]
        least, most = min(known, default=0.0), max(known, default=0.0)
        return cls(_rarity(question_terms(query.standalone), among), least, (most - least) or 1.0)

    def of(self, sentence: Sentence) -> float:
        if sentence.closeness is not None:
            return (sentence.closeness - self.least) / self.range
        held = sum(each for term, each in self.rarity.items() if term in sentence.terms)
        above = sentence.heading - sentence.terms
        return held + HEADING * sum(each for term, each in self.rarity.items() if term in above)


def _rarity(wanted: Sequence[str], among: Sequence[Sentence]) -> dict[str, float]:
    """What each term of the question counts, all together 1: the fewer of the sentences hold it, the more."""
    held = {term: sum(term in sentence.terms for sentence in among) for term in wanted}
    rarity = {term: math.log(1 + len(among) / (0.5 + count)) for term, count in held.items()}
    total = sum(rarity.values()) or 1.0
    return {term: each / total for term, each in rarity.items()}


def _worth(found: Sequence[Sentence], relation: _Relation) -> list[float]:
    """The worth of the sentences of one passage."""
    shares = [relation.of(sentence) for sentence in found]
    result = []
    for i, sentence in enumerate(found):
        around = max(shares[max(i - 1, 0) : i] + shares[i + 1 : i + 2], default=0.0)
        worth = UNRELATED + shares[i] + AROUND * around
        worth /= (1 + 0.3 * sentence.rank) * (5 + sentence.weight) ** 0.3
        result.append(0.0 if sentence.bare else worth)
    return result


def _merged(spans: Sequence[Span], passage: Passage) -> tuple[Span, ...]:
    """Sorted spans; those with nothing but white space between them become one."""
    text, offset = passage.record.text, passage.record.start
    result: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start):
        if result and not text[result[-1].end - offset : span.start - offset].strip():
            result[-1] = Span(result[-1].start, span.end)
        else:
            result.append(span)
    return tuple(result)
