"""How does a prompt fit the model's context, and what is dropped if it does not? Where one answer is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from core.errors import InvalidValue, ModelError, RagError
from core.text import weight
from core.types import Passage, Query, Record, Span
from models.llm.base import LLM, Message, Usage
from models.llm.tokens import estimated_tokens
from rag_service.answering.prompt import Part
from rag_service.answering.task import Task
from rag_service.answering.trace import Trace
from rerankers.base import Compressor, Orderer
from rerankers.ranking import CutBy

MOST_TRIES = 6  # each comes within a few percent of the budget, so the second nearly always fits
MARGIN = 0.95  # of the room, since sentences are dropped whole and tokens do not follow characters exactly
# Makes the messages of a prompt: which part, the texts in the order to be read, the answer so far.
Render = Callable[[Part, Sequence[str], str], list[Message]]


class Desk:
    """The work on one answer: prompts of at most `room` tokens, and the calls that come before the last one.

    Tokens are counted by the model's own tokenizer where the engine lends it, else estimated; the trace says which.
    `usage` sums up the calls.
    """

    def __init__(
        self,
        llm: LLM,
        task: Task,
        trace: Trace,
        *,
        room: int,
        render: Render,
        compressors: Mapping[CutBy, Compressor],
        orderer: Orderer,
    ) -> None:
        self._llm = llm
        self._task = task
        self._trace = trace
        self._room = room
        self._render = render
        self._compressors = compressors
        self._orderer = orderer
        self._counted_by = "tokenizer"
        self.usage = Usage()

    async def prompt(self, part: Part, passages: Sequence[Passage], draft: str = "") -> list[Message]:
        """The prompt of this part with as much of the passages (best first) as fits.

        Raises `InvalidValue` if not even the question does.
        """
        with self._trace.stage("compress", inputs=len(passages)) as stage:
            kept, tokens = await self._fitting(part, passages, draft)
            stage.outputs = len(kept)
            stage.notes = self._dropped(passages, kept)
        with self._trace.stage("order", inputs=len(kept)) as stage:
            ordered = self._orderer.order(kept)
            stage.outputs = len(ordered)
        with self._trace.stage("prompt", inputs=len(ordered)) as stage:
            messages = self._messages(part, ordered, draft)
            stage.outputs = tokens
            stage.notes = {"part": part, "tokens": tokens, "room": self._room, "counted_by": self._counted_by}
        return messages

    async def complete(self, messages: Sequence[Message]) -> str:
        """What the model answers on the way to the last prompt."""
        with self._trace.stage("step", inputs=1) as stage:
            pieces: list[str] = []
            async with aclosing(self._llm.stream(messages, self._task.params)) as deltas:
                async for delta in deltas:
                    pieces.append(delta.text)
                    if delta.finish_reason is not None:
                        self.add(delta.usage)
                        stage.outputs = delta.usage.completion_tokens
        return "".join(pieces).strip()

    def add(self, usage: Usage) -> None:
        self.usage = Usage(
            self.usage.prompt_tokens + usage.prompt_tokens,
            self.usage.completion_tokens + usage.completion_tokens,
        )

    async def replies(self, part: Part, groups: Sequence[Sequence[Passage]]) -> list[Passage]:
        """The model's reply to each group under the prompt of this part, as passages; empty ones are left out.

        All at once, as far as the engine's limit allows.
        """

        async def reply(group: Sequence[Passage]) -> str:
            return await self.complete(await self.prompt(part, group))

        texts = await _all(reply(group) for group in groups)
        return [as_passage(text) for text in texts if text]

    async def groups(self, part: Part, passages: Sequence[Passage]) -> list[list[Passage]]:
        """The passages in their order, as many together as fit into one prompt of this part."""
        tokens = await self._count(self._messages(part, passages, ""))
        if tokens <= self._least_space:
            return [list(passages)]
        overhead, room = await self._space(part, "")
        if tokens <= room:
            return [list(passages)]
        sizes = await _all(self._count(self._messages(part, [passage], "")) for passage in passages)
        groups: list[list[Passage]] = []
        filled = room
        for passage, size in zip(passages, sizes, strict=True):
            if filled + size - overhead > room:
                groups.append([])
                filled = overhead
            groups[-1].append(passage)
            filled += size - overhead
        return groups

    async def _fitting(
        self, part: Part, passages: Sequence[Passage], draft: str
    ) -> tuple[Sequence[Passage], int]:
        tokens = await self._count(self._messages(part, passages, draft))
        if tokens <= self._least_space:
            return passages, tokens
        overhead, room = await self._space(part, draft)
        if tokens <= room:
            return passages, tokens
        kept: Sequence[Passage] = passages
        budget = _weight(passages)
        query = Query(self._task.asked, (self._task.question,))
        for _ in range(MOST_TRIES):
            budget *= MARGIN * (room - overhead) / max(tokens - overhead, 1)
            kept = await self._compressed(query, passages, budget)
            tokens = await self._count(self._messages(part, kept, draft))
            if tokens <= room:
                return kept, tokens
            budget = _weight(kept)
        if tokens <= self._room:  # what cannot be cut (a table's head, a summary) is more than was wished for
            return kept, tokens
        raise self._no_room(overhead)

    async def _compressed(
        self, query: Query, passages: Sequence[Passage], budget: float
    ) -> Sequence[Passage]:
        """As it was chosen; where that leaves nothing, the related sentences; where none fits, the beginning."""
        by_rule = self._compressors[CutBy.SENTENCES]
        return (
            await self._cut_as_chosen(query, passages, budget)
            or await by_rule.compress(query, passages, budget=budget)
            or _beginning(passages[0], budget)
        )

    async def _cut_as_chosen(
        self, query: Query, passages: Sequence[Passage], budget: float
    ) -> Sequence[Passage]:
        """By another compressor than the rule; nothing if it is not there or fails, which `degraded` tells."""
        chosen = self._task.ranking.compression
        if chosen is CutBy.SENTENCES:
            return ()
        if chosen not in self._compressors:
            self._trace.degrade(f"compress: {self._llm.name} does not follow instructions")
            return ()
        try:
            return await self._compressors[chosen].compress(query, passages, budget=budget)
        except RagError as error:
            self._trace.degrade(f"compress: {error.message}")
            return ()

    @property
    def _least_space(self) -> int:
        """Tokens that any prompt may have, whatever it takes without passages."""
        return min(self._room, self._task.ranking.passage_tokens or self._room)

    async def _space(self, part: Part, draft: str) -> tuple[int, int]:
        """Tokens of a prompt without passages, and how many one with them may have."""
        overhead, most = await self._overhead(part, draft), self._task.ranking.passage_tokens
        return overhead, min(self._room, overhead + most) if most else self._room

    async def _overhead(self, part: Part, draft: str) -> int:
        """Tokens of a prompt without passages."""
        overhead = await self._count(self._messages(part, (), draft))
        if overhead >= self._room:
            raise self._no_room(overhead)
        return overhead

    def _no_room(self, overhead: int) -> InvalidValue:
        return InvalidValue(
            f"Template and question take {overhead} tokens ({self._counted_by}); {self._llm.name} has room for "
            f"{self._room} beside its answer, passages included.",
            hint="Shorten the question, lower max_new_tokens, or raise llm.context_tokens if the engine has more.",
        )

    async def _count(self, messages: Sequence[Message]) -> int:
        try:
            counted = await self._llm.count_tokens(messages)
        except ModelError as error:  # behind a proxy, say, that lets only /v1 through
            self._counted_by = f"estimate ({error.message})"
            return estimated_tokens(messages)
        if counted is None:
            self._counted_by = "estimate"
            return estimated_tokens(messages)
        return counted

    def _messages(self, part: Part, passages: Sequence[Passage], draft: str) -> list[Message]:
        return self._render(part, [passage.text for passage in passages], draft)

    def _dropped(self, before: Sequence[Passage], after: Sequence[Passage]) -> dict[str, int]:
        characters = sum(len(p.text) for p in before) - sum(len(p.text) for p in after)
        return {
            "dropped_passages": len(before) - len(after),
            "dropped_characters": max(characters, 0),
        }


def as_passage(text: str) -> Passage:
    """A text of the model's own, to be prompted with like a passage."""
    return Passage(Record("", "", "", text, end=len(text)), "", 1.0)


def _beginning(passage: Passage, budget: float) -> list[Passage]:
    """The beginning of a passage of which not even one sentence fits."""
    record = passage.record
    length = max(1, int(len(record.text) * budget / max(weight(record.text), 1)))
    return [replace(passage, spans=(Span(record.start, min(record.start + length, record.end)),))]


def _weight(passages: Sequence[Passage]) -> float:
    return sum(weight(passage.text) for passage in passages)


async def _all(work: Any) -> list[Any]:
    """The results in order. If one fails, or the caller is cancelled, the others end first."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
