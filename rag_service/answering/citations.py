"""Which sentence of which document supports a sentence of the answer?

The documented prompt does not ask the model for marks, and marks that models write are often wrong, so
citations are found here, from the finished sentence: the passage sentences that hold its words are its
support. Marks of the model's own are dropped. A citation is shown only if its quote is, character for
character, what the stored document says at that place (`Verifier`); a sentence without support is marked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.text import sentences, terms
from core.types import Citation, ParsedDocument, Passage, Span

# The share of a sentence's idf mass that one or two neighbouring passage sentences must hold to support it.
SUPPORT = 0.5
_MODEL_MARK = re.compile(r"\s?\[\d{1,2}\](?!\()|【\d{1,2}】")
# At the end of what has arrived: what may be (white space before) such a mark, or a mark that may be a link's text.
_OPEN_MARK = re.compile(r"(?:\s?(?:\[\d{0,2}|【\d{0,2}|\[\d{1,2}\])|\s)$")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class _Evidence:
    """One or two neighbouring sentences of a passage."""

    passage: Passage
    span: Span
    terms: frozenset[str]
    numbers: frozenset[str]

    @property
    def document(self) -> str:
        return self.passage.record.document_id


class Verifier:
    """Turns a span of a passage into a citation, if the stored document really says so."""

    def __init__(self, documents: Mapping[str, ParsedDocument]) -> None:
        self._documents = documents  # by document id: the revision that readers see

    def cite(self, number: int, passage: Passage, span: Span) -> Citation | None:
        """None if the document is gone or its text at `span` is not the passage's."""
        record = passage.record
        document = self._documents.get(record.document_id)
        if document is None:
            return None
        quote = document.text[span.start : span.end]
        if quote != record.text[span.start - record.start : span.end - record.start]:
            return None
        section = document.section_at(span.start)
        return Citation(
            number=number,
            document_id=record.document_id,
            document_name=passage.document_name,
            chunk_id=record.id,
            start=span.start,
            end=span.end,
            quote=quote,
            page=document.page_at(span.start),
            section=section.label if section else "",
            kb=passage.kb,
        )


@dataclass(frozen=True, slots=True)
class Attribution:
    """`citations` of one answer sentence; `supported` is False if it claims something no passage says."""

    citations: tuple[Citation, ...]
    supported: bool


class Attributor:
    """Finds the support of answer sentences among the passages of one request, and numbers the citations."""

    def __init__(self, passages: Sequence[Passage], verifier: Verifier) -> None:
        self._verifier = verifier
        self._evidence = [e for passage in passages for e in _evidence(passage)]
        self._frequency = Counter(term for e in self._evidence for term in e.terms)
        self._numbers: dict[tuple[str, int, int], Citation] = {}
        # Sentences, with the document that was found to support them.
        self._said: set[tuple[str, str]] = set()

    @property
    def citations(self) -> list[Citation]:
        """All citations given so far, by number."""
        return list(self._numbers.values())

    def attribute(self, sentence: str) -> Attribution:
        """A sentence that is said again is supported by another document, if one says the same."""
        wanted = set(terms(sentence))
        if not wanted:  # "Yes.", a list mark
            return Attribution((), supported=True)
        numbers = _numbers(sentence)
        weights = {term: self._idf(term) for term in wanted}
        mass = sum(weights.values())
        said = sentence.strip()
        best = max(
            (
                (
                    self._support(e, weights, mass, numbers),
                    -len(e.span),
                    (said, e.document) not in self._said,
                    e,
                )
                for e in self._evidence
            ),
            key=lambda item: item[:3],
            default=None,
        )
        if best is None or best[0] < SUPPORT:
            return Attribution((), supported=False)
        evidence = best[3]
        self._said.add((said, evidence.document))
        citation = self._number(evidence)
        return Attribution((citation,) if citation else (), supported=citation is not None)

    def _support(
        self, evidence: _Evidence, weights: Mapping[str, float], mass: float, numbers: frozenset[str]
    ) -> float:
        if not numbers <= evidence.numbers:
            return 0.0  # a number that is not there is exactly what a reader must not be told
        return sum(weight for term, weight in weights.items() if term in evidence.terms) / mass

    def _idf(self, term: str) -> float:
        return math.log(1 + len(self._evidence) / (1 + self._frequency[term]))

    def _number(self, evidence: _Evidence) -> Citation | None:
        key = (evidence.passage.record.document_id, evidence.span.start, evidence.span.end)
        if key not in self._numbers:
            citation = self._verifier.cite(len(self._numbers) + 1, evidence.passage, evidence.span)
            if citation is None:
                return None
            self._numbers[key] = citation
        return self._numbers[key]


