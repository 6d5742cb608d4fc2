"""Which class does which job: the only file that names concrete classes. Opens and closes everything.

A new store or model is one file of its own and one builder here. A builder imports what it builds, so that
only the drivers that the settings ask for are loaded.
"""

# ruff: noqa: PLC0415 (imports inside the builders)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib import import_module, invalidate_caches
from ipaddress import ip_network
from typing import Any

from celery import Celery

from core.db.session import Database
from core.errors import InvalidValue, SettingsError
from core.settings import (
    DEFAULT_LLM,
    STORE_SERVERS,
    EmbedderSettings,
    LlmSettings,
    RerankerSettings,
    Settings,
    StoreServer,
)
from core.text import weight
from ingest.backup import Reader
from ingest.checker import Checker
from ingest.chunkers.base import Chunker, Chunking, Strategy
from ingest.chunkers.headings import HeadingTreeChunker
from ingest.chunkers.packing import Packer
from ingest.chunkers.pages import PageChunker
from ingest.chunkers.parents import ParentChildChunker
from ingest.chunkers.recursive import RecursiveChunker
from ingest.chunkers.sentence import SentenceChunker
from ingest.chunkers.tables import TableAwareChunker
from ingest.chunkers.window import SentenceWindowChunker
from ingest.fetch import Allowed, Fetcher
from ingest.files import FileStore
from ingest.fsck import Fsck
from ingest.intake import Intake
from ingest.parsers import Limits
from ingest.pipeline import IngestPipeline, Parse
from ingest.queue import Signals, make_celery
from ingest.runner import JobRunner
from ingest.sandbox import parse_in_child
from ingest.summarise import ExtractiveSummariser, LlmSummariser, Summariser, SummariserOf
from ingest.sync import Syncer
from models.embedders.base import BUNDLED, Embedder, Embedders
from models.http import ModelServer
from models.llm.base import LLM
from models.llm.detect import running_ollama_model
from models.llm.limits import LimitedLLM, RetryingLLM
from models.llm.presets import FASTCHAT, LLAMA_CPP, LLAMA_FACTORY, OPENAI, RTP_LLM, VLLM, Preset
from models.llm.sampling import SamplingParams
from models.rerankers.base import RerankModel
from rag_service.answering.extractive import ExtractiveGenerator
from rag_service.answering.generate import CompletionGenerator, Generator, LlmGenerator
from rag_service.answering.judge import Judge, LlmJudge
from rag_service.answering.pipeline import AnsweringPipeline
from rag_service.answering.prompt import Prompts
from rag_service.answering.support import AnyPassage, CoverageAndCosine, SupportCheck, Thresholds
from rerankers.base import Compressor, Orderer, Reranker
from rerankers.compress import KeepWhole, SentenceCompressor
from rerankers.listwise import ListwiseReranker
from rerankers.llm_compress import LlmCompressor
from rerankers.model import ModelReranker
from rerankers.order import BestAtBothEnds, BestFirst
from rerankers.ranking import CutBy, Order, RankedBy
from rerankers.rerank import CoverageReranker, KeepOrder
from rerankers.sentences import SentenceMatcher
from retrievers.base import Rewriter
from retrievers.documents import StoredDocuments
from retrievers.expand import Expander
from retrievers.links import LinkFollower
from retrievers.narrow import Narrower
from retrievers.overview import OverviewRetriever
from retrievers.refine import LlmRefiner, Refiner, RefineRules
from retrievers.rewrite import FollowUpRules, LlmRewriter
from retrievers.route import KbRouter
from retrievers.two_stage import TwoStageRetriever
from stores.base import VectorStore
from stores.live import LiveStores

OLLAMA_URL = "http://127.0.0.1:11434"


def _bundled(s: EmbedderSettings) -> Embedder:
    from models.embedders.bundled import BundledEmbedder

    return BundledEmbedder(threads=s.threads)


def _sentence_transformers(s: EmbedderSettings) -> Embedder:
    from models.embedders.sentence_transformer import SentenceTransformerEmbedder

    assert s.model is not None  # the settings refuse this kind without it
    return SentenceTransformerEmbedder(
        model=s.model,
        query_prefix=s.query_prefix,
        passage_prefix=s.passage_prefix,
        device=s.device,
        threads=s.threads,
        batch_tokens=s.batch_tokens,
    )


