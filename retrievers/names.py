"""Which documents of a knowledge base does a passage name? By title, or by file name.

`core.db.models.KNOWN_AS` says what texts call a document; here stands what counts as a mention of that.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import unquote

from core.db.documents import Named
from core.db.models import CJK_HEAD, HEAD, NAME_LETTERS, NAME_MARKS
from core.text import CJK, STOP_WORDS, nfkc, replaced
from core.types import Passage

MOST_TEXT = 2000  # characters of a passage that are read
LEAST, LEAST_CJK = 3, 2  # characters of a name

_GAP = re.compile(r"[-_\s]+")
_CJK_GAP = re.compile(rf"(?<=[{CJK}]) (?=[{CJK}])")  # a line break
_MARKS = dict(zip(*NAME_MARKS, strict=True))
_REMARK = re.compile(r"(?<=.)\s*[(\[][^\[\]()]*[)\]]\s*$")
_PREFIX = re.compile(r"^(the|an?|\d{1,2}[.)]?)[-_\s]+(?=.)", re.I)
_EDGES = re.compile(rf"^[^{NAME_LETTERS}]+|[^{NAME_LETTERS}]+$", re.I)
# What a file name is a part of.
_UNBROKEN = re.compile(r"[^\s()<>\[\]{}\"'`,;:|!?*#，。；：、！？（）《》「」“”]+")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
_CJK_BEFORE, _CJK_BEHIND = re.compile(f"^[{CJK}]+"), re.compile(f"[{CJK}]+$")
_LETTER = re.compile(rf"[^\W{CJK}]")  # of a word; Chinese has no gaps between words
_INSIDE = re.compile(rf"(?<=[^\W{CJK}])(?=[^\W{CJK}])")
_WORD = re.compile(rf"[^\W{CJK}]+")
_CJK, _CJK_RUN = re.compile(f"[{CJK}]"), re.compile(f"[{CJK}]+")
_QUOTES = frozenset(("《》", "〈〉", "「」", "『』", "【】", '""', "''", "[]", "**", "``"))
_SENTENCE_ENDS = frozenset(".!?。！？:;：；|•·\n")
_TAKEN = "\x1f"  # stands for a longer name, so that a shorter one is not found in it


@dataclass(frozen=True, slots=True)
class Naming:
    """A passage that is read for names: its text as it is (but for NFKC and marks), folded, and the files in it.

    `own_name` is what texts call its document.
    """

    passage: Passage
    text: str
    folded: str
    files: frozenset[str]
    own_name: str

    @classmethod
    def of(cls, passage: Passage) -> Naming:
        text = passage.record.text[:MOST_TEXT]
        files = frozenset(_files(text, posixpath.dirname(passage.document_name)))
        return cls(passage, _plain(text), folded(text), files, folded(_as_written(passage.record.title)))

    def named(self, documents: Sequence[Named]) -> list[str]:
        """Ids of those of the documents that it names, but for its own. Of names inside each other the longest counts,
        be it its own.
        """
        names = [
            (self.own_name, []),
            *((n, list(same)) for n, same in groupby(documents, lambda d: d.known_as)),
        ]
        text, left, result = self.text, self.folded, list[str]()
        for name, same in sorted(names, key=lambda item: -len(item[0])):
            found = [d for d in same if d.name in self.files or _names(d, text, left)]
            if found or name == self.own_name:
                left = _without(name, left)
            for document in found:
                text = _without(_as_written(document.title), text)
                result.append(document.id)
        return [document_id for document_id in result if document_id != self.passage.record.document_id]


def folded(text: str) -> str:
    """The text as `core.db.models.KNOWN_AS` makes names."""
    return _CJK_GAP.sub("", _GAP.sub(" ", _plain(text).lower()))


def _plain(text: str) -> str:
    return replaced(nfkc(text), _MARKS)


def heads(text: str) -> set[str]:
    """The beginnings of all names that may stand in the folded text, as `core.db.models.NAME_HEAD` has them: from the
    first letter of a word or from any Chinese character on, of a shorter name all.
    """
    inside_words = {match.start() for match in _INSIDE.finditer(text)}
    words = (match.start() for match in _WORD.finditer(text))
    characters = (start for match in _CJK_RUN.finditer(text) for start in range(*match.span()))
    return {
        text[start:end]
        for starts, least, longest in ((words, LEAST, HEAD), (characters, LEAST_CJK, CJK_HEAD))
        for start in starts
        for end in range(start + least, min(start + longest, len(text)) + 1)
        if end == start + longest or end not in inside_words
    }


def _files(text: str, folder: str) -> Iterator[str]:
    """The names of files that stand in the text, from the top and from the folder on."""
    for unbroken in _UNBROKEN.findall(text):
        ends = {unbroken.rstrip("."), _CJK_BEHIND.sub("", unbroken)}  # Chinese has no gap before and behind
        for file in {unquote(begin) for end in ends for begin in (end, _CJK_BEFORE.sub("", end))}:
            if _ENDING.search(file) and file.isprintable():
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


def stands_in(name: str, text: str) -> bool:
    return any(True for _ in _places(name, text))


def _is_quoted(name: str, text: str) -> bool:
    return any(around in _QUOTES for _, around in _places(name, text))


def _is_phrase(name: str) -> bool:
    """Whether the name says enough to be a name wherever it stands: two words that mean something, or four Chinese
    characters. "Report", "set up" and 合同 stand in many texts.
    """
    words = [w for w in _CJK.sub(" ", name).split() if len(w) > 2 and not w.isdigit() and w not in STOP_WORDS]
    return len(words) + len(_CJK.findall(name)) / 2 >= 2


def _as_written(title: str | None) -> str:
    """The title, as `KNOWN_AS` has it but for capital letters and gaps."""
    return _EDGES.sub("", _PREFIX.sub("", _EDGES.sub("", _REMARK.sub("", _plain(title or "")))))


def _names(document: Named, text: str, folded: str) -> bool:
    """Whether the text, and the same one folded, names the document."""
    name = document.known_as
    if not stands_in(name, folded):
        return False
    return _is_phrase(name) or _is_quoted(name, folded) or _holds_word(_as_written(document.title), text)


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
