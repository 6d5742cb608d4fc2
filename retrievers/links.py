"""Which documents do the best passages name? Those may hold what the question asks, without a word of it.

"Who directed the film that was shot in Leland?": one document says which film was shot there, and only the document of
that title who directed it. Such a document is put right behind the passage that names it. Links between texts let one
search find what else takes several (Gutiérrez et al. 2024, "HippoRAG"); here names are titles and file names, so that
reading documents takes no model and no longer.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from urllib.parse import unquote

from core.db.documents import Named
from core.db.models import CJK_HEAD, HEAD, NAME_LETTERS, NAME_MARKS
from core.text import CJK, STOP_WORDS
from core.types import Passage, Query
from retrievers.base import Mode, Retriever, Scope
from retrievers.documents import Names

NAMING = 3  # passages, the best ones, that are read for names
MOST_TEXT = 2000  # characters of each
FOLLOWED = 2  # documents that one passage brings
SHARE, MOST = 3, 3  # that all of them bring: one for every three passages that are asked for, three at most
FETCHED = 4  # chunks of a document that no candidate is from, of which the best one is taken
SAME_NAME = 2  # documents: what more are called names none of them
# A name that a larger share of the candidates (and more than a few) hold is a word of the subject, such as "report".
COMMON, FEW = 0.25, 3
LEAST, LEAST_CJK = 3, 2  # characters of a name

_GAP = re.compile(r"[-_\s]+")
_CJK_GAP = re.compile(rf"(?<=[{CJK}]) (?=[{CJK}])")  # a line break
_MARKS = str.maketrans(*NAME_MARKS)
_REMARK = re.compile(r"(?<=.)\s*[(\[][^\[\]()]*[)\]]\s*$")
_PREFIX = re.compile(r"^(the|an?|\d{1,2}[.)]?)[-_\s]+(?=.)", re.I)
_EDGES = re.compile(rf"^[^{NAME_LETTERS}]+|[^{NAME_LETTERS}]+$", re.I)
_UNBROKEN = re.compile(
    r"[^\s()<>\[\]{}\"'`,;:|!?*#，。；：、！？（）《》「」“”]+"
)  # what a file name is a part of
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
_CJK_BEFORE, _CJK_BEHIND = re.compile(f"^[{CJK}]+"), re.compile(f"[{CJK}]+$")
_LETTER = re.compile(rf"[^\W{CJK}]")  # of a word; Chinese has no gaps between words
_START = re.compile(rf"(?<![^\W{CJK}])[^\W{CJK}]|[{CJK}]")
_CJK = re.compile(f"[{CJK}]")
_QUOTES = frozenset(("《》", "〈〉", "「」", "『』", "【】", '""', "''", "[]", "**", "``"))
_SENTENCE_ENDS = frozenset(".!?。！？:;：；|•·\n")
_TAKEN = "\x1f"  # stands for a longer name, so that a shorter one is not found in it


@dataclass(frozen=True, slots=True)
class Followed:
    """A ranking with the passages of named documents in their places, and the file names of those documents."""

    passages: list[Passage]
    names: list[str]


@dataclass(frozen=True, slots=True)
class _Naming:
    """A passage that is read for names: its text as it is (but for NFKC and marks), folded, and the files in it.

    `title` is its own document's, folded.
    """

    passage: Passage
    text: str
    folded: str
    files: frozenset[str]
    title: str

    @classmethod
    def of(cls, passage: Passage) -> _Naming:
        text = passage.record.text[:MOST_TEXT]
        title = passage.record.header.partition("\n")[0].partition(" > ")[0]
        files = frozenset(_files(text, posixpath.dirname(passage.document_name)))
        return cls(passage, _plain(text), folded(text), files, _EDGES.sub("", folded(title)))

    def named(self, documents: Sequence[Named]) -> list[str]:
        """Ids of those of the documents that it names, but for its own. Of names inside each other the longest counts,
        be it its own title.
        """
        names = [(self.title, []), *((n, list(same)) for n, same in groupby(documents, lambda d: d.known_as))]
        text, left, result = self.text, self.folded, list[str]()
        for name, same in sorted(names, key=lambda item: -len(item[0])):
            found = [d for d in same if d.name in self.files or _names(d, text, left)]
            if found or name == self.title:
                left = _without(name, left)
            for document in found:
                text = _without(_as_written(document), text)
                result.append(document.id)
        return [document_id for document_id in result if document_id != self.passage.record.document_id]


class LinkFollower:
    """Brings documents that the best passages name into a ranking."""

    def __init__(self, *, names: Names, retriever: Retriever) -> None:
        self._names = names
        self._retriever = retriever

    async def followed(
        self,
        query: Query,
        ranked: Sequence[Passage],
        candidates: Sequence[Passage],
        scopes: Sequence[Scope],
        *,
        top_k: int,
    ) -> Followed:
        """`ranked` (best first), behind each of the best passages the best ones of documents that it names; as many as
        suit the `top_k` passages that go on.

        A document that ranks higher stays there. What moves up gets the score of the passage that names it. Raises what
        the retriever does.
        """
        if top_k < SHARE:
            return Followed(list(ranked), [])
        ids = {passage.record.id for passage in ranked}
        known = [*ranked, *(passage for passage in candidates if passage.record.id not in ids)]
        best: dict[str, Passage] = {}  # of each document
        for passage in known:
            best.setdefault(passage.record.document_id, passage)
        named: dict[str, list[str]] = {}  # documents by the id of the passage that names them
        where: dict[str, Scope] = {}
        for scope in scopes:
            naming = [_Naming.of(passage) for passage in ranked[:NAMING] if passage.kb == scope.kb_name]
            found = await self._named(naming, known, scope)
            named |= found
            where |= {document_id: scope for ids_of_one in found.values() for document_id in ids_of_one}
        brought = _brought(ranked, named, list(best), most=min(top_k // SHARE, MOST))
        missing = [i for ids_of_one in brought.values() for i in ids_of_one if i not in best]
        for passages in await asyncio.gather(*(self._fetched(query, i, where[i]) for i in missing)):
            best |= {passage.record.document_id: passage for passage in passages[:1]}
        return _in_their_places(
            ranked, {r: [best[i] for i in of_one if i in best] for r, of_one in brought.items()}
        )

    async def _named(
        self, naming: Sequence[_Naming], known: Sequence[Passage], scope: Scope
    ) -> dict[str, list[str]]:
        """The documents that each of the `naming` passages names, by its record id."""
        if not naming:
            return {}
        text = "\n".join(each.folded for each in naming)
        begins = sorted({head for each in naming for head in heads(each.folded)})
        files = sorted({file for each in naming for file in each.files})
        named = await self._names.named(scope, text, begins, files)
        documents = _telling(named, known, frozenset(files))
        return {each.passage.record.id: each.named(documents) for each in naming}

    async def _fetched(self, query: Query, document_id: str, scope: Scope) -> tuple[Passage, ...]:
        """The best chunks of the document."""
        question = Query(query.text, (query.standalone,))
        inside = replace(scope, document_ids=(document_id,))
        return (await self._retriever.retrieve(question, inside, mode=Mode.FLAT, pool=FETCHED)).passages


def folded(text: str) -> str:
    """The text as `core.db.models.KNOWN_AS` makes names."""
    return _CJK_GAP.sub("", _GAP.sub(" ", _plain(text).lower()))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(_MARKS)


def heads(text: str) -> set[str]:
    """The beginnings of all names that may stand in the folded text, as `core.db.models.NAME_HEAD` has them: from the
    first letter of a word or from any Chinese character on, of a shorter name all.
    """
    found = set[str]()
    for match in _START.finditer(text):
        start, cjk = match.start(), _CJK.match(match[0])
        least, longest = (LEAST_CJK, CJK_HEAD) if cjk else (LEAST, HEAD)
        ends = range(start + least, min(start + longest, len(text)) + 1)
        found |= {
            text[start:end]
            for end in ends
            if end == start + longest or not _joined(text[end - 1], text[end : end + 1])
        }
    return found


def _files(text: str, folder: str) -> Iterator[str]:
    """The names of files that stand in the text, from the top and from the folder on."""
    for unbroken in _UNBROKEN.findall(text):
        ends = {unbroken.rstrip("."), _CJK_BEHIND.sub("", unbroken)}  # Chinese has no gap before and behind
        for file in {unquote(begin) for end in ends for begin in (end, _CJK_BEFORE.sub("", end))}:
            if _ENDING.search(file):
                yield posixpath.normpath(file.lstrip("/"))
                yield posixpath.normpath(posixpath.join(folder, file))


def _joined(one: str, next_one: str) -> bool:
    """Whether two characters that stand side by side are of the same word ("" is none)."""
    return bool(_LETTER.match(one) and _LETTER.match(next_one))


def _places(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Where the name stands in the text, not as a part of a longer word; with the characters before and behind it."""
    start = text.find(name) if name else -1
    while start >= 0:
        end = start + len(name)
        before, behind = text[max(start - 1, 0) : start], text[end : end + 1]
        if not _joined(before, name[0]) and not _joined(name[-1], behind):
            yield start, before + behind
        start = text.find(name, start + 1)


