"""Is a question about whole documents: what one is about, or which of them cover something? Told by rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from core.text import simplified

LONGEST = 500  # characters; a longer question is not one about whole documents


class Kind(StrEnum):
    """ABOUT: what a document is about. WHICH: which documents cover a topic."""

    ABOUT = "about"
    WHICH = "which"


@dataclass(frozen=True, slots=True)
class WholeDocumentQuestion:
    """`topic`: of WHICH, what the documents shall cover; of ABOUT, the question itself.

    `name`: of ABOUT without a word such as "document", what may be the name of one; if it is not, it is an ordinary
    question. `subject`: the question without the Chinese words that make it one about a document.
    """

    kind: Kind
    topic: str
    name: str = ""
    subject: str = ""


_NOUN = (
    r"(?:documents?|docs?|files?|contracts?|leases?|agreements?|reports?|manuals?|handbooks?|guides?|polic(?:y|ies)|papers?"
    r"|articles?|memos?|letters?|books?|presentations?|slides|spreadsheets?|texts?|invoices?|proposals?|brochures?"
    r"|\S+\.(?:pdf|docx?|md|txt|html?|pptx?|xlsx?|csv|epub))"
)
_THE = r"(?:(?:the|this|that|these|those|our|my|your)\s+)"
_NAMED = rf"{_THE}?(?:[\w'’-]+\s+){{0,5}}?{_NOUN}(?:\s+[\w.'’-]+){{0,2}}?"  # "the Atlas 9 manual"
_END = r"\s*[?.!]*\s*$"
_COVER = (
    r"(?:cover|mention|discuss|describe|contain|explain|include|treat|address|(?:deal|deals)\s+with|(?:talk|talks)\s+about"
    r"|(?:refer|refers)\s+to|(?:say|says)\s+(?:something|anything)\s+about|(?:are|is)\s+about)(?:e?s)?"
)
_ZH_NOUN = (
    "(?:文档|文件|合同|协议|报告|手册|指南|制度|论文|文章|材料|资料|书|说明书|通知|规定|方案|计划书|简历|信函|标书|教材"
    "|幻灯片|表格)"
)
_ZH_THIS = r"(?:这|那|该|本|此)?[份个篇本部张]?"
_ZH_NAMED = rf"(?:《[^》]+》|{_ZH_NOUN}|\S+\.(?:pdf|docx?|md|txt|html?|pptx?|xlsx?|csv|epub))"
_ZH_COVER = r"(?:提到|提及|讲到|谈到|说到|写到|涉及|包含|包括|介绍|讨论|规定|说明|关于|讲|有关)"
_ZH_END = r"\s*[？?。！!]*\s*$"
# What a document tells, as one asks for it; and the words for the whole of it.
_ZH_TELLS = (
    "(?:主要|大概|大致|都|到底|究竟)*(?:讲|说|写|介绍|讨论|谈|涉及)(?:的|了|些|是|都)*"
    "(?:什么|啥|哪些)(?:内容|方面|东西)?"
)
_ZH_GIST = "主要内容|大意|摘要|概要|主旨|概述|梗概"
_ZH_IS_WHAT = "(?:是|有|为)?(?:什么|哪些|啥)?"
_SUMMARISE = r"(?:please\s+|can\s+you\s+|could\s+you\s+)*summari[sz]e"
_ZH_SUMMARISE = r"(?:请|帮我|给我)*(?:概括|总结|概述|归纳|摘要)(?:一下|下)?"

_ABOUT = re.compile(
    rf"^(?:.*\b)?what(?:'s|’s|\s+is|\s+are)\s+{_NAMED}\s+(?:all\s+|mainly\s+)?about{_END}"
    rf"|^(?:.*\b)?what\s+(?:does|do)\s+{_NAMED}\s+(?:say|cover|contain|describe|discuss){_END}"
    rf"|^{_SUMMARISE}\s+{_NAMED}{_END}"
    rf"|\b(?:summary|overview|gist|outline)\s+of\s+{_NAMED}{_END}"
    rf"|\bwhat(?:'s|’s|\s+is)\s+the\s+(?:main\s+)?(?:content|topic|subject|purpose)s?\s+of\s+{_NAMED}{_END}"
    rf"|{_ZH_NAMED}.{{0,3}}{_ZH_TELLS}{_ZH_END}"
    rf"|{_ZH_NAMED}的?(?:{_ZH_GIST}){_ZH_IS_WHAT}{_ZH_END}"
    rf"|{_ZH_SUMMARISE}{_ZH_THIS}{_ZH_NAMED}(?:的?(?:主要)?内容)?{_ZH_END}",
    re.IGNORECASE,
)
_WHICH = re.compile(
    rf"\b(?:which|what)\s+(?:of\s+)?{_THE}?(?:[\w'’-]+\s+){{0,2}}?{_NOUN}\s+(?:that\s+|do\s+|does\s+)?{_COVER}"
    rf"\s+(?P<en>.+?){_END}"
    rf"|\b(?:list|show|find)\s+(?:me\s+)?(?:all\s+)?{_THE}?{_NOUN}\s+(?:about|on|mentioning|covering|that\s+{_COVER})"
    rf"\s+(?P<list>.+?){_END}"
    rf"|(?:哪些|哪几[份个篇本]|哪[份个篇本]|有哪些|有没有){_ZH_NOUN}[里中]?(?:面|有|都|会)*{_ZH_COVER}(?:了|过|到)?(?P<zh>.+?){_ZH_END}"
    rf"|{_ZH_COVER}(?:了|过|到)?(?P<zh2>.+?)的{_ZH_NOUN}(?:都|一共)?(?:有|是)(?:哪些|哪几[份个篇本]|什么){_ZH_END}",
    re.IGNORECASE,
)
_ABOUT_NAME = re.compile(
    rf"^what(?:'s|’s|\s+is|\s+are)\s+(?P<en>\S+(?:\s+\S+){{0,7}}?)\s+about{_END}"
    rf"|^(?P<zh>\S.{{0,30}}?)(?:主要|大概|大致|到底)?(?:讲|说|写|介绍)(?:的|了|些|是|都)*(?:什么|啥|哪些)(?:内容|方面)?{_ZH_END}"
    rf"|^{_SUMMARISE}\s+(?P<en2>\S+(?:\s+\S+){{0,7}}?){_END}"
    rf"|^{_ZH_SUMMARISE}(?P<zh3>(?:(?!关于|里|中的).){{1,30}}?)(?:的?(?:主要)?内容)?{_ZH_END}"
    rf"|^(?P<zh2>\S.{{0,30}}?)的(?:{_ZH_GIST}){_ZH_IS_WHAT}{_ZH_END}",
    re.IGNORECASE,
)

_ZH_ASKING = re.compile(
    rf"^{_ZH_SUMMARISE}|[这那该本此][份个篇本部张]?"
    rf"|{_ZH_TELLS}{_ZH_END}"
    rf"|的?(?:{_ZH_GIST}|内容){_ZH_IS_WHAT}{_ZH_END}"
)


def whole_document_question(question: str) -> WholeDocumentQuestion | None:
    """What the question asks of whole documents; None for a question about something in them."""
    text = " ".join(question.split())  # runs of blanks would be tried one by one
    if len(text) > LONGEST:
        return None
    text = simplified(text)
    if which := _WHICH.search(text):
        topic = next(found for found in which.groups() if found)
        return WholeDocumentQuestion(Kind.WHICH, topic.strip(" \"'“”‘’「」《》"))
    if _ABOUT.search(text):
        return WholeDocumentQuestion(Kind.ABOUT, text, subject=_ZH_ASKING.sub(" ", text))
    if about := _ABOUT_NAME.search(text):
        name = next(found for found in about.groups() if found)
        return WholeDocumentQuestion(Kind.ABOUT, text, name, subject=_ZH_ASKING.sub(" ", name))
    return None
