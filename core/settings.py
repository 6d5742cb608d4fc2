"""Every setting of the service: the only place that reads the environment.

Values come from, in falling priority: environment variables (`RAG_` + name, nested with two underscores:
`RAG_LLM__URL`), the TOML file named by `RAG_CONFIG` (else `./rag-service.toml` if it is there), the defaults
below. What is wrong is refused under the name that was typed. `docs/settings.md` is generated from here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from core.errors import SettingsError

ENV_PREFIX = "RAG_"
CONFIG_VARIABLE = "RAG_CONFIG"
# Variables that tests, tools and the CLI client read; they are not settings of the service.
FOREIGN_VARIABLES = frozenset({CONFIG_VARIABLE, "RAG_URL", "RAG_API_KEY"})
# The stores that `stores` can connect to, and their classes, which are imported only where the settings name them.
STORE_SERVERS: Mapping[str, str] = {
    "milvus": "stores.milvus.MilvusStore",
    "redis": "stores.redis.RedisStore",
    "elasticsearch": "stores.elasticsearch.ElasticsearchStore",
    "mongo": "stores.mongo.MongoStore",
}
DEFAULT_LLM = "default"  # the name of the language model under `llm`
LLM_NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")  # can stand in a variable's name
HOST_PATTERN = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*(?::\d{1,5})?")
SERVERS_OF_MODELS = ("vllm", "openai", "fastchat", "rtp-llm", "llama-factory")  # kinds that need a `url`
LIKE = 0.8  # how alike names must be (difflib's ratio) for one to be suggested for the other


def default_data_dir() -> Path:
    """Where embedded data lives. As root it must be a place that PostgreSQL's own user can reach."""
    if os.geteuid() == 0:
        return Path("/var/lib/rag-service")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "rag-service"


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Group):
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the API.")
    max_upload_mb: int = Field(100, ge=1, description="Largest file accepted, in MiB.")
    max_request_mb: int = Field(1024, ge=1, description="Largest request body accepted, in MiB.")
    max_backup_mb: int = Field(10_240, ge=1, description="Largest backup that is restored, in MiB.")
    max_files_per_upload: int = Field(100, ge=1, description="Most files in one upload request.")
    max_archive_files: int = Field(1000, ge=1, description="Most files in one ZIP archive.")
    max_archive_mb: int = Field(
        1024, ge=1, description="Largest size of the files in one ZIP archive together, unpacked, in MiB."
    )
    public_url: str | None = Field(
        None, description="Address under which users reach the service, for links in answers."
    )


class DatabaseSettings(Group):
    url: SecretStr | None = Field(
        None,
        description="PostgreSQL with pgvector, as `postgresql://user:password@host/db`. "
        "Unset: the embedded PostgreSQL under `data_dir`.",
    )
    pool_size: int = Field(5, ge=1, description="Connections each process keeps.")
    timeout_s: float = Field(30.0, gt=0, description="Longest wait for PostgreSQL's answers (seconds).")
    half_vectors: bool = Field(
        False,
        description="Keep 16 bits of each number in pgvector's HNSW indexes (halfvec): they take half the memory, and "
        "vectors of up to 4,000 numbers. For knowledge bases made from now on.",
    )

    @field_validator("url")
    @classmethod
    def _postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it must begin with postgresql:// or postgres://")
        return url