def _ollama_embedder(s: EmbedderSettings) -> Embedder:
    from models.embedders.ollama import OllamaEmbedder

    return OllamaEmbedder(_model_server(s, "embedder", s.url or OLLAMA_URL), **_remote(s))


def _openai_embedder(s: EmbedderSettings) -> Embedder:
    from models.embedders.openai_compatible import OpenAIEmbedder

    assert s.url is not None  # the settings refuse this kind without it
    return OpenAIEmbedder(_model_server(s, "embedder", s.url), **_remote(s))


def _remote(s: EmbedderSettings) -> dict[str, Any]:
    names = ("model", "query_prefix", "passage_prefix", "max_tokens", "batch_tokens")
    return {name: getattr(s, name) for name in names}


def _model_server(s: EmbedderSettings | RerankerSettings, group: str, url: str) -> ModelServer:
    return ModelServer(
        url,
        group=group,
        api_key=s.api_key.get_secret_value() if s.api_key else None,
        timeout_s=s.timeout_s,
        concurrency=s.concurrency,
    )


def _cross_encoder(s: RerankerSettings) -> RerankModel:
    from models.rerankers.cross_encoder import CrossEncoderModel

    assert s.model is not None  # the settings refuse this kind without it
    return CrossEncoderModel(model=s.model, device=s.device, threads=s.threads, timeout_s=s.timeout_s)


def _http_reranker(s: RerankerSettings) -> RerankModel:
    from models.rerankers.http import HttpRerankModel

    assert s.url is not None  # the settings refuse this kind without it
    return HttpRerankModel(_model_server(s, "reranker", s.url), protocol=s.protocol, model=s.model)


EMBEDDERS: Mapping[str, Callable[[EmbedderSettings], Embedder]] = {
    "bundled": _bundled,
    "sentence-transformers": _sentence_transformers,
    "ollama": _ollama_embedder,
    "openai": _openai_embedder,
}
RERANK_MODELS: Mapping[str, Callable[[RerankerSettings], RerankModel]] = {
    "cross-encoder": _cross_encoder,
    "http": _http_reranker,
}
# For an embedder, by name, from which score on a passage can hold the answer (benchmarks/refusal.py). Measured on
# nine sets and small parts of them: no answerable question refused (across scripts up to 1.4 %), of questions about
# something else on average 88 % (English) and 67 % (Chinese), most in small bases; see docs/benchmarks.md.
SUPPORT: Mapping[str, Thresholds] = {
    BUNDLED: Thresholds(
        coverage_weight=0.125, same_script=0.94, other_script=0.86, from_chinese=0.885, to_chinese=0.87
    ),
}


def database_url(settings: Settings) -> str:
    """Raises `SettingsError` where neither a server is named nor `rag-service up` has started one."""
    if settings.database.url is None:
        raise SettingsError(
            "database.url is not set, and this process was not started by `rag-service up`.",
            hint="Start the service with `rag-service up`, or set RAG_DATABASE__URL.",
        )
    return settings.database.url.get_secret_value()


def make_stores(settings: Settings) -> LiveStores:
    """pgvector, and the stores that the settings connect to."""

    def pgvector() -> VectorStore:
        from stores.pgvector import PgVectorStore

        database = settings.database
        return PgVectorStore(
            database_url(settings),
            database.pool_size,
            answer_s=database.timeout_s,
            half=database.half_vectors,
        )

    builders: dict[str, Callable[[], VectorStore]] = {"pgvector": pgvector}
    for kind, server in settings.stores.items():
        builders[kind] = partial(make_store, kind, server)
    return LiveStores(builders)


def make_store(kind: str, server: StoreServer) -> VectorStore:
    """The store of this kind on that server, not open. Raises `StoreError` where its driver is not installed."""
    module, _, name = STORE_SERVERS[kind].rpartition(".")
    invalidate_caches()  # the driver may have been installed since the last attempt
    store: VectorStore = getattr(import_module(module), name).at(server)
    return store


