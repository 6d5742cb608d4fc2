"""Which documents do the best passages name? Those may hold what the question asks, without a word of it.

"Who directed the film that was shot in Leland?": one document says which film was shot there, and only the document of
that title who directed it. Such a document is put right behind the passage that names it. Links between texts let one
search find what else takes several (Gutiérrez et al. 2024, "HippoRAG"); here names are titles and file names, so that
reading documents takes no model and no longer.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.db.documents import Named
from core.db.models import HEAD
from core.text import CJK, STOP_WORDS
from core.types import Passage, Query
from retrievers.base import Mode, Retriever, Scope
from retrievers.documents import Names

NAMING = 3  # passages, the best ones, that are read for names
MOST_TEXT = 2000  # characters of each
FOLLOWED = 2  # documents that one passage brings
MOST = 3  # that all of them bring
FETCHED = 4  # chunks for each document that no candidate is from
SAME_NAME = 2  # documents: what more are called names none of them
# A name that a larger share of the candidates (and more than a few) hold is a word of the subject, such as "report".
COMMON, FEW = 0.25, 3
LEAST, LEAST_CJK = 3, 2  # characters of a name

_GAP = re.compile(r"[-_\s]+")
_REMARK = re.compile(r"\s*[(][^()]*[)]\s*$")
_LETTER = rf"[^\W{CJK}]"  # of a word; Chinese has no gaps between words
_START = re.compile(rf"(?<!{_LETTER}){_LETTER}|[{CJK}]")
_CJK = re.compile(f"[{CJK}]")


@dataclass(frozen=True, slots=True)
class Followed:
    """A ranking with the passages of named documents in their places, and the file names of those that moved."""

    passages: list[Passage]
    names: list[str]


@dataclass(frozen=True, slots=True)
class _Naming:
    """A passage that is read for names: its text as it is (NFKC), and folded."""

    passage: Passage
    text: str
    folded: str

    @classmethod
    def of(cls, passage: Passage) -> _Naming:
        text = unicodedata.normalize("NFKC", passage.record.text[:MOST_TEXT])
        return cls(passage, text, folded(text))

    def names(self, document: Named) -> bool:
        """Whether it names the document, which is another than its own."""
        record, name = self.passage.record, document.known_as
        if document.id == record.document_id or name in STOP_WORDS or name in folded(record.header):
            return False
        word = _REMARK.sub("", unicodedata.normalize("NFKC", document.title))
        if " " not in name and word != name and word.lower() == name:
            return _stands_in(word, self.text)  # "Young" is a town, "young" is not
        return _stands_in(name, self.folded)


class LinkFollower:
    """Brings documents that the best passages name into a ranking."""

    def __init__(self, *, names: Names, retriever: Retriever) -> None:
        self._names = names
        self._retriever = retriever

    async def followed(
        self, query: Query, ranked: Sequence[Passage], candidates: Sequence[Passage], scopes: Sequence[Scope]
    ) -> Followed:
        """`ranked` (best first), behind each of the best passages the best ones of documents that it names.

        A document that ranks higher stays there. What moves up gets the score of the passage that names it. Raises what
        the retriever does.
        """
        ids = {passage.record.id for passage in ranked}
        known = [*ranked, *(passage for passage in candidates if passage.record.id not in ids)]
        links: dict[str, list[Passage]] = {}
        for scope in scopes:
            naming = [_Naming.of(passage) for passage in ranked[:NAMING] if passage.kb == scope.kb_name]
            if naming:
                links |= await self._links(query, naming, known, scope)
        return _in_their_places(ranked, links)

    async def _links(
        self, query: Query, naming: Sequence[_Naming], known: Sequence[Passage], scope: Scope
    ) -> dict[str, list[Passage]]:
        """For the id of each of the `naming` passages the best passages of the documents that it names, best first."""
        text = "\n".join(each.folded for each in naming)
        named = _telling(await self._names.named(scope, text, heads(text)), known)
        named_by = {each.passage.record.id: [n.id for n in named if each.names(n)] for each in naming}
        wanted = {document_id for ids in named_by.values() for document_id in ids}
        best: dict[str, Passage] = {}
        for passage in known:
            best.setdefault(passage.record.document_id, passage)
        if missing := tuple(sorted(wanted - best.keys())):
            for passage in await self._fetched(query, missing, scope):
                best.setdefault(passage.record.document_id, passage)
        place = {document_id: number for number, document_id in enumerate(best)}
        return {
            record_id: [best[i] for i in sorted(best.keys() & set(ids), key=place.__getitem__)]
            for record_id, ids in named_by.items()
        }

    async def _fetched(
        self, query: Query, document_ids: tuple[str, ...], scope: Scope
    ) -> tuple[Passage, ...]:
        """The best chunks of the documents."""
        question, inside = Query(query.text, (query.standalone,)), replace(scope, document_ids=document_ids)
        pool = FETCHED * len(document_ids)
        return (await self._retriever.retrieve(question, inside, mode=Mode.FLAT, pool=pool)).passages


def folded(text: str) -> str:
    """The text as `core.db.models.KNOWN_AS` makes names."""
    return _GAP.sub(" ", unicodedata.normalize("NFKC", text).lower())


def heads(text: str) -> list[str]:
    """The beginnings of all names that may stand in the folded text: up to `HEAD` characters from the first letter of a
    word, or from any Chinese character, on.
    """
    found = set[str]()
    for start in _START.finditer(text):
        least = LEAST_CJK if _CJK.match(start[0]) else LEAST
        found |= {text[start.start() : start.start() + size] for size in range(least, HEAD + 1)}
    return sorted(found)


def _stands_in(name: str, text: str) -> bool:
    """Whether the name stands in the text, not as a part of a longer word."""
    before = f"(?<!{_LETTER})" if re.match(_LETTER, name) else ""
    behind = f"(?!{_LETTER})" if re.search(f"{_LETTER}$", name) else ""
    return re.search(before + re.escape(name) + behind, text) is not None


def _telling(named: Sequence[Named], known: Sequence[Passage]) -> list[Named]:
    """Those of the documents whose names tell them from others."""
    if not named:
        return []
    called = Counter(each.known_as for each in named)
    texts = [(passage.record.document_id, folded(passage.record.text)) for passage in known]
    most = max(FEW, COMMON * len(known))
    return [
        each
        for each in named
        if called[each.known_as] <= SAME_NAME
        and sum(each.id != document_id and each.known_as in text for document_id, text in texts) <= most
    ]


def _in_their_places(ranked: Sequence[Passage], links: Mapping[str, Sequence[Passage]]) -> Followed:
    result: dict[str, Passage] = {}
    there = set[str]()  # documents
    moved: list[Passage] = []
    for passage in ranked:
        result.setdefault(passage.record.id, passage)
        there.add(passage.record.document_id)
        new = [p for p in links.get(passage.record.id, ()) if p.record.document_id not in there]
        for brought in new[: min(FOLLOWED, MOST - len(moved))]:
            result[brought.record.id] = brought.with_score(passage.score)
            there.add(brought.record.document_id)
            moved.append(brought)
    return Followed(list(result.values()), [passage.document_name for passage in moved])