def _without(name: str, text: str) -> str:
    """The text with `_TAKEN` where the name stands in it."""
    pieces, end = list[str](), 0
    for start, _ in _places(name, text):
        if start >= end:
            pieces += [text[end:start], _TAKEN]
            end = start + len(name)
    return "".join([*pieces, text[end:]])


def _stands_in(name: str, text: str) -> bool:
    return any(True for _ in _places(name, text))


def _is_quoted(name: str, text: str) -> bool:
    return any(around in _QUOTES for _, around in _places(name, text))


def _is_phrase(name: str) -> bool:
    """Whether the name says enough to be a name wherever it stands: two words that mean something, or four Chinese
    characters. "Report", "set up" and 合同 stand in many texts.
    """
    words = [w for w in _CJK.sub(" ", name).split() if len(w) > 2 and not w.isdigit() and w not in STOP_WORDS]
    return len(words) + len(_CJK.findall(name)) / 2 >= 2


def _as_written(document: Named) -> str:
    """Its title, as `KNOWN_AS` has it but for capital letters and gaps."""
    title = _EDGES.sub("", _REMARK.sub("", _plain(document.title or "")))
    return _EDGES.sub("", _PREFIX.sub("", title))


def _names(document: Named, text: str, folded: str) -> bool:
    """Whether the text, and the same one folded, names the document."""
    name = document.known_as
    if not _stands_in(name, folded):
        return False
    return _is_phrase(name) or _is_quoted(name, folded) or _holds_word(_as_written(document), text)


