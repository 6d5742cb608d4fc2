"""Who writes the answer? The interface of generators, and those that ask a language model."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from core.errors import InvalidValue, PromptTooLong
from core.text import is_cjk
from models.llm.base import LLM, Delta, Message, Role
from models.llm.presets import Preset
from models.llm.sampling import SamplingParams
from rag_service.answering.desk import Desk
from rag_service.answering.modes import MODES
from rag_service.answering.prompt import Part, Prompts
from rag_service.answering.task import AnswerMode, Task
from rag_service.answering.trace import Trace
from rerankers.base import Compressor, Orderer
from rerankers.ranking import CutBy, Order

LEAST_ROOM = 128  # tokens of a prompt; below that nothing sensible can be asked


class Generator(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def preset(self) -> Preset:
        """Which sampling parameters it knows."""
        ...

    def effective(self, params: SamplingParams) -> SamplingParams:
        """The parameters with the settings' where these leave them open.

        Raises `InvalidValue` for one that the engine lacks, and where they leave no room for a prompt.
        """
        ...

    def check_mode(self, mode: AnswerMode) -> None:
        """Raise `InvalidValue` if it cannot answer in this mode."""
        ...

    def preamble(self, question: str) -> str:
        """What the reader must know before the answer; it is no part of it and needs no citation."""
        ...

    def stream(self, task: Task, trace: Trace) -> AsyncGenerator[Delta, None]:
        """The answer; its last delta has the usage of all calls. Reports its stages to the trace."""
        ...


class LlmGenerator:
    """Lets a language model answer, in every mode."""

    def __init__(
        self,
        llm: LLM,
        defaults: SamplingParams,
        prompts: Prompts,
        *,
        compressors: Mapping[CutBy, Compressor],
        orderers: Mapping[Order, Orderer],
    ) -> None:
        self._llm = llm
        self._defaults = defaults
        self._prompts = prompts
        self._compressors = compressors  # without CutBy.LLM where the model does not follow instructions
        self._orderers = orderers

    @property
    def name(self) -> str:
        return self._llm.name

    @property
    def preset(self) -> Preset:
        return self._llm.preset

    def effective(self, params: SamplingParams) -> SamplingParams:
        merged = params.over(self._defaults)
        self._llm.preset.refuse(merged)
        if self._room(merged) < LEAST_ROOM:
            raise InvalidValue(
                f"max_new_tokens is {merged.max_new_tokens}, which leaves no room for a prompt: {self.name} has a "
                f"context of {self._llm.context_tokens} tokens.",
                hint="Ask for a shorter answer, or raise llm.context_tokens if the engine has more.",
            )
        return merged

    def check_mode(self, mode: AnswerMode) -> None:
        return

    def preamble(self, question: str) -> str:
        return ""

    async def stream(self, task: Task, trace: Trace) -> AsyncGenerator[Delta, None]:
        room = self._room(task.params)
        while True:
            begun = False
            try:
                async with aclosing(self._attempt(task, trace, room)) as deltas:
                    async for delta in deltas:
                        begun = True
                        yield delta
                return
            except PromptTooLong:  # an estimate was too low: the engine refuses and never cuts
                room = room * 3 // 4
                if begun or room < LEAST_ROOM:
                    raise

    async def _attempt(self, task: Task, trace: Trace, room: int) -> AsyncGenerator[Delta, None]:
        def render(part: Part, texts: Sequence[str], draft: str) -> list[Message]:
            prompt = self._prompts.render(
                task.question, texts, part=part, template=task.template, draft=draft
            )
            return self._messages(prompt, task.question)

        desk = Desk(
            self._llm,
            task,
            trace,
            room=room,
            render=render,
            compressors=self._compressors,
            orderer=self._orderers[task.ranking.order],
        )
        messages = await MODES[task.mode](desk, task.passages)
        with trace.stage("generate", inputs=1) as stage:
            stage.notes = {"model": self.name}
            start = time.perf_counter()
            async with aclosing(self._llm.stream(messages, task.params)) as deltas:
                async for delta in deltas:
                    if delta.text and "first_token_ms" not in stage.notes:
                        stage.notes["first_token_ms"] = round((time.perf_counter() - start) * 1000, 2)
                    if delta.finish_reason is not None:
                        stage.outputs = delta.usage.completion_tokens
                        stage.notes["prompt_tokens"] = delta.usage.prompt_tokens
                        desk.add(delta.usage)
                        yield replace(delta, usage=desk.usage)
                    else:
                        yield delta

    def _room(self, params: SamplingParams) -> int:
        """Tokens that a prompt may have."""
        return self._llm.context_tokens - (params.max_new_tokens or 0)

    def _messages(self, prompt: str, question: str) -> list[Message]:
        return [Message(Role.USER, prompt)]


# A base model does not follow instructions, it continues texts. Shown three answered prompts of the same form
# it answers the fourth in one line; without them it repeats the question or runs on.
_ANSWER_LINE = {"zh": "\n回答：", "en": "\nAnswer: "}
_EXAMPLES = {
    "zh": (
        (
            "谁是财务部经理？",
            ("李华于2015年加入研发部，现任高级工程师。", "张敏是财务部经理。"),
            "财务部经理是张敏。",
        ),
        ("押金是多少？", ("本合同的押金为两千元，租期满后七日内退还。", "租金按月支付。"), "押金是两千元。"),
        ("泰山有多高？", ("泰山海拔1532.7米，位于山东省。", "图书馆上午九点开放。"), "泰山高1532.7米。"),
    ),
    "en": (
        (
            "Who manages finance?",
            ("Tom joined research in 2015 and is a senior engineer.", "Mary Smith manages finance."),
            "Mary Smith manages finance.",
        ),
        (
            "How much is the deposit?",
            ("The deposit is 2,000 dollars and is returned within seven days.", "Rent is paid monthly."),
            "The deposit is 2,000 dollars.",
        ),
        (
            "How high is Mount Tai?",
            ("Mount Tai is 1,532.7 metres high.", "The library opens at nine."),
            "Mount Tai is 1,532.7 metres high.",
        ),
    ),
}
_ONE_LINE = ("\n", "```")


class CompletionGenerator(LlmGenerator):
    """For base models: the prompt comes after worked examples, and the answer is the rest of its line."""

    def effective(self, params: SamplingParams) -> SamplingParams:
        merged = super().effective(params)
        return merged.changed(stop=(*(merged.stop or ()), *_ONE_LINE))

    def check_mode(self, mode: AnswerMode) -> None:
        if mode is not AnswerMode.STUFF:
            raise InvalidValue(
                f"{self.name} is a base model: it continues texts and cannot be told to work in the mode {mode}.",
                hint="Use an instruction-tuned model, or the mode stuff.",
            )

    def _messages(self, prompt: str, question: str) -> list[Message]:
        language = "zh" if is_cjk(question) else "en"
        examples = _worked(self._prompts, language)
        return [Message(Role.USER, examples + prompt + _ANSWER_LINE[language].rstrip())]

    async def stream(self, task: Task, trace: Trace) -> AsyncGenerator[Delta, None]:
        """Without the space that the answer begins with."""
        begun = False
        async with aclosing(super().stream(task, trace)) as deltas:
            async for delta in deltas:
                text = delta.text if begun else delta.text.lstrip()
                begun = begun or bool(text)
                yield replace(delta, text=text)


def _worked(prompts: Prompts, language: str) -> str:
    """The examples as prompts in the service's own form, each with its answer."""
    return "".join(
        f"{prompts.render(question, passages, template=language)}{_ANSWER_LINE[language]}{answer}\n\n"
        for question, passages, answer in _EXAMPLES[language]
    )
