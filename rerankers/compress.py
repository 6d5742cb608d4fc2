"""How passages are cut down to the space in the prompt without losing what answers the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.text import question_terms, sentences, terms, weight
from core.types import Passage, Query, Span


class KeepWhole:
    """Cuts nothing inside a passage; passages that do not fit any more are left out (the first never is)."""

    def compress(self, query: Query, passages: Sequence[Passage], *, budget: float) -> list[Passage]:
        kept: list[Passage] = []
        for passage in passages:
            budget -= weight(passage.text)
            if kept and budget < 0:
                break
            kept.append(passage)
        return kept


class SentenceCompressor:
    """Drops whole sentences, the least related ones first, until the passages fit; if they fit, none.

    A sentence is worth the share of the question's terms in it and in its neighbours (half), plus the rank
    of its passage. Whole sentences keep citations exact and numbers with their words.
    """

    def compress(self, query: Query, passages: Sequence[Passage], *, budget: float) -> list[Passage]:
        total = sum(weight(passage.text) for passage in passages)
        if total <= budget:
            return list(passages)
        wanted = set(question_terms(query.standalone))
        ranked = sorted(
            (
                (worth / (1 + 0.3 * rank), rank, span)
                for rank, passage in enumerate(passages)
                for span, worth in _sentence_worth(passage, wanted)
            ),
            key=lambda item: (-item[0], item[1], item[2].start),
        )
        kept: dict[int, list[Span]] = {}
        for _, rank, span in ranked:
            record = passages[rank].record
            size = weight(record.text[span.start - record.start : span.end - record.start])
            if size <= budget:
                budget -= size
                kept.setdefault(rank, []).append(span)
        return [replace(passages[rank], spans=_merged(kept[rank], passages[rank])) for rank in sorted(kept)]


def _sentence_worth(passage: Passage, wanted: set[str]) -> list[tuple[Span, float]]:
    record = passage.record
    kept = passage.spans or (Span(record.start, record.end),)
    local = [
        sentence
        for span in kept
        for sentence in sentences(record.text, Span(span.start - record.start, span.end - record.start))
    ]
    shares = [
        len(wanted.intersection(terms(record.text[s.start : s.end]))) / max(len(wanted), 1) for s in local
    ]
    result = []
    for i, span in enumerate(local):
        around = max(shares[max(i - 1, 0) : i] + shares[i + 1 : i + 2], default=0.0)
        shifted = Span(record.start + span.start, record.start + span.end)
        result.append((shifted, 0.1 + shares[i] + around / 2))
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
