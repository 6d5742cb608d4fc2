"""How text is cut into search terms and sentences, the same for every store and every stage.

Chinese, Japanese and Korean runs become character bigrams, which need no dictionary and find as much as a
word segmenter does; other scripts become lower-case words. Stores receive these terms and do not analyse
text themselves, so that five stores rank alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, lru_cache

from opencc import OpenCC
from Stemmer import Stemmer

from core.types import Span

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_CJK_CHARACTER = re.compile(f"[{CJK}]")
_CJK_RUN = re.compile(f"[{CJK}]+")
_PAIR = re.compile(f"[{CJK}]{{2}}")
_TOKEN = re.compile(rf"[{CJK}]+|\d+(?:[.,:/-]\d+)+|[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)?")
# "pdfs", "kpis", "1990s": a plural to which Porter2 leaves its "s", for want of another vowel before it.
_SHORT_FORM = re.compile(r"[^\Waeiouy]{2,}(?:(?<!s)|[aiou])s$")
_NUMBER_PARTS = re.compile(r"\d+")
_CODE_PARTS = re.compile(r"\d+|[^\W\d_]+")  # of "fc3310", which others write "FC-3310"
_WIDE = dict(zip("，：；？！（）％", ",:;?!()%", strict=True))

# Words that say nothing about a document. Without them the longest posting lists of an English index go.
STOP_WORDS = frozenset(
    "a an and are as at be been but by did do does for from had has have he her his how i in into is it its "
    "me my no not of on or our she so than that the their them then there these they this to was we were what "
    "when where which who whom whose why will with would you your can could should about".split()
)
# Chinese function words that question sentences are full of; runs are cut at them when a *question* is
# tokenised, so that "公司的总部在哪里" asks for 公司 and 总部 and not for "司的".
_QUESTION_WORDS = re.compile(
    "什么时候|什麼時候|为什么|為什麼|什么|什麼|哪一年|哪年|哪些|哪里|哪裡|哪个|哪個|哪位|哪一个|哪一|哪|"
    "怎么样|怎么|怎麼|怎样|如何|多少|几个|請問|请问|是否|是不是|有没有|吗|嗎|呢|谁|誰|的|了|是|在"
)


def terms(text: str) -> list[str]:
    """The search terms of a text, in order and with repeats.

    >>> terms("The 梵文 alphabet, v3.5")
    ['梵文', 'alphabet', 'v3', 'v', '3', '5']
    """
    result: list[str] = []
    for token in _TOKEN.findall(_searchable(text)):
        result.extend(_bigrams(token) if _CJK_CHARACTER.match(token) else _words(token))
    return result


def term_finder(wanted: Collection[str]) -> Callable[[str], set[str]]:
    """Says of a text which of the wanted terms are among its `terms`: the same in a fraction of the time.

    >>> sorted(term_finder(["梵文", "alphabet", "文字"])("The 梵文 alphabets, v3.5"))
    ['alphabet', '梵文']
    """
    # Two such characters that stand side by side are always in one run, so they are one of its bigrams.
    pairs = {term for term in wanted if _PAIR.fullmatch(term)}
    others = set(wanted) - pairs
    begins = {term[0] for term in others if term}  # as its token does, unless that has parts

    def find(text: str) -> set[str]:
        folded = _searchable(text)
        found = {term for term in pairs if term in folded}
        if not others:
            return found
        tokens = {t for t in _TOKEN.findall(folded) if t[0] in begins or not t.isalpha()}
        single = (t for t in tokens if len(t) == 1 or not _CJK_CHARACTER.match(t))
        return found | others & {word for token in single for word in _words(token)}

    return find


def question_terms(question: str) -> list[str]:
    """The distinct terms of a question, without the words that only make it a question.

    Single characters left over by the cutting go too. Falls back to all terms when nothing else is left
    ("你是谁").
    """
    pieces = terms(_QUESTION_WORDS.sub(" ", _searchable(question)))
    chosen = [t for t in pieces if len(t) > 1 or not _CJK_CHARACTER.match(t)] or terms(question)
    return list(dict.fromkeys(chosen))


def _words(token: str) -> tuple[str, ...]:
    """The terms of a token that is no run of Chinese, Japanese or Korean, or one character of those."""
    if token[0].isdigit() and not token.isalnum():
        return (token, *_NUMBER_PARTS.findall(token))
    if _NUMBER_PARTS.search(token) and len(parts := _CODE_PARTS.findall(token)) > 1:
        return (token, *parts)
    return () if token in STOP_WORDS else (_stem(token),)


def fold(text: str) -> str:
    """The text as it is compared: in Unicode's normal form KC and in lower case."""
    return nfkc(text).lower()


