"""From a question to a cited answer.

rewrite → filter → refine → retrieve → sentences → rerank → links → select → expand → (judge → retrieve → …) →
generate → cite

The generator compresses and orders the passages and makes the prompts, as its answer mode needs them.
Every stage is an object with one method; one that is off is an object that changes nothing. Each reports to the trace.
A stage that only improves the answer may fail: it is left out and the answer says so; the search and the model may not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest

from core.db import documents
from core.db.session import Database
from core.errors import ModelError, RagError, Unavailable
from core.text import is_cjk, language
from core.types import Citation, ParsedDocument, Passage, Query
from models.llm.base import FinishReason, Usage
from models.llm.sampling import NONE_GIVEN, SamplingParams, warnings
from rag_service.answering.citations import Attributor, CitedText, CitingStream, Verifier
from rag_service.answering.generate import Generator
from rag_service.answering.judge import Judge, Verdict
from rag_service.answering.prompt import Prompts
from rag_service.answering.support import NOTHING_FOUND, Judged, SupportCheck
from rag_service.answering.task import AnswerMode, Task
from rag_service.answering.trace import Trace
from rerankers.base import Reranker
from rerankers.ranking import RankedBy, Ranking
from rerankers.select import select
from rerankers.sentences import SentenceMatcher, in_reach, shifted
from retrievers.base import Mode, Retrieved, Retriever, Rewriter, Scope, Turn
from retrievers.expand import Expander
from retrievers.links import LinkFollower
from retrievers.narrow import Narrower
from retrievers.overview import OverviewRetriever
from retrievers.refine import Refined, Refinement, Refiner, RefineRules, Search, Technique
from retrievers.rewrite import FollowUpRules
from retrievers.route import KbRouter
from retrievers.structure import Structure
from retrievers.whole_document import Kind, whole_document_question
from stores.filters import Filter

_MISSING_RERANKER = {
    RankedBy.LLM: "llm needs a language model that follows instructions (stages.rerank)",
    RankedBy.MODEL: "model needs a rerank model (reranker.kind)",
}
NOT_FOUND = {"zh": "知识库中没有找到相关内容。", "en": "Not found in the knowledge base."}


@dataclass(frozen=True, slots=True)
class Writers:
    """Who rewrites the question, who writes the answer, who refines it, who judges what was found and which language
    model could rank it (None: nobody).
    """

    rewriter: Rewriter
    generator: Generator
    refiner: Refiner = field(default_factory=RefineRules)
    judge: Judge | None = None
    reranker: Reranker | None = None


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
    refinement: Refinement = field(default_factory=Refinement)
    ranking: Ranking = field(default_factory=Ranking)
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


@dataclass(frozen=True, slots=True)
class Step:
    """One of several searches is over: its number from 1, what it asked, and how many passages there are by now.

    `enough` is what the judge says of them (None: not asked, it was the last round), `next_question` what comes next.
    """

    round: int
    question: str
    passages: int
    enough: bool | None
    next_question: str = ""


@dataclass(frozen=True, slots=True)
class _Ranking:
    """What one search found: `passages` ranked, best first, of the `candidates`.

    `own` are the best without links, where links moved some.
    """

    search: Search
    passages: Sequence[Passage]
    candidates: Sequence[Passage]
    own: Sequence[Passage]


@dataclass(slots=True)
class _Finding:
    """What is found by now, and where it is looked for."""

    ask: Ask
    trace: Trace
    query: Query = field(init=False)
    scopes: tuple[Scope, ...] = ()
    overview: Sequence[Passage] = ()
    rankings: list[_Ranking] = field(default_factory=list)
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
        rerankers: Mapping[RankedBy, Reranker],
        default_reranker: RankedBy,
        sentences: SentenceMatcher,
        links: LinkFollower,
        expander: Expander,
        supports: Mapping[str, SupportCheck],
        prompts: Prompts,
    ) -> None:
        self._database = database
        self._router = router
        self._narrower = narrower
        self._retriever = retriever
        self._overview = overview
        self._rerankers = rerankers
        self._default_reranker = default_reranker
        self._sentences = sentences
        self._links = links
        self._expander = expander
        self._supports = supports  # by embedder
        self._prompts = prompts

    async def search(self, ask: Ask, trace: Trace) -> list[Passage]:
        """The best passages, best first: every place where something stands, unless `distinct` is asked for."""
        ranking = replace(ask.ranking, distinct=bool(ask.ranking.distinct))
        finding = _Finding(replace(ask, ranking=ranking), trace)
        async with aclosing(self._find(finding)) as steps:
            async for _ in steps:
                pass
        return finding.passages

    async def judged(self, ask: Ask, trace: Trace) -> Judged:
        """How strongly the question's own candidates, unrefined, answer to it, and whether the best `top_k` of them
        support it: the best of its knowledge bases. Whether the question may be refused does not matter."""
        ask = replace(ask, structure=replace(ask.structure, links=False))
        finding = _Finding(ask, trace)
        finding.query = query = await self._rewrite(ask, trace)
        finding.scopes = await self._narrow(query, ask, await self._route(query, ask, trace), trace)
        await self._add(Search(query), finding)
        [only] = finding.rankings
        return Judged(
            strength=self._strength(query.standalone, only.candidates, finding.scopes),
            supported=self._support(query.standalone, only.passages[: ask.top_k], finding.scopes),
        )

    async def answer(self, ask: Ask) -> Answer:
        """The whole answer at once."""
        async with aclosing(self.stream(ask)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    return event
        raise ModelError("The model's answer broke off.")

    async def stream(self, ask: Ask) -> AsyncGenerator[Step | CitedText | Answer, None]:
        """The steps of a search in rounds, pieces of the answer as they come, the whole `Answer` as the last item."""
        generator = ask.writers.generator
        # What cannot be done is refused before any work.
        generator.check_mode(ask.answer_mode)
        params = generator.effective(ask.params)
        self._prompts.resolve(ask.question, ask.template)
        trace = Trace(warnings=[*ask.warnings, *warnings(params)])
        search = _Finding(ask, trace)
        async with aclosing(self._find(search)) as steps:
            async for step in steps:
                yield step
        if not search.found:
            yield CitedText(_not_found(ask.question))
            yield _nothing(ask.question, generator.name, trace)
            return
        # The template gets the question as it was asked; what it points back at is in the search.
        question = search.query.standalone if ask.history else ask.question
        passages = tuple(search.passages)
        task = Task(ask.question, question, passages, params, ask.answer_mode, ask.template, ask.ranking)
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

    async def _find(self, finding: _Finding) -> AsyncGenerator[Step, None]:
        """Fills `finding`; yields a step after each search, if there may be several rounds."""
        ask, trace, begun = finding.ask, finding.trace, time.monotonic()
        with trace.stage("rewrite", inputs=1 + len(ask.history)) as stage:
            finding.query = query = await self._rewrite(ask, trace)
            stage.outputs = len(query.searches)
            stage.notes = {"searches": list(query.searches)}
        finding.scopes = await self._narrow(query, ask, await self._route(query, ask, trace), trace)
        finding.overview = await self._whole_documents(query, ask, finding.scopes, trace)
        for search in await self._refine(finding):
            await self._add(search, finding)
        await self._expand(finding)
        if ask.refinement.rounds > 1:
            async with aclosing(self._rounds(finding, begun + ask.refinement.seconds)) as steps:
                async for step in steps:
                    yield step
        with trace.stage("support", inputs=len(finding.passages)) as stage:
            finding.found = bool(finding.overview) or self._supported(finding)
            stage.outputs = int(finding.found)

    async def _rounds(self, finding: _Finding, deadline: float) -> AsyncGenerator[Step, None]:
        """Searches on for what the judge misses, until it is enough or rounds or time are spent."""
        asked = [finding.query.standalone]
        for number in range(1, finding.ask.refinement.rounds):
            verdict = await self._judge(finding, asked, deadline)
            if verdict is None:
                return
            following = "" if verdict.enough else verdict.next_question
            yield Step(number, asked[-1], len(finding.passages), verdict.enough, following)
            if not following:
                return
            asked.append(following)
            await self._add(Search(Query(finding.query.text, (following,)), "next"), finding)
            await self._expand(finding)
        yield Step(len(asked), asked[-1], len(finding.passages), None)

    async def _judge(self, finding: _Finding, asked: Sequence[str], deadline: float) -> Verdict | None:
        """None if there is no verdict: the trace's `degraded` says why."""
        judge, trace = finding.ask.writers.judge, finding.trace
        if judge is None:
            trace.degrade(
                "judge: more than one round needs a language model that follows instructions (stages.judge)"
            )
            return None
        with trace.stage("judge", inputs=len(finding.passages)) as stage:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    verdict = await judge.judge(finding.query.standalone, finding.passages, asked)
            except TimeoutError:
                trace.degrade(f"judge: no time left after {len(asked)} rounds")
                return None
            except (ModelError, Unavailable) as error:
                trace.degrade(f"judge: {error.message}")
                return None
            stage.outputs = int(verdict.enough)
            stage.notes = {"round": len(asked), **verdict.model_dump()}
        return verdict

    async def _refine(self, finding: _Finding) -> tuple[Search, ...]:
        query, trace, techniques = finding.query, finding.trace, finding.ask.refinement.techniques
        if Technique.TRANSLATE in techniques and not await self._other_language(finding):
            techniques -= {Technique.TRANSLATE}
        if not techniques:
            return (Search(query),)
        with trace.stage("refine", inputs=len(techniques)) as stage:
            refined = await self._refined(query, techniques, finding)
            if refined.lacking:
                trace.degrade(
                    f"refine: {', '.join(refined.lacking)} needs a language model that follows instructions "
                    "(stages.rewrite)"
                )
            stage.outputs = len(refined.searches)
            stage.notes = {
                "techniques": sorted(techniques),
                "searches": [
                    {
                        "technique": search.technique or "question",
                        "searches": [search.query.imagined]
                        if search.query.imagined
                        else search.query.searches,
                    }
                    for search in refined.searches
                ],
            }
        return refined.searches

    async def _refined(self, query: Query, techniques: frozenset[Technique], finding: _Finding) -> Refined:
        try:
            return await finding.ask.writers.refiner.refine(query, techniques)
        except (ModelError, Unavailable) as error:
            finding.trace.degrade(f"refine: {error.message}")
            return Refined((Search(query),))

    async def _other_language(self, finding: _Finding) -> bool:
        """Whether documents are in another language than the question."""
        async with self._database.reading() as session:
            known = await documents.languages(session, [scope.kb_id for scope in finding.scopes])
        return bool(known - {language(finding.query.standalone)})

    async def _add(self, search: Search, finding: _Finding) -> None:
        """One search: its candidates, reranked."""
        ask, trace, query = finding.ask, finding.trace, search.query
        with trace.stage("retrieve", inputs=len(query.searches)) as stage:
            retrieved = await self._retrieve(query, ask, finding.scopes)
            stage.outputs = len(retrieved.passages)
            stage.notes = dict(retrieved.notes)
            if search.technique:
                stage.notes |= {"technique": search.technique, "question": query.standalone}
        candidates = await self._compared(query, retrieved.passages, finding)
        most, how = self._expander.wanted(candidates, ask.top_k, ask.structure), ask.ranking
        with trace.stage("rerank", inputs=len(candidates)) as stage:
            ranked = await self._rerank(query, candidates, most, finding)
            stage.outputs = len(ranked)
        linked = await self._linked(query, ranked, candidates, finding)
        with trace.stage("select", inputs=len(linked)) as stage:
            selected = select(linked, most=most, distinct=how.distinct is not False, diversity=how.diversity)
            stage.outputs = len(selected.passages)
            stage.notes = {"repeated": selected.repeated}
        own = () if linked is ranked else ranked[: ask.top_k]
        finding.rankings.append(_Ranking(search, selected.passages, candidates, own))

    async def _compared(
        self, query: Query, passages: Sequence[Passage], finding: _Finding
    ) -> Sequence[Passage]:
        """The passages, the nearest of them that are in another script compared with the question by sentences."""
        passages = shifted(passages)
        looked_at = in_reach(passages)
        if not finding.ask.ranking.sentences or not looked_at:
            return passages
        embedders = {scope.kb_name: scope.embedder for scope in finding.scopes}
        with finding.trace.stage("sentences", inputs=len(looked_at)) as stage:
            try:
                measured = await self._sentences.measured(query, passages, embedders)
            except (ModelError, Unavailable) as error:
                finding.trace.degrade(f"sentences: {error.message}")
                return passages
            stage.outputs = sum(len(passage.near) for passage in measured)
        return measured

    async def _linked(
        self, query: Query, ranked: Sequence[Passage], candidates: Sequence[Passage], finding: _Finding
    ) -> Sequence[Passage]:
        """The ranking, with documents that its best passages name."""
        if not finding.ask.structure.links:
            return ranked
        with finding.trace.stage("links", inputs=len(ranked)) as stage:
            try:
                followed = await self._links.followed(
                    query, ranked, candidates, finding.scopes, top_k=finding.ask.top_k
                )
            except RagError as error:
                finding.trace.degrade(f"links: {error.message}")
                return ranked
            stage.outputs = len(followed.passages)
            stage.notes = {"named": followed.names}
        return followed.passages if followed.names else ranked

    async def _expand(self, finding: _Finding) -> None:
        """The passages that all rankings make together; those that stand for whole documents come first."""
        ask, overview = finding.ask, finding.overview
        ranked = _alternated([ranking.passages for ranking in finding.rankings])
        with finding.trace.stage("expand", inputs=len(ranked)) as stage:
            expanded = await self._expander.expand(ranked, top_k=ask.top_k, how=ask.structure)
            finding.passages = [*overview, *expanded.passages][: max(ask.top_k, len(overview))]
            stage.outputs = len(expanded.passages)
            stage.notes = dict(expanded.notes)

    def _supported(self, finding: _Finding) -> bool:
        """Whether a search that asks what the user asked found what can answer it."""
        if not finding.ask.ranking.refuse:
            return bool(finding.passages)
        only = len(finding.rankings) == 1
        return any(
            self._support(
                ranking.search.query.standalone,
                # What links push out may be what can answer.
                [*(finding.passages if only else ranking.passages[: finding.ask.top_k]), *ranking.own],
                finding.scopes,
            )
            and self._strong(finding, ranking)
            for ranking in finding.rankings
            if only or ranking.search.asks
        )

    def _strong(self, finding: _Finding, ranking: _Ranking) -> bool:
        """Whether the candidates are as strong as the knowledge base asks."""
        least = finding.ask.ranking.least_strength
        question = ranking.search.query.standalone
        return least is None or self._strength(question, ranking.candidates, finding.scopes) >= least

    def _strength(self, question: str, candidates: Sequence[Passage], scopes: Sequence[Scope]) -> float:
        strengths = (check.strength(question, own) for check, own in self._checks(candidates, scopes))
        return max(strengths, default=NOTHING_FOUND)  # routing may choose none

    def _support(self, question: str, passages: Sequence[Passage], scopes: Sequence[Scope]) -> bool:
        return any(check.supported(question, own) for check, own in self._checks(passages, scopes))

    def _checks(
        self, passages: Sequence[Passage], scopes: Sequence[Scope]
    ) -> Iterator[tuple[SupportCheck, list[Passage]]]:
        """Who judges the passages of each scope: similarities mean what its embedder makes them mean."""
        for scope in scopes:
            own = [passage for passage in passages if passage.kb == scope.kb_name]
            yield self._supports[scope.embedder.name], own

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
        passages = tuple(_alternated([each.passages for each in found]))
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
            if asked.kind == Kind.WHICH and not self._support(asked.topic, passages, scopes):
                passages = []
            stage.outputs = len(passages)
            stage.notes = {"kind": asked.kind.value, "topic": asked.topic}
        return passages

    async def _rewrite(self, ask: Ask, trace: Trace) -> Query:
        try:
            return await ask.writers.rewriter.rewrite(ask.question, ask.history)
        except (ModelError, Unavailable) as error:
            trace.degrade(f"rewrite: {error.message}")
            return await FollowUpRules().rewrite(ask.question, ask.history)

    async def _rerank(
        self, query: Query, passages: Sequence[Passage], top_k: int, finding: _Finding
    ) -> Sequence[Passage]:
        """Best first; for a reranker that fails or is not there, which `degraded` names, the rule does it."""
        chosen, rule = finding.ask.ranking.reranker or self._default_reranker, RankedBy.COVERAGE
        reranker = finding.ask.writers.reranker if chosen is RankedBy.LLM else self._rerankers.get(chosen)
        if reranker is None:
            finding.trace.degrade(f"rerank: {_MISSING_RERANKER[chosen]}")
            reranker = self._rerankers[rule]
        try:
            return await reranker.rerank(query, passages, top_k=top_k)
        except RagError as error:
            finding.trace.degrade(f"rerank: {error.message}")
            return await self._rerankers[rule].rerank(query, passages, top_k=top_k)

    async def _originals(self, passages: Sequence[Passage]) -> dict[str, ParsedDocument]:
        revisions = {passage.record.document_id: passage.record.revision for passage in passages}
        async with self._database.reading() as session:
            found = {
                document_id: await documents.get_text(session, document_id, revision)
                for document_id, revision in revisions.items()
            }
        return {document_id: text for document_id, text in found.items() if text is not None}


def _alternated(rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
    """The best of each, then the second of each, and so on; every chunk once."""
    distinct: dict[str, Passage] = {}
    for passage in chain.from_iterable(zip_longest(*rankings)):
        if passage is not None:
            distinct.setdefault(passage.record.id, passage)
    return list(distinct.values())


def _not_found(question: str) -> str:
    return NOT_FOUND["zh" if is_cjk(question) else "en"]


def _nothing(question: str, model: str, trace: Trace) -> Answer:
    return Answer(_not_found(question), False, (), (), model, FinishReason.STOP, Usage(), trace)