@asynccontextmanager
async def open_llms(settings: Settings, *names: str) -> AsyncIterator[dict[str, LLM | None]]:
    """The language models of these names (without names: all), closed when the block ends.

    None stands for extractive answers. Models behind one address share its smallest limit of answers at a time.
    """
    chosen = {name: settings.all_llms[name] for name in names or settings.all_llms}
    kinds = {name: await engine_kind(s) for name, s in chosen.items()}
    addresses = {
        name: s.url or (OLLAMA_URL if kinds[name] == "ollama" else name) for name, s in chosen.items()
    }
    turns = {
        address: asyncio.Semaphore(min(s.concurrency for n, s in chosen.items() if addresses[n] == address))
        for address in set(addresses.values())
    }
    async with AsyncExitStack() as stack:
        llms: dict[str, LLM | None] = {}
        for name, s in chosen.items():
            place = "llm" if name == DEFAULT_LLM else f"llms.{name}"
            engine = await ENGINES[kinds[name]](s, place)
            if engine is not None:
                stack.push_async_callback(engine.close)
                turn = turns[addresses[name]]
                engine = LimitedLLM(RetryingLLM(engine), turns=turn, timeout_s=s.timeout_s)
            llms[name] = engine
        yield llms


async def _no_engine(_: LlmSettings, __: str) -> None:
    return None


async def _llama_cpp(s: LlmSettings, place: str) -> LLM:
    if s.url is not None:
        return await _server(LLAMA_CPP, s, place)
    from models.llm.llama_cpp import LlamaCppLLM

    assert s.model_path is not None  # the settings refuse this kind without it
    return LlamaCppLLM(
        model_path=s.model_path,
        context_tokens=s.context_tokens,
        prompt_style=s.prompt_style,
        concurrency=s.concurrency,
        timeout_s=s.timeout_s,
    )


async def _server(preset: Preset, s: LlmSettings, place: str) -> LLM:
    """A model behind a server that speaks OpenAI's protocol."""
    from models.llm.openai_compatible import OpenAICompatibleLLM

    assert s.url is not None  # the settings refuse these kinds without it
    if s.prompt_style == "completion" and not preset.completion:
        raise SettingsError(
            f"{place}.prompt_style is completion, but {preset.title} has no /v1/completions.",
            hint="Serve an instruction-tuned model, or use another engine.",
        )
    key = s.api_key.get_secret_value() if s.api_key else None
    return OpenAICompatibleLLM(
        url=s.url,
        model=s.model,
        context_tokens=s.context_tokens,
        prompt_style=s.prompt_style,
        api_key=key,
        timeout_s=s.timeout_s,
        preset=preset,
    )


async def _ollama(s: LlmSettings, place: str) -> LLM:
    from models.llm.ollama import OllamaLLM

    url = s.url or OLLAMA_URL
    model = s.model or await running_ollama_model(url)
    if model is None:
        raise SettingsError(
            f"{place}.kind is ollama, but the Ollama at {url} does not answer or has no chat model.",
            hint=f"Start it (`ollama serve`), pull a model (`ollama pull qwen3:4b`), or set {place}.model.",
        )
    return OllamaLLM(
        model=model,
        context_tokens=s.context_tokens,
        url=url,
        prompt_style=s.prompt_style,
        timeout_s=s.timeout_s,
        keep_alive=s.keep_alive,
    )


# Each takes its settings and where they stand ("llms.small"), for its errors.
ENGINES: Mapping[str, Callable[[LlmSettings, str], Awaitable[LLM | None]]] = {
    "extractive": _no_engine,
    "llama-cpp": _llama_cpp,
    "ollama": _ollama,
    **{
        preset.engine: partial(_server, preset) for preset in (OPENAI, VLLM, FASTCHAT, RTP_LLM, LLAMA_FACTORY)
    },
}


async def engine_kind(s: LlmSettings) -> str:
    """The engine that the settings name, or (`auto`) that is there."""
    if s.kind != "auto":
        return s.kind
    if s.model_path is not None:
        return "llama-cpp"
    if s.url is not None:
        return "openai"
    return "ollama" if await running_ollama_model(OLLAMA_URL) else "extractive"