def simplified(text: str) -> str:
    """The text with its traditional Chinese characters in the simplified form (OpenCC's tables)."""
    if text.isascii():
        return text
    traditional, converter = _traditional()
    return str(converter.convert(text)) if traditional.search(text) else text


@cache
def _traditional() -> tuple[re.Pattern[str], OpenCC]:
    """What finds a traditional character in a tenth of the time of the conversion, and what converts."""
    converter = OpenCC("t2s")
    characters = map(chr, range(0x3400, 0xA000))
    return re.compile(f"[{''.join(c for c in characters if converter.convert(c) != c)}]"), converter


def _searchable(text: str) -> str:
    return simplified(fold(text))


def nfkc(text: str) -> str:
    """The text in Unicode's normal form KC.

    Most Chinese text is in it already but for the signs in `_WIDE`; to see that takes a hundredth of the time of
    making it.
    """
    return unicodedata.normalize("NFKC", replaced(text, _WIDE))


def squeezed(text: str) -> str:
    """The text without any white space, in Unicode's normal form KC: as quotations are looked for."""
    return "".join(nfkc(text).split())


def replaced(text: str, characters: Mapping[str, str]) -> str:
    """The text with these few characters replaced, for which `str.translate` takes ten times as long."""
    for character, other in characters.items():
        text = text.replace(character, other)
    return text


