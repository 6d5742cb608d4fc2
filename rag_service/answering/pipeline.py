"""From a question to a cited answer.

rewrite → filter → retrieve → rerank → expand → generate → cite

The generator compresses and orders the passages and makes the prompts, as its answer mode needs them.
Every stage is an object with one method; one that is off is an object that changes nothing. Each reports to the trace.
A stage that only improves the answer may fail: it is left out and the answer says so; the search and the model may not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from core.db import documents
from core.db.session import Database
from core.errors import ModelError, RagError, Unavailable
from core.text import is_cjk
from core.types import Citation, ParsedDocument, Passage, Query
from models.llm.base import FinishReason, Usage
from models.llm.sampling import NONE_GIVEN, SamplingParams, warnings
from rag_service.answering.citations import Attributor, CitedText, CitingStream, Verifier
from rag_service.answering.generate import Generator
from rag_service.answering.prompt import Prompts
from rag_service.answering.support import SupportCheck
from rag_service.answering.task import AnswerMode, Task
from rag_service.answering.trace import Trace
from rerankers.base import Reranker
from retrievers.base import Mode, Retrieved, Retriever, Rewriter, Scope, Turn
from retrievers.expand import Expander
from retrievers.narrow import Narrower
from retrievers.overview import OverviewRetriever
from retrievers.rewrite import FollowUpRules
from retrievers.route import KbRouter
from retrievers.structure import Structure
from retrievers.whole_document import Kind, whole_document_question
from stores.filters import Filter

NOT_FOUND = {"zh": "知识库中没有找到相关内容。", "en": "Not found in the knowledge base."}


@dataclass(frozen=True, slots=True)
class Writers:
    """Who rewrites the question, and who writes the answer."""

    rewriter: Rewriter
    generator: Generator


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, where to look, and how (the request's wishes with the settings' defaults filled in).

    `writers` are the models that do the work; `params` what request and knowledge base ask of the one that answers.
    With `route`, of the `scopes` only those are searched that are nearest to the question.
    """

    question: str
    scopes: tuple[Scope, ...]
    top_k: int
    pool: int
    mode: Mode
    writers: Writers
    structure: Structure = field(default_factory=Structure)
    where: Filter | None = None
    route: bool = False
    unreachable: tuple[str, ...] = ()  # what `scopes` lacks, in words
    history: tuple[Turn, ...] = ()
    template: str | None = None
    params: SamplingParams = NONE_GIVEN
    answer_mode: AnswerMode = AnswerMode.STUFF
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer with its marks, the citations they point to, and how it came about."""

    text: str
    found: bool
    citations: tuple[Citation, ...]
    unsupported: tuple[str, ...]
    model: str
    finish_reason: FinishReason
    usage: Usage
    trace: Trace


@dataclass(slots=True)
class _Search:
    query: Query
    passages: list[Passage] = field(default_factory=list)
    found: bool = False


class AnsweringPipeline:
    """The stages of answering; `search` is the first half, `stream` the whole flow."""

    def __init__(
        self,
        *,
        database: Database,
        router: KbRouter,
        narrower: Narrower,
        retriever: Retriever,
        overview: OverviewRetriever,
        reranker: Reranker,
        expander: Expander,
        support: SupportCheck,
        prompts: Prompts,
    ) -> None:
        self._database = database
        self._router = router
        self._narrower = narrower
        self._retriever = retriever
        self._overview = overview
        self._reranker = reranker
        self._expander = expander
        self._support = support
        self._prompts = prompts

    async def search(self, ask: Ask, trace: Trace) -> list[Passage]:
        """The best passages, best first."""
        return (await self._search(ask, trace)).passages

    async def answer(self, ask: Ask) -> Answer:
        """The whole answer at once."""
        async with aclosing(self.stream(ask)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    return event
        raise ModelError("The model's answer broke off.")

    async def stream(self, ask: Ask) -> AsyncGenerator[CitedText | Answer, None]:
        """Pieces of the answer as they come, then the whole `Answer` as the last item."""
        generator = ask.writers.generator
        # What cannot be done is refused before any work.
        generator.check_mode(ask.answer_mode)
        params = generator.effective(ask.params)
        self._prompts.resolve(ask.question, ask.template)
        trace = Trace(warnings=[*ask.warnings, *warnings(params)])
        search = await self._search(ask, trace)
        if not search.found:
            yield CitedText(_not_found(ask.question))
            yield _nothing(ask.question, generator.name, trace)
            return
        # The template gets the question as it was asked; what it points back at is in the search.
        question = search.query.standalone if ask.history else ask.question
        passages = tuple(search.passages)
        task = Task(ask.question, question, passages, params, ask.answer_mode, ask.template)
        originals = await self._originals(passages)
        citing = CitingStream(Attributor(passages, Verifier(originals)))
        preamble = generator.preamble(ask.question)
        finish, usage = FinishReason.STOP, Usage()
        begun = False
        async with aclosing(generator.stream(task, trace)) as deltas:
            async for delta in deltas:
                if delta.text and not begun:
                    begun = True
                    if preamble:
                        yield CitedText(preamble)
                for piece in citing.feed(delta.text):
                    yield piece
                if delta.finish_reason is not None:
                    finish, usage = delta.finish_reason, delta.usage
        with trace.stage("cite", inputs=len(passages)) as stage:
            for piece in citing.finish():
                yield piece
            citations = tuple(citing.citations)
            stage.outputs = len(citations)
            stage.notes = {"unsupported": len(citing.unsupported)}
        if not citing.text.strip():  # the passages hold nothing that could be said
            yield CitedText(_not_found(ask.question))
            yield _nothing(ask.question, generator.name, trace)
            return
        yield Answer(
            text=preamble + citing.text,
            found=True,
            citations=citations,
            unsupported=tuple(citing.unsupported),
            model=generator.name,
            finish_reason=finish,
            usage=usage,
            trace=trace,
        )

    async def _search(self, ask: Ask, trace: Trace) -> _Search:
        with trace.stage("rewrite", inputs=1 + len(ask.history)) as stage:
            query = await self._rewrite(ask, trace)
            stage.outputs = len(query.searches)
            stage.notes = {"searches": list(query.searches)}
        scopes = await self._narrow(query, ask, await self._route(query, ask, trace), trace)
        overview = await self._whole_documents(query, ask, scopes, trace)
        with trace.stage("retrieve", inputs=len(query.searches)) as stage:
            retrieved = await self._retrieve(query, ask, scopes)
            stage.outputs = len(retrieved.passages)
            stage.notes = dict(retrieved.notes)
        with trace.stage("rerank", inputs=len(retrieved.passages)) as stage:
            most = self._expander.wanted(retrieved.passages, ask.top_k, ask.structure)
            ranked = await self._rerank(query, retrieved.passages, most, trace)
            stage.outputs = len(ranked)
        with trace.stage("expand", inputs=len(ranked)) as stage:
            expanded = await self._expander.expand(ranked, top_k=ask.top_k, how=ask.structure)
            passages = [*overview, *expanded.passages][: max(ask.top_k, len(overview))]
            stage.outputs = len(expanded.passages)
            stage.notes = dict(expanded.notes)
        with trace.stage("support", inputs=len(passages)) as stage:
            found = bool(overview) or self._support.supported(query.standalone, passages)
            stage.outputs = int(found)
        return _Search(query, passages, found)

    async def _route(self, query: Query, ask: Ask, trace: Trace) -> tuple[Scope, ...]:
        if not ask.route:
            return ask.scopes
        with trace.stage("route", inputs=len(ask.scopes)) as stage:
            routed = await self._router.route(query.standalone, ask.scopes)
            stage.outputs = len(routed.scopes)
            stage.notes = {"chosen": [scope.kb_name for scope in routed.scopes], "scores": routed.scores}
            trace.degraded += [*ask.unreachable, *routed.failed]
        return routed.scopes

    async def _narrow(
        self, query: Query, ask: Ask, scopes: Sequence[Scope], trace: Trace
    ) -> tuple[Scope, ...]:
        if not ask.structure.fields:
            scopes = [replace(scope, fields=()) for scope in scopes]
        declared = sum(len(scope.fields) for scope in scopes)
        if ask.where is None and not declared:
            return tuple(scopes)
        with trace.stage("filter", inputs=declared) as stage:
            narrowed = [await self._narrower.narrow(query.standalone, scope, ask.where) for scope in scopes]
            stage.outputs = sum(len(each.scope.document_ids or ()) for each in narrowed)
            only = len(narrowed) == 1
            stage.notes = narrowed[0].notes if only else {n.scope.kb_name: n.notes for n in narrowed}
        return tuple(each.scope for each in narrowed)

    async def _retrieve(self, query: Query, ask: Ask, scopes: Sequence[Scope]) -> Retrieved:
        """The candidates of all scopes; the reranker compares those of different knowledge bases."""
        found = [
            await self._retriever.retrieve(
                query, scope, mode=ask.mode, pool=ask.pool, recursive=ask.structure.recursive
            )
            for scope in scopes
        ]
        if len(found) == 1:
            return found[0]
        passages = tuple(passage for each in found for passage in each.passages)
        return Retrieved(passages, {s.kb_name: len(f.passages) for s, f in zip(scopes, found, strict=True)})

    async def _whole_documents(
        self, query: Query, ask: Ask, scopes: Sequence[Scope], trace: Trace
    ) -> list[Passage]:
        """Passages that stand for documents, if the question is about whole ones."""
        asked = whole_document_question(query.standalone) if ask.structure.whole_document else None
        if asked is None:
            return []
        with trace.stage("overview", inputs=len(scopes)) as stage:
            passages = [p for scope in scopes for p in await self._overview.retrieve(asked, scope)]
            if asked.kind == Kind.WHICH and not self._support.supported(asked.topic, passages):
                passages = []
            stage.outputs = len(passages)
            stage.notes = {"kind": asked.kind.value, "topic": asked.topic}
        return passages

    async def _rewrite(self, ask: Ask, trace: Trace) -> Query:
        try:
            return await ask.writers.rewriter.rewrite(ask.question, ask.history)
        except (ModelError, Unavailable) as error:
            trace.degraded.append(f"rewrite: {error.message}")
            return await FollowUpRules().rewrite(ask.question, ask.history)

    async def _rerank(
        self, query: Query, passages: Sequence[Passage], top_k: int, trace: Trace
    ) -> list[Passage]:
        try:
            return await self._reranker.rerank(query, passages, top_k=top_k)
        except RagError as error:
            trace.degraded.append(f"rerank: {error.message}")
            return list(passages[:top_k])

    async def _originals(self, passages: Sequence[Passage]) -> dict[str, ParsedDocument]:
        revisions = {passage.record.document_id: passage.record.revision for passage in passages}
        async with self._database.transaction() as session:
            found = {
                document_id: await documents.get_text(session, document_id, revision)
                for document_id, revision in revisions.items()
            }
        return {document_id: text for document_id, text in found.items() if text is not None}


def _not_found(question: str) -> str:
    return NOT_FOUND["zh" if is_cjk(question) else "en"]


def _nothing(question: str, model: str, trace: Trace) -> Answer:
    return Answer(_not_found(question), False, (), (), model, FinishReason.STOP, Usage(), trace)