def _evidence(passage: Passage) -> Iterator[_Evidence]:
    """Every sentence of the passage's kept text, and every two neighbours that belong together."""
    record = passage.record
    single: list[Span] = []
    for kept in passage.spans or (Span(record.start, record.end),):
        local = Span(kept.start - record.start, kept.end - record.start)
        single.extend(sentences(record.text, local))
    pairs = [Span(a.start, b.end) for a, b in pairwise(single)]
    for span in [*single, *pairs]:
        text = record.text[span.start : span.end]
        yield _Evidence(
            passage,
            Span(record.start + span.start, record.start + span.end),
            frozenset(terms(text)),
            _numbers(text),
        )


def _numbers(text: str) -> frozenset[str]:
    return frozenset(number.replace(",", "") for number in _NUMBER.findall(text))


@dataclass(frozen=True, slots=True)
class CitedText:
    """A piece of the answer to send on: text, the citations of the marks that follow it, and those new among them."""

    text: str
    marks: tuple[Citation, ...] = ()
    new: tuple[Citation, ...] = ()

    @property
    def marked(self) -> str:
        """The text with its marks, such as "Leave is 16 weeks.[1]"."""
        return self.text + "".join(f"[{citation.number}]" for citation in self.marks)


class CitingStream:
    """Puts checked marks behind the sentences of an answer while it streams.

    Text is passed on at once, except what may turn out to be white space before a mark or a mark of the
    model's own. `text` is the whole answer so far, `unsupported` its sentences without support.
    """

    def __init__(self, attributor: Attributor) -> None:
        self._attributor = attributor
        self._sentence = ""  # of the answer, not finished yet
        self._sent = 0  # characters of it that were passed on
        self._held = ""  # a possible beginning of a mark of the model's own
        self._seen: set[int] = set()
        self.text = ""
        self.unsupported: list[str] = []

    @property
    def citations(self) -> list[Citation]:
        """The citations of the marks so far, by number."""
        return self._attributor.citations

    def feed(self, text: str) -> list[CitedText]:
        """Take the next piece of the model's text; return what to pass on."""
        text = self._held + text
        opened = _OPEN_MARK.search(text)
        ready = opened.start() if opened else len(text)
        self._held = text[ready:]
        self._sentence += _MODEL_MARK.sub("", text[:ready])
        pieces = self._finish_sentences()
        pieces.append(self._pass_on(len(self._sentence.rstrip())))
        return [piece for piece in pieces if piece.marked]

    def finish(self) -> list[CitedText]:
        """The model is done: the last sentence ends here."""
        self._sentence += _MODEL_MARK.sub("", self._held)
        self._held = ""
        pieces = self._finish_sentences()
        if end := len(self._sentence.rstrip()):
            pieces.append(self._finish_sentence(end))
        return [piece for piece in pieces if piece.marked]

    def _finish_sentences(self) -> list[CitedText]:
        pieces = []
        while (end := _first_end(self._sentence)) is not None:
            pieces.append(self._finish_sentence(end))
        return pieces

    def _finish_sentence(self, end: int) -> CitedText:
        sentence = self._sentence[:end]
        attribution = self._attributor.attribute(sentence)
        if not attribution.supported:
            self.unsupported.append(sentence.strip())
        new = tuple(c for c in attribution.citations if c.number not in self._seen)
        self._seen.update(c.number for c in new)
        piece = CitedText(sentence[self._sent :], attribution.citations, new)
        self._sentence = self._sentence[end:]
        self._sent = 0
        self.text += piece.marked
        return piece

    def _pass_on(self, end: int) -> CitedText:
        text = self._sentence[self._sent : end]
        self._sent = max(self._sent, end)
        self.text += text
        return CitedText(text)


def _first_end(text: str) -> int | None:
    """Where the first sentence of `text` ends, if another one has begun behind it.

    No margin breaks an answer's lines, so each line break ends a sentence. (Whether a line is wrapped could
    only be said when the next one is complete, and by then its beginning has been sent.)
    """
    spans = list(sentences(text, wrapped=False))
    return spans[0].end if len(spans) > 1 else None