def _bigrams(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    return [run[i : i + 2] for i in range(len(run) - 1)]


@lru_cache(maxsize=2**15)  # a text's few thousand words come again and again
def _stem(word: str) -> str:
    """The word without its English ending: "changed" and "changing" meet "change" (Porter2, snowballstem.org)."""
    # A stemmer keeps the word it works on, so each thread would need its own; one is made in a microsecond.
    stem: str = Stemmer("english", 0).stemWord(re.sub(r"['’]s$|['’]", "", word))
    return stem[:-1] if _SHORT_FORM.match(stem) else stem


def is_cjk(text: str) -> bool:
    """Whether the text is mainly Chinese, Japanese or Korean.

    A Chinese character says about as much as half an English word, hence the weight of 2.
    """
    cjk = 0 if text.isascii() else len(text) - len(_CJK_RUN.sub("", text))
    if cjk == 0 or 3 * cjk >= len(text):  # all else could be letters
        return cjk > 0
    return 3 * cjk >= sum(map(str.isalpha, text))


def language(text: str) -> str:
    """`zh` or `en`: which of the two template languages suits the text."""
    return "zh" if is_cjk(text[:5000]) else "en"


LATIN_WEIGHT = 0.4  # a Latin character carries about as much as 0.4 Chinese ones: 400 to 1,000


def weight(text: str) -> float:
    """Length in Chinese characters: a Chinese character counts 1, any other `LATIN_WEIGHT`."""
    cjk = len(_CJK_CHARACTER.findall(text))
    return cjk + LATIN_WEIGHT * (len(text) - cjk)


_SENTENCE_END = re.compile(
    r"[。！？!?；…]+[”’」』）》\"')\]]*(?:\*+(?!\S))?"  # full-width enders need no space after them; **bold?**
    r"|\.[”’\"')\]]*\**(?=\s)"  # a full stop ends a sentence only before white space
    r"|\n\s*\n\s*"
    r"|\n"
)
# An initial ("J. Smith") is a capital letter, and no unit ("230 V.").
_ABBREVIATION = re.compile(
    r"(?:\b(?i:mr|mrs|ms|dr|prof|st|vs|fig|eq|al|inc|ltd|co|corp|jr|sr|dept|approx|vol|pp?|e\.g|i\.e|u\.s|cf)"
    r"|(?:^|(?<!\d)\s)[A-Z])\.$"
)
_NUMBER_SIGN = re.compile(r"\bno\.$", re.IGNORECASE)  # before a number; else "the answer is no."
_LINE_START = re.compile(r"\s*(?:[|#>*•·\-–—]|\d+[.)、]|[（(]?[一二三四五六七八九十]+[)）、])")
# "1." before an item, no end of a sentence; but "until 6:45." and "it costs 12,50." are.
_LIST_NUMBER = re.compile(r"(?:^|[\n：(（，；]|(?<!\d)[:,;])\s*\d{1,2}\.$")
_KEYED_ROW = re.compile(r"[^:：\n]{1,60}[:：][^;；\n]*[;；][^:：\n]{1,60}[:：]")
HEADING_MARK = re.compile(r"#{1,6}\s+(?=\S)")  # of Markdown, at the beginning of a line
FACT = re.compile(r"[\d。．.!！?？;；:：]")  # an ender, a colon, a number: more than a heading has
_HEADING_RATIO = 1.6
_WRAPPED_WEIGHT = 12.0  # a line at least this long (in `weight`) may have been wrapped by a page's margin


def sentences(text: str, span: Span | None = None, *, wrapped: bool = True) -> Iterator[Span]:
    """The sentences of `text` (inside `span`), in order, trimmed of white space; together they cover all else.

    A line break ends a sentence unless the line looks wrapped: long, without an ender, and followed by a
    line that is no list item, heading or table row. With `wrapped=False` it always does: for texts that no
    page's margin has broken.
    """
    start = 0 if span is None else span.start  # an empty span is falsy
    stop = len(text) if span is None else min(span.end, len(text))
    begin = start
    for match in _SENTENCE_END.finditer(text, start, stop):
        if not _ends_sentence(text, begin, match, stop, wrapped):
            continue
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, stop)


def _ends_sentence(text: str, begin: int, match: re.Match[str], stop: int, wrapped: bool) -> bool:
    mark = match.group()
    if mark == "\n" and wrapped:
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        return not _is_wrapped(line, text[match.end() : stop].partition("\n")[0])
    if mark.startswith("."):
        before = text[max(begin, match.start() - 12) : match.start() + 1]
        if _NUMBER_SIGN.search(before):
            return not text[match.end() : stop].lstrip()[:1].isdigit()
        return not (_ABBREVIATION.search(before) or _LIST_NUMBER.search(before))
    return True


def _is_wrapped(line: str, following: str) -> bool:
    """Whether a page's margin broke the line, so that its sentence goes on in the following one.

    Not after a short line, nor where either is a list item, heading or table row, nor where the line is much
    shorter than what follows (a heading above its text), nor beside a row of "key: value; key: value".
    """
    length = weight(line.strip())
    if length < _WRAPPED_WEIGHT or not following.strip():
        return False
    if _LINE_START.match(line) or _LINE_START.match(following):
        return False
    if _KEYED_ROW.match(line) or _KEYED_ROW.match(following):
        return False
    return weight(following.strip()) <= _HEADING_RATIO * length


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield Span(start, end)


def is_bare(line: str) -> bool:
    """Whether the line says nothing by itself: a heading of Markdown, or the rule of a table."""
    return bool(HEADING_MARK.match(line)) or not any(map(str.isalnum, line))


def some_of(names: Sequence[str], most: int) -> str:
    """For example "a.exe, b.exe and 3 more"."""
    listed, more = ", ".join(names[:most]), len(names) - most
    return f"{listed} and {more} more" if more > 0 else listed


def defused(text: str) -> str:
    """The text with every run of three or more backquotes made harmless: it cannot close the prompt's fence."""
    return re.sub(r"`{3,}", lambda run: "'" * len(run.group()), text)