def make_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name. Loads nothing and asks nobody yet."""
    return _embedder(settings.embedder, settings)


def make_embedders(settings: Settings) -> Embedders:
    """That embedder, and the old one if the settings name it."""
    older = [] if settings.old_embedder is None else [_embedder(settings.old_embedder, settings)]
    return Embedders(make_embedder(settings), older)


def _embedder(s: EmbedderSettings, settings: Settings) -> Embedder:
    embedder = EMBEDDERS[s.kind](s)
    if s.cache_mb == 0:
        return embedder
    from models.embedders.cached import CachedEmbedder

    return CachedEmbedder(embedder, settings.embedding_cache_file, max_mb=s.cache_mb)


def make_rerank_model(settings: Settings) -> RerankModel | None:
    """The rerank model that the settings name, or None where they name a rule. Loads nothing yet."""
    build = RERANK_MODELS.get(settings.reranker.kind)
    return build(settings.reranker) if build else None


def _rerankers(settings: Settings, stack: AsyncExitStack) -> dict[RankedBy, Reranker]:
    rules: dict[RankedBy, Reranker] = {RankedBy.COVERAGE: CoverageReranker(), RankedBy.NONE: KeepOrder()}
    model = make_rerank_model(settings)
    if model is None:
        return rules
    stack.push_async_callback(model.close)
    return {**rules, RankedBy.MODEL: ModelReranker(model, pool=settings.reranker.pool)}


def make_listwise(llm: LLM | None, settings: Settings) -> Reranker | None:
    model = _instructed(llm)
    return ListwiseReranker(model, pool=settings.reranker.pool) if model else None


def make_supports(embedders: Embedders) -> dict[str, SupportCheck]:
    """By embedder. Without thresholds measured for it, it is the language model that refuses."""
    return {
        name: CoverageAndCosine(SUPPORT[name]) if name in SUPPORT else AnyPassage()
        for name in embedders.names
    }


def make_prompts(settings: Settings) -> Prompts:
    return Prompts(folder=settings.answer.template_dir, default=settings.answer.template)


def make_generator(s: LlmSettings, llm: LLM | None, prompts: Prompts) -> Generator:
    if llm is None:
        return ExtractiveGenerator()
    params = SamplingParams(max_new_tokens=s.max_new_tokens, temperature=s.temperature)
    kind = CompletionGenerator if llm.prompt_style == "completion" else LlmGenerator
    compressors: dict[CutBy, Compressor] = {CutBy.SENTENCES: SentenceCompressor(), CutBy.NONE: KeepWhole()}
    if instructed := _instructed(llm):
        compressors[CutBy.LLM] = LlmCompressor(instructed)
    orderers: dict[Order, Orderer] = {Order.ENDS: BestAtBothEnds(), Order.BEST_FIRST: BestFirst()}
    return kind(llm, params, prompts, compressors=compressors, orderers=orderers)


def _instructed(llm: LLM | None) -> LLM | None:
    """The model if it can be told to do something: a base model continues texts."""
    return None if llm is None or llm.prompt_style == "completion" else llm


def make_rewriter(llm: LLM | None) -> Rewriter:
    model = _instructed(llm)
    return LlmRewriter(model) if model else FollowUpRules()


def make_refiner(llm: LLM | None) -> Refiner:
    model = _instructed(llm)
    return LlmRefiner(model) if model else RefineRules()


def make_summariser(llm: LLM | None) -> Summariser:
    return LlmSummariser(llm) if llm else ExtractiveSummariser()


def make_judge(llm: LLM | None) -> Judge | None:
    model = _instructed(llm)
    return LlmJudge(model) if model else None


def _recursive(packer: Packer, embedder: Embedder, c: Chunking) -> Chunker:
    return RecursiveChunker(characters=c.characters, overlap=c.overlap, length=weight)


def _semantic(packer: Packer, embedder: Embedder, c: Chunking) -> Chunker:
    from ingest.chunkers.semantic import SemanticChunker  # numpy

    return SemanticChunker(packer, embedder, breakpoint=c.breakpoint)


CHUNKERS: Mapping[Strategy, Callable[[Packer, Embedder, Chunking], Chunker]] = {
    Strategy.SENTENCE: lambda packer, _, __: SentenceChunker(packer),
    Strategy.RECURSIVE: _recursive,
    Strategy.HEADING_TREE: lambda packer, _, __: HeadingTreeChunker(packer),
    Strategy.PARENT_CHILD: lambda packer, _, c: ParentChildChunker(
        packer, child_characters=c.child_characters
    ),
    Strategy.SENTENCE_WINDOW: lambda packer, _, c: SentenceWindowChunker(packer, window=c.window),
    Strategy.SEMANTIC: _semantic,
    Strategy.PAGE: lambda packer, _, __: PageChunker(packer),
    Strategy.TABLE_AWARE: lambda packer, _, __: TableAwareChunker(packer),
}


def make_parse(settings: Settings) -> Parse:
    """Reads a file in a child process, within the limits of the settings; a recording by a transcription server."""
    s = settings.ingest
    limits = Limits(max_pages=s.max_pages, max_characters=s.max_characters)
    parse = partial(
        parse_in_child,
        limits=limits,
        timeout_s=s.parse_timeout_s,
        memory_mb=s.parse_memory_mb,
        ocr_timeout_s=s.ocr_timeout_s,
    )
    if s.transcription_url is None:
        return parse
    from ingest.recordings import ParseWithTranscription
    from models.transcription import Transcriber

    key = s.transcription_key.get_secret_value() if s.transcription_key else None
    transcriber = Transcriber(
        url=s.transcription_url,
        model=s.transcription_model,
        api_key=key,
        timeout_s=s.transcription_timeout_s,
    )
    return ParseWithTranscription(parse, transcriber, limits)


def make_fetcher(settings: Settings, files: FileStore) -> Fetcher:
    """Reads from the hosts that the settings name, which are none unless there are some."""
    s = settings.sources
    networks = tuple(ip_network(network) for network in s.private_networks.split())
    return Fetcher(
        files,
        Allowed(tuple(s.hosts.split()), networks),
        max_bytes=settings.server.max_upload_mb * 2**20,
        timeout_s=s.timeout_s,
    )


def make_chunker(embedder: Embedder, chunking: Chunking) -> Chunker:
    packer = Packer.for_window(chunking.characters, embedder.max_tokens, embedder.count_tokens)
    return CHUNKERS[chunking.strategy](packer, embedder, chunking)


@asynccontextmanager
async def _ground(
    settings: Settings,
) -> AsyncIterator[tuple[Database, FileStore, LiveStores, Embedders]]:
    async with AsyncExitStack() as stack:
        database = Database(
            database_url(settings),
            pool_size=settings.database.pool_size,
            timeout_s=settings.database.timeout_s,
        )
        stack.push_async_callback(database.close)
        files = FileStore(settings.files_dir)
        files.open()
        stores = make_stores(settings)
        stack.push_async_callback(stores.close)
        embedders = make_embedders(settings)
        stack.push_async_callback(embedders.close)
        yield database, files, stores, embedders


@dataclass(frozen=True, slots=True)
class ApiServices:
    """What the API needs."""

    settings: Settings
    database: Database
    files: FileStore
    stores: LiveStores
    embedders: Embedders
    llms: Mapping[str, LLM | None]
    generators: Mapping[str, Generator]
    rewriters: Mapping[str, Rewriter]
    refiners: Mapping[str, Refiner]
    judges: Mapping[str, Judge | None]
    rerankers: Mapping[str, Reranker | None]
    intake: Intake
    signals: Signals
    answering: AnsweringPipeline
    parse: Parse
    reader: Reader
    fetcher: Fetcher
    tuning: asyncio.Lock = field(
        default_factory=asyncio.Lock
    )  # held while a knowledge base is tuned: one at a time


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncIterator[ApiServices]:
    """Everything the API needs, open; closed when the block ends."""
    async with (
        _ground(settings) as (database, files, stores, embedders),
        open_llms(settings) as llms,
        AsyncExitStack() as stack,
    ):
        signals = Signals(_celery(settings), database, per_kb=settings.worker.per_kb)
        stack.callback(signals.close)
        prompts = make_prompts(settings)
        rerankers = _rerankers(settings, stack)
        documents = StoredDocuments(database)
        retriever = TwoStageRetriever(documents=documents, chosen=settings.retrieval.documents)
        answering = AnsweringPipeline(
            database=database,
            router=KbRouter(),
            narrower=Narrower(database),
            retriever=retriever,
            overview=OverviewRetriever(documents=documents, retriever=retriever),
            expander=Expander(documents),
            rerankers=rerankers,
            default_reranker=RankedBy.MODEL if RankedBy.MODEL in rerankers else RankedBy.COVERAGE,
            sentences=SentenceMatcher(),
            links=LinkFollower(names=documents, retriever=retriever),
            supports=make_supports(embedders),
            prompts=prompts,
        )
        yield ApiServices(
            settings=settings,
            database=database,
            files=files,
            stores=stores,
            embedders=embedders,
            llms=llms,
            generators={
                name: make_generator(settings.all_llms[name], llm, prompts) for name, llm in llms.items()
            },
            rewriters={name: make_rewriter(llm) for name, llm in llms.items()},
            refiners={name: make_refiner(llm) for name, llm in llms.items()},
            judges={name: make_judge(llm) for name, llm in llms.items()},
            rerankers={name: make_listwise(llm, settings) for name, llm in llms.items()},
            intake=Intake(database, files),
            signals=signals,
            answering=answering,
            parse=make_parse(settings),
            reader=Reader(database=database, files=files, stores=stores),
            fetcher=make_fetcher(settings, files),
        )


@dataclass(frozen=True, slots=True)
class WorkerServices:
    """What a worker needs."""

    runner: JobRunner
    signals: Signals
    checker: Checker
    forget_failed: Callable[[], Awaitable[object]]
    syncer: Syncer


@asynccontextmanager
async def open_worker(settings: Settings, *, owner: str) -> AsyncIterator[WorkerServices]:
    """Everything a worker needs, open; closed when the block ends."""
    async with (
        _ground(settings) as (database, files, stores, embedders),
        _summarisers(settings) as summariser_of,
        AsyncExitStack() as stack,
    ):
        pipeline = IngestPipeline(
            parse=make_parse(settings),
            make_chunker=make_chunker,
            summariser_of=summariser_of,
            embedders=embedders,
            stores=stores,
        )
        signals = Signals(_celery(settings), database, per_kb=settings.worker.per_kb)
        stack.callback(signals.close)
        intake = Intake(database, files)
        syncer = Syncer(
            database=database,
            intake=intake,
            fetcher=make_fetcher(settings, files),
            max_pages=settings.sources.max_pages,
        )
        runner = JobRunner(
            database=database,
            files=files,
            pipeline=pipeline,
            stores=stores,
            syncer=syncer,
            owner=owner,
            lease=timedelta(seconds=settings.worker.lease_s),
            max_attempts=settings.worker.max_attempts,
            per_kb=settings.worker.per_kb,
        )
        checker = Checker(
            database=database,
            make_fsck=partial(Fsck, database, files, stores, intake),
            owner=owner,
            every=timedelta(hours=settings.fsck.every_h) if settings.fsck.every_h else None,
            mend=settings.fsck.mend,
        )
        keep = timedelta(days=settings.worker.keep_failed_days)
        yield WorkerServices(runner, signals, checker, partial(intake.dismiss_all, older_than=keep), syncer)


@asynccontextmanager
async def _summarisers(settings: Settings) -> AsyncIterator[SummariserOf]:
    """Who writes summaries: the settings' choice, open from the start, or a knowledge base's, opened at first use."""
    async with AsyncExitStack() as stack:
        opened: dict[str | None, Summariser] = {None: await stack.enter_async_context(_summariser(settings))}
        opening = asyncio.Lock()

        async def summariser_of(name: str | None) -> Summariser:
            async with opening:
                if name not in opened:
                    opened[name] = await stack.enter_async_context(_chosen_summariser(settings, name))
                return opened[name]

        yield summariser_of


@asynccontextmanager
async def _chosen_summariser(settings: Settings, name: str | None) -> AsyncIterator[Summariser]:
    if name not in settings.all_llms:
        raise InvalidValue(
            f"The knowledge base chose the language model '{name}' for summaries, which is not in the settings.",
            hint=f"Set llms.{name}, or let the knowledge base choose another.",
        )
    async with open_llms(settings, name) as llms:
        yield make_summariser(llms[name])


@asynccontextmanager
async def _summariser(settings: Settings) -> AsyncIterator[Summariser]:
    """Whom the settings name. With `auto`, not an embedded model: the worker would load a second copy of it.

    Nor a base model, which cannot be told to summarise.
    """
    wish, name = settings.ingest.summarise, settings.stages.summarise
    s = settings.all_llms[name]
    embedded = s.url is None and await engine_kind(s) == "llama-cpp"
    if wish == "extractive" or (wish == "auto" and (s.prompt_style == "completion" or embedded)):
        yield ExtractiveSummariser()
        return
    async with open_llms(settings, name) as llms:
        llm = llms[name]
        if llm is None and wish == "llm":
            raise SettingsError(
                "ingest.summarise is llm, but no language model is configured.", hint="Set RAG_LLM__KIND."
            )
        yield make_summariser(llm)


def celery_broker(settings: Settings) -> str | None:
    return settings.broker.url.get_secret_value() if settings.broker.url else None


def _celery(settings: Settings) -> Celery:
    return make_celery(database_url=database_url(settings), broker_url=celery_broker(settings))