def _holds_word(word: str, text: str) -> bool:
    """Whether a name of one word stands in the text as one: with its capital letters ("Young" is a town, "young" is
    not), and not only where any word has one, at the beginning of a sentence.
    """
    if word == word.lower():
        return False
    anywhere = word[1:] != word[1:].lower()
    return any(anywhere or not _begins_sentence(place, text) for place, _ in _places(word, text))


def _begins_sentence(place: int, text: str) -> bool:
    """Whether nothing but signs and numbers is between the place and the end of a sentence, a line or a cell."""
    while place > 0 and not text[place - 1].isalpha():
        place -= 1
        if text[place] in _SENTENCE_ENDS:
            return True
    return place == 0


def _telling(named: Sequence[Named], known: Sequence[Passage], files: frozenset[str]) -> list[Named]:
    """Those of the documents whose names tell them from others: those of the `files` do."""
    if not named:
        return []
    called = Counter(each.known_as for each in named)
    texts = [(passage.record.document_id, folded(passage.record.text)) for passage in known]
    most = max(FEW, COMMON * len(known))

    def tells(each: Named) -> bool:
        holding = (each.id != document_id and _stands_in(each.known_as, text) for document_id, text in texts)
        return called[each.known_as] <= SAME_NAME and sum(holding) <= most

    return [each for each in named if each.name in files or tells(each)]


def _brought(
    ranked: Sequence[Passage], named: Mapping[str, Sequence[str]], known: Sequence[str], *, most: int
) -> dict[str, list[str]]:
    """The documents that each passage brings, by its record id: those it names and that do not rank higher, at most
    `FOLLOWED` each and `most` in all, those first whose own best passage is `known` to be better.
    """
    place = {document_id: number for number, document_id in enumerate(known)}
    above = set[str]()
    brought: dict[str, list[str]] = {}
    for passage in ranked[:NAMING]:
        above.add(passage.record.document_id)
        new = [i for i in named.get(passage.record.id, ()) if i not in above]
        chosen = sorted(new, key=lambda i: place.get(i, len(place)))[: min(FOLLOWED, most)]
        brought[passage.record.id] = chosen
        above.update(chosen)
        most -= len(chosen)
    return brought


def _in_their_places(ranked: Sequence[Passage], brought: Mapping[str, Sequence[Passage]]) -> Followed:
    result: dict[str, Passage] = {}
    for passage in ranked:
        result.setdefault(passage.record.id, passage)
        result |= {b.record.id: b.with_score(passage.score) for b in brought.get(passage.record.id, ())}
    return Followed(list(result.values()), [b.document_name for of_one in brought.values() for b in of_one])