class BrokerSettings(Group):
    url: SecretStr | None = Field(
        None,
        description="Celery broker (`redis://…`, `amqp://…`). Unset: a queue in the PostgreSQL database.",
    )

    @field_validator("url")
    @classmethod
    def _of_a_known_broker(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return url
        from kombu.transport import TRANSPORT_ALIASES  # noqa: PLC0415 (only who names a broker loads it)

        scheme, separator, _ = url.get_secret_value().partition("://")
        if not separator or scheme.partition("+")[0] not in TRANSPORT_ALIASES:
            raise ValueError("it must begin with the scheme of a broker, such as redis:// or amqp://")
        return url


class StoreSettings(Group):
    kind: str = Field(
        "pgvector",
        description="Vector store of new knowledge bases that do not name one: `pgvector` (in the database of "
        "`database.url`), or one that `stores` connects to.",
    )


class StoreServer(Group):
    """Where a vector store other than pgvector is."""

    url: SecretStr = Field(description="Address of the server, with user and password if it has them.")
    token: SecretStr | None = Field(None, description="API key or token, for servers that ask for one.")
    ca_file: Path | None = Field(
        None, description="Certificate (PEM) that signs the server's own; Elasticsearch only."
    )
    allow_volatile: bool = Field(
        False,
        description="Take a server that does not say that it keeps its data over a restart; Redis only.",
    )
    pool_size: int = Field(10, ge=1, description="Connections each process keeps at most.")
    timeout_s: float = Field(10.0, gt=0, description="Longest wait for an answer (seconds).")


class EmbedderSettings(Group):
    kind: Literal["bundled", "sentence-transformers", "ollama", "openai"] = Field(
        "bundled",
        description="`bundled`: multilingual-e5-small (4 bit), runs in process, needs no download; "
        "`sentence-transformers`: a model of that library, in process; `ollama`; `openai`: any server with OpenAI's "
        "`/embeddings`. A knowledge base keeps the embedder it was made with "
        "until it is built anew (`kb rebuild`).",
    )
    model: str | None = Field(
        None, description="Name of the model; a folder, too, for `sentence-transformers`."
    )
    url: str | None = Field(
        None,
        description="Base URL of the server, for `openai` with `/v1`. Default for `ollama`: http://127.0.0.1:11434.",
    )
    api_key: SecretStr | None = Field(None, description="Key for the server, if it asks for one.")
    query_prefix: str = Field(
        "", description='What the model wants before a question, such as `"query: "`. Not for `bundled`.'
    )
    passage_prefix: str = Field("", description="What the model wants before a passage. Not for `bundled`.")
    max_tokens: int = Field(
        512,
        ge=64,
        description="Longest text that the model takes, for `ollama` and `openai`: chunks stay below it.",
    )
    batch_tokens: int = Field(
        8192, ge=64, description="Tokens of the texts that are embedded together. Not for `bundled`."
    )
    threads: int = Field(1, ge=1, description="CPU threads of an embedder in process, for each process.")
    device: str | None = Field(
        None,
        description="Where `sentence-transformers` computes: `cpu`, `cuda`, `mps`. Unset: the best there is.",
    )
    concurrency: int = Field(2, ge=1, description="Requests at the same time to `ollama` or `openai`.")
    timeout_s: float = Field(60.0, gt=0, description="Longest wait for a server's answer (seconds).")
    cache_mb: int = Field(
        256,
        ge=0,
        description="Size of the file under `data_dir` that keeps vectors of passages, so that what is read again "
        "costs nothing, in MiB; 0: none, and every stage of an answer embeds the question anew.",
    )


class RerankerSettings(Group):
    kind: Literal["coverage", "cross-encoder", "http"] = Field(
        "coverage",
        description="Who orders what the search found. `coverage`: no model, similarity plus the question's words; "
        "`cross-encoder`: a model of sentence-transformers, in process; `http`: a rerank server.",
    )
    model: str | None = Field(
        None, description="Name of the model; a folder, too, for `cross-encoder`. Optional for `http`."
    )
    url: str | None = Field(
        None, description="For `http`: what `/rerank` is appended to, such as http://127.0.0.1:8001/v1."
    )
    api_key: SecretStr | None = Field(None, description="Key for the server, if it asks for one.")
    protocol: Literal["rerank", "tei"] = Field(
        "rerank",
        description="Of an `http` server: `rerank` (vLLM, Jina, Cohere, llama.cpp), `tei` (text-embeddings-inference).",
    )
    pool: int = Field(40, ge=1, le=500, description="Passages that a model reads for one question, at most.")
    threads: int = Field(1, ge=1, description="CPU threads of `cross-encoder`.")
    device: str | None = Field(
        None, description="Where `cross-encoder` computes: `cpu`, `cuda`, `mps`. Unset: the best there is."
    )
    concurrency: int = Field(2, ge=1, description="Requests at the same time to an `http` server.")
    timeout_s: float = Field(
        30.0,
        gt=0,
        description="Longest wait (seconds); then the search's own order is used, and the answer says so.",
    )


class LlmSettings(Group):
    kind: Literal[
        "auto",
        "ollama",
        "vllm",
        "llama-cpp",
        "openai",
        "fastchat",
        "rtp-llm",
        "llama-factory",
        "extractive",
    ] = Field(
        "auto",
        description="The engine: `ollama`; `vllm`, `fastchat`, `rtp-llm`, `llama-factory` or (any other "
        "OpenAI-compatible server) `openai`, which need `url`; `llama-cpp`, embedded with `model_path` or its server "
        "with `url`; `extractive` (no model: quotes the best sentences). `auto`: `llama-cpp` if `model_path` is set, "
        "else `openai` if `url` is set, else a running Ollama, else `extractive`.",
    )
    url: str | None = Field(
        None, description="Base URL of the engine. Default for `ollama`: http://127.0.0.1:11434."
    )
    model: str | None = Field(
        None,
        description="Model name. Unset: the first chat model of `ollama`, the first model that another server lists.",
    )
    api_key: SecretStr | None = Field(None, description="Key for the engine, if it asks for one.")
    model_path: Path | None = Field(None, description="GGUF file for `llama-cpp`.")
    prompt_style: Literal["chat", "completion"] = Field(
        "chat",
        description="`chat` for instruction-tuned models; `completion` for base models: the prompt is sent "
        "as plain text to be continued.",
    )
    context_tokens: int = Field(4096, ge=512, description="Tokens that prompt and answer may have together.")
    max_new_tokens: int = Field(512, ge=1, description="Longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0.0, le=2.0, description="0 is deterministic.")
    timeout_s: float = Field(
        120.0, gt=0, description="Longest wait for the next piece of an answer (seconds)."
    )
    concurrency: int = Field(
        2,
        ge=1,
        description="Answers written at the same time; embedded, `llama-cpp` reserves a context's memory for each. "
        "Models behind the same `url` share the smallest of their limits.",
    )
    keep_alive: str | None = Field(
        None,
        description="How long Ollama keeps the model loaded after an answer, such as `30m`. Unset: as Ollama is set.",
    )


class StagesSettings(Group):
    answer: str = Field(DEFAULT_LLM, description="Writes answers.")
    rewrite: str = Field(
        DEFAULT_LLM,
        description="Makes a follow-up question stand on its own, and refines questions (`refine`).",
    )
    judge: str = Field(
        DEFAULT_LLM,
        description="Says whether passages are enough, and what to search for next (`refine.rounds`).",
    )
    rerank: str = Field(DEFAULT_LLM, description="Ranks what was found, where `ranking.reranker` is `llm`.")
    summarise: str = Field(DEFAULT_LLM, description="Writes summaries of documents.")


class IngestSettings(Group):
    max_pages: int = Field(5000, ge=1, description="Most pages of a document.")
    max_characters: int = Field(20_000_000, ge=1, description="Most characters of a document's text.")
    parse_timeout_s: float = Field(120.0, gt=0, description="Longest time to parse one document, in seconds.")
    parse_memory_mb: int = Field(1024, ge=256, description="Most memory to parse one document, in MiB.")
    ocr_timeout_s: float = Field(
        3600.0,
        gt=0,
        description="Longest time to read one document whose pictures of text have to be recognised, in seconds.",
    )
    chunk_characters: int = Field(
        250,
        ge=100,
        le=4000,
        description="Longest chunk in Chinese characters; 2.5 times as many in alphabetic scripts.",
    )
    transcription_url: str | None = Field(
        None,
        description="Base URL (usually ending in `/v1`) of a server with OpenAI's protocol that writes down "
        "recordings. Unset: recordings are refused.",
    )
    transcription_model: str = Field("whisper-1", description="Name of its speech model.")
    transcription_key: SecretStr | None = Field(None, description="Key for it, if it asks for one.")
    transcription_timeout_s: float = Field(
        1800.0, gt=0, description="Longest wait for the transcript of one recording (seconds)."
    )
    summarise: Literal["auto", "llm", "extractive"] = Field(
        "auto",
        description="Who writes summaries: the LLM, or sentence selection. `auto`: the LLM if there is one on a server "
        "(`ollama`, `openai`) that is no base model.",
    )


class WorkerSettings(Group):
    concurrency: int = Field(1, ge=1, description="Jobs that one worker process runs at the same time.")
    nice: int | None = Field(
        None,
        ge=0,
        le=19,
        description="How far a worker and its parsers step back when processors are short, as in `nice(1)`: 0 not at "
        "all, 19 the most. Unset: 10 under `rag-service up`, where answers come from the same machine, else 0.",
    )
    lease_s: float = Field(
        30.0, ge=2, le=300, description="A job whose worker is silent this long goes to another (seconds)."
    )
    max_attempts: int = Field(5, ge=1, description="Times a job is tried before it fails.")
    per_kb: int = Field(
        0,
        ge=0,
        description="Documents of one knowledge base that all workers together read at a time; 0: any number.",
    )
    keep_failed_days: float = Field(
        14.0,
        ge=0,
        description="Days for which the file of a document that failed is kept, so that `jobs retry` can try it again.",
    )


class FsckSettings(Group):
    every_h: float = Field(
        24.0,
        ge=0,
        description="Hours between two checks of rows, files and stores by the workers; 0: only when asked "
        "(`rag-service fsck`).",
    )
    mend: bool = Field(
        False,
        description="Mend what such a check finds. Off, it only reports: after the database was restored from a "
        "backup, newer files would be deleted as orphans.",
    )


class SourcesSettings(Group):
    hosts: str = Field(
        "",
        description="Hosts that pages may be fetched from, with blanks between them: `docs.example.com`, "
        "`*.example.com`, `wiki.example.com:8443`. Empty: none.",
    )
    private_networks: str = Field(
        "",
        description="Networks of private addresses that these hosts may be in, such as `10.0.0.0/8`, with blanks "
        "between them. Empty: public addresses only.",
    )
    timeout_s: float = Field(60.0, gt=0, description="Longest time to fetch one page, in seconds.")
    max_pages: int = Field(5000, ge=1, description="Most pages of one sitemap.")

    @field_validator("hosts")
    @classmethod
    def _names_with_ports(cls, hosts: str) -> str:
        for host in hosts.split():
            if not HOST_PATTERN.fullmatch(host):
                raise ValueError(f"{host} is no host such as docs.example.com, *.example.com or host:8443")
        return hosts.lower()

    @field_validator("private_networks")
    @classmethod
    def _networks(cls, networks: str) -> str:
        for network in networks.split():
            ip_network(network)
        return networks


class RetrievalSettings(Group):
    top_k: int = Field(8, ge=1, le=50, description="Passages that go into the prompt.")
    pool: int = Field(40, ge=1, le=500, description="Chunks that are fused and reranked.")
    documents: int = Field(20, ge=1, le=500, description="Documents that the summary stage chooses.")
    mode: Literal["union", "strict", "flat"] = Field(
        "union",
        description="`union`: chunks of the chosen documents and chunks found directly; `strict`: only chunks "
        "of the chosen documents; `flat`: no summary stage.",
    )


class AnswerSettings(Group):
    mode: Literal["stuff", "refine", "tree_summarize", "map_reduce"] = Field(
        "stuff",
        description="How the passages reach the model: all in one prompt, one after the other, summarised until they "
        "fit, or an answer for each two of them which are then joined. All but `stuff` ask the model several times.",
    )
    template: str = Field(
        "auto",
        description="Prompt template: `zh`, `en`, `auto` (by the question's language) or a file in `template_dir`.",
    )
    template_dir: Path | None = Field(
        None, description="Folder with your own prompt templates, `NAME.jinja`."
    )
    history_turns: int = Field(
        5, ge=0, description="Earlier questions and answers used to resolve a follow-up."
    )


class Settings(Group):
    """All settings. `load_settings` reads and checks them."""

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder for the embedded database, uploaded files and the first admin key.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important log line written."
    )
    server: ServerSettings = Field(default=ServerSettings())
    database: DatabaseSettings = Field(default=DatabaseSettings())
    broker: BrokerSettings = Field(default=BrokerSettings())
    store: StoreSettings = Field(default=StoreSettings())
    stores: dict[str, StoreServer] = Field(
        default={},
        description="Vector store servers beside pgvector; NAME is one of "
        f"{', '.join(f'`{kind.upper()}`' for kind in STORE_SERVERS)}.",
    )
    embedder: EmbedderSettings = Field(default=EmbedderSettings())
    old_embedder: EmbedderSettings | None = Field(
        None,
        description="The embedder that there was before. Knowledge bases that were made with it are searched with it "
        "until they are built anew (docs/howto/change-the-embedder.md). Unset: there is none.",
    )
    reranker: RerankerSettings = Field(default=RerankerSettings())
    llm: LlmSettings = Field(
        default=LlmSettings(), description="The language model; its name among others is `default`."
    )
    llms: dict[str, LlmSettings] = Field(
        default={},
        description="Further language models, such as a small one for rewriting questions. NAME is yours (lower-case "
        "letters, digits, `_`, `-`); `stages` and knowledge bases choose by it.",
    )
    stages: StagesSettings = Field(
        default=StagesSettings(),
        description="Which language model does what: `default` or a NAME of `llms`. A knowledge base may choose "
        "others.",
    )
    ingest: IngestSettings = Field(default=IngestSettings())
    worker: WorkerSettings = Field(default=WorkerSettings())
    fsck: FsckSettings = Field(default=FsckSettings())
    sources: SourcesSettings = Field(default=SourcesSettings())
    retrieval: RetrievalSettings = Field(default=RetrievalSettings())
    answer: AnswerSettings = Field(default=AnswerSettings())

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        for name, llm in self.all_llms.items():
            _refuse_contradictions("llm" if name == DEFAULT_LLM else f"llms.{name}", llm)
        self._refuse_unknown_llms()
        if self.retrieval.pool < self.retrieval.top_k:
            raise ValueError(
                f"retrieval.pool ({self.retrieval.pool}) is smaller than retrieval.top_k ({self.retrieval.top_k}), "
                "whose passages it must hold"
            )
        self._refuse_unknown_stores()
        self._refuse_nameless_models()
        return self

    def _refuse_unknown_llms(self) -> None:
        for name in self.llms:
            if name == DEFAULT_LLM or not LLM_NAME.fullmatch(name):
                raise ValueError(
                    f"llms.{name}: a name has lower-case letters, digits, _ and -, and {DEFAULT_LLM} is llm itself"
                )
        for stage, name in self.stages.model_dump().items():
            if name not in self.all_llms:
                known = ", ".join(self.all_llms)
                raise ValueError(
                    f"stages.{stage} is {name}, but there is no such language model; there are {known}"
                )

    def _refuse_nameless_models(self) -> None:
        groups = {"embedder": self.embedder, "old_embedder": self.old_embedder, "reranker": self.reranker}
        needed = {
            "model": {"sentence-transformers", "ollama", "openai", "cross-encoder"},
            "url": {"openai", "http"},
        }
        alone = {"bundled": "is one model", "coverage": "uses no model"}
        for name, group in groups.items():
            if group is None:
                continue
            for field, kinds in needed.items():
                if group.kind in kinds and getattr(group, field) is None:
                    raise ValueError(f"{name}.kind is {group.kind}, so {name}.{field} must be set")
            if group.kind in alone and (group.model or group.url):
                raise ValueError(
                    f"{name}.kind is {group.kind}, which {alone[group.kind]}, but {name}.model or url is set"
                )

    def _refuse_unknown_stores(self) -> None:
        for kind in self.stores:
            if kind not in STORE_SERVERS:
                raise ValueError(
                    f"stores.{kind}: there is no such store; there are {', '.join(STORE_SERVERS)}"
                )
        kind = self.store.kind
        if kind not in ("pgvector", *STORE_SERVERS):
            raise ValueError(
                f"store.kind is {kind}, but there is no such store; there are pgvector, {', '.join(STORE_SERVERS)}"
            )
        if kind != "pgvector" and kind not in self.stores:
            variable = _variable(("stores", kind, "url"))
            raise ValueError(f"store.kind is {kind}, so {variable} (stores.{kind}.url) must name its server")

    @property
    def all_llms(self) -> dict[str, LlmSettings]:
        """The language models by name, the default first."""
        return {DEFAULT_LLM: self.llm, **self.llms}

    @property
    def files_dir(self) -> Path:
        return self.data_dir / "files"

    @property
    def embedding_cache_file(self) -> Path:
        return self.data_dir / "cache" / "embeddings.sqlite"

    @property
    def admin_key_file(self) -> Path:
        return self.data_dir / "admin.key"


def _refuse_contradictions(place: str, llm: LlmSettings) -> None:
    unused = [name for name in ("url", "model", "model_path") if getattr(llm, name) is not None]
    if llm.kind == "extractive" and unused:
        raise ValueError(f"{place}.kind is extractive, which uses no model, but {place}.{unused[0]} is set")
    if llm.kind == "llama-cpp" and (llm.model_path is None) == (llm.url is None):
        raise ValueError(
            f"{place}.kind is llama-cpp, so {place}.model_path must name a GGUF file, or {place}.url a server"
        )
    if llm.kind in SERVERS_OF_MODELS and llm.url is None:
        raise ValueError(f"{place}.kind is {llm.kind}, so {place}.url must name the server")
    if llm.max_new_tokens >= llm.context_tokens:
        raise ValueError(f"{place}.max_new_tokens must be smaller than {place}.context_tokens")


Place = tuple[str, ...]  # where a setting is: ("llm", "url")


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read file and environment, and refuse what is unknown, malformed or contradictory.

    Raises `SettingsError` naming each setting that is wrong, as it was typed.
    """
    environ = os.environ if environ is None else environ
    file = Path(environ.get(CONFIG_VARIABLE) or "rag-service.toml")
    values = _read_file(file, named=bool(environ.get(CONFIG_VARIABLE)))
    typed = {place: f"{file}: {_in_table(place)}" for place in _leaves(values)}
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and name not in FOREIGN_VARIABLES:
            place = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            _put(values, place, value, name)
            typed[place] = name
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [line for problem in error.errors() for line in _in_words(problem, typed)]
        raise SettingsError(" ".join(lines), hint="docs/settings.md lists every setting.") from None


def _read_file(path: Path, *, named: bool) -> dict[str, Any]:
    if not path.exists():
        if named:
            raise SettingsError(f"{CONFIG_VARIABLE} names {path}, which does not exist.")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"The settings file {path} cannot be read: {error.strerror}.",
            hint=f"{CONFIG_VARIABLE} names the file; it must be a TOML file that this user may read.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None


def _put(values: dict[str, Any], place: Place, value: str, name: str) -> None:
    for part in place[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{name} is not a setting: {part} has no parts.")
    values[place[-1]] = value


def _in_words(problem: ErrorDetails, typed: Mapping[Place, str]) -> Iterator[str]:
    """What is wrong, a sentence for each name that was typed (`typed`: the name for each place)."""
    where = tuple(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    if not where:  # settings that contradict each other
        yield f"{said}."
        return
    if problem["type"] == "missing":
        yield f"{_variable(where)} ({'.'.join(where)}) must be set."
        return
    unknown = problem["type"] in ("extra_forbidden", "model_type", "dict_type")
    for place, name in typed.items():
        if place[: len(where)] != where:
            continue
        if unknown or place != where:  # or parts below a value
            yield f"{name} is not a setting{_suggestion(place, name)}."
        else:
            yield f"{name}: {said}."


def _suggestion(place: Place, name: str) -> str:
    """` (did you mean …?)` in the form in which the unknown name was typed, or nothing."""
    known = {".".join(key): key for key in _places(Settings, typed=place)}
    found = get_close_matches(".".join(place), known, n=1, cutoff=LIKE)
    if not found:
        return ""
    right = known[found[0]]
    return f" (did you mean {_variable(right) if name.startswith(ENV_PREFIX) else _in_table(right)}?)"


def _leaves(values: Mapping[str, Any], above: Place = ()) -> Iterator[Place]:
    """Where the values of a file are, in all its tables."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name)


def _variable(place: Place) -> str:
    """The environment variable of a setting: RAG_LLM__URL."""
    return ENV_PREFIX + "__".join(place).upper()


def _in_table(place: Place) -> str:
    """A setting as the file has it: `[llm] url`."""
    *tables, key = place
    return f"[{'.'.join(tables)}] {key}" if tables else key


def _places(group: type[BaseModel], above: Place = (), *, typed: Place = ()) -> Iterator[Place]:
    """Where the settings of a group are, in all its groups; `typed` is a place whose own NAME is taken as it is."""
    for name, field in group.model_fields.items():
        kind: Any = field.annotation
        if get_origin(kind) is UnionType:
            kind = get_args(kind)[0]  # of a group that need not be there
        if get_origin(kind) is dict:
            names = STORE_SERVERS if name == "stores" else typed[1:2]
            for key in names:
                yield from _places(get_args(kind)[1], (*above, name, key))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _places(kind, (*above, name))
        else:
            yield (*above, name)


def environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for child processes: `load_settings` gives them back."""
    result: dict[str, str] = {}

    def walk(prefix: str, group: BaseModel) -> None:
        for name in type(group).model_fields:
            value = getattr(group, name)
            if isinstance(value, BaseModel):
                walk(f"{prefix}{name.upper()}__", value)
            elif isinstance(value, dict):
                for key, item in value.items():
                    walk(f"{prefix}{name.upper()}__{key.upper()}__", item)
            elif isinstance(value, SecretStr):
                result[prefix + name.upper()] = value.get_secret_value()
            elif value is not None:
                result[prefix + name.upper()] = str(value)

    walk(ENV_PREFIX, settings)
    return result
