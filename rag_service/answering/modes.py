"""How do many passages become one answer? A mode does the work up to the last prompt, whose answer is streamed.

The documented three ways (refine, summarise to fit, answer in groups and join) and the plain one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from core.types import Passage
from models.llm.base import Message
from rag_service.answering.desk import Desk
from rag_service.answering.prompt import Part
from rag_service.answering.task import AnswerMode

GROUP = 2  # passages for one partial answer: few enough that none is overlooked
Mode = Callable[[Desk, Sequence[Passage]], Awaitable[list[Message]]]


async def stuff(desk: Desk, passages: Sequence[Passage]) -> list[Message]:
    return await desk.prompt("answer", passages)


async def refine(desk: Desk, passages: Sequence[Passage]) -> list[Message]:
    *before, last = passages
    draft = ""
    for passage in before:
        draft = await desk.complete(await _improving(desk, passage, draft))
    return await _improving(desk, last, draft)


async def tree_summarize(desk: Desk, passages: Sequence[Passage]) -> list[Message]:
    return await desk.prompt(
        "answer", await _until_they_fit(desk, passages, last="answer", on_the_way="summarise")
    )


async def map_reduce(desk: Desk, passages: Sequence[Passage]) -> list[Message]:
    groups = [passages[start : start + GROUP] for start in range(0, len(passages), GROUP)]
    if len(groups) == 1:
        return await desk.prompt("answer", passages)
    answers = await desk.replies("answer", groups)
    if not answers:
        return await desk.prompt("answer", passages)
    return await desk.prompt("join", await _until_they_fit(desk, answers, last="join", on_the_way="join"))


MODES: Mapping[AnswerMode, Mode] = {
    AnswerMode.STUFF: stuff,
    AnswerMode.REFINE: refine,
    AnswerMode.TREE_SUMMARIZE: tree_summarize,
    AnswerMode.MAP_REDUCE: map_reduce,
}


async def _improving(desk: Desk, passage: Passage, draft: str) -> list[Message]:
    return await desk.prompt("refine" if draft else "answer", [passage], draft)


async def _until_they_fit(
    desk: Desk, passages: Sequence[Passage], *, last: Part, on_the_way: Part
) -> Sequence[Passage]:
    """The passages if one prompt holds them, else the model's replies to groups of them, and so on.

    Replies of which no two go together do not become fewer: the last prompt cuts them.
    """
    groups = await desk.groups(last, passages)
    while len(groups) > 1:
        before = len(groups)
        passages = await desk.replies(on_the_way, groups) or passages
        groups = await desk.groups(last, passages)
        if len(groups) >= before:
            break
    return passages
