"""Is everything there that the settings ask for, and what is to be done if not? The checks of `doctor`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import psycopg
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from pydantic import SecretStr

import migrations
from core.errors import DatabaseUnavailable, ModelError, RagError, SettingsError, Unavailable
from core.settings import DEFAULT_LLM, Settings, load_settings
from models.embedders.base import Embedder
from rag_service.local.postgres import EmbeddedPostgres, make_data_dir
from rag_service.probe import report
from rag_service.wiring import (
    celery_broker,
    database_url,
    make_embedder,
    make_embedders,
    make_prompts,
    make_stores,
    open_llms,
)

CONNECT_TIMEOUT_S = 5
MIGRATE = "`rag-service migrate` brings it up to date."


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: `detail` in words, and what to do if it is not `ok`."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


def examine() -> Iterator[Finding]:
    """Every check in turn. What cannot be checked because something before it failed is left out."""
    try:
        settings = load_settings()
    except RagError as error:
        yield _failed("settings", error)
        return
    yield Finding("settings", True, "read, none unknown")
    yield _find("data folder", partial(_data_folder, settings))
    with ExitStack() as stack:
        yield from _database_side(settings, stack)
    yield _find("embedder", lambda: asyncio.run(_tried(make_embedder(settings))))
    for older in make_embedders(settings).older:
        yield _find("old embedder", partial(asyncio.run, _tried(older)))
    yield _find("language model", lambda: asyncio.run(_llm(settings)))
    yield _find("prompt template", partial(_template, settings))


def _template(settings: Settings) -> str:
    chosen = settings.answer.template
    make_prompts(settings).render("question", ["passage"], template=None if chosen == "auto" else chosen)
    return chosen


def _find(name: str, check: Callable[[], str]) -> Finding:
    """The finding of a check that returns its detail, or raises."""
    try:
        return Finding(name, True, check())
    except RagError as error:
        return _failed(name, error)
    except Exception as error:  # a doctor reports what nobody foresaw, too
        return Finding(name, False, f"{type(error).__name__}: {error}")


def _failed(name: str, error: RagError) -> Finding:
    return Finding(name, False, error.message, error.hint)


def _data_folder(settings: Settings) -> str:
    make_data_dir(settings.data_dir)
    try:
        tempfile.TemporaryFile(dir=settings.data_dir).close()
    except OSError as error:
        raise SettingsError(
            f"{settings.data_dir} cannot be written: {error.strerror}.",
            hint="Set RAG_DATA_DIR to a folder that you may write to.",
        ) from None
    return f"{settings.data_dir} can be written"


def _database_side(settings: Settings, stack: ExitStack) -> Iterator[Finding]:
    try:
        settings, started = _with_database(settings, stack)
        versions = _versions(settings)
    except RagError as error:
        yield _failed("database", error)
        yield from _stores(settings, but="pgvector")
        return
    yield Finding(
        "database", True, f"{versions}, {'embedded, started for this check' if started else 'running'}"
    )
    if started and not migrations.is_current(database_url(settings)):
        yield Finding("schema", True, "`rag-service up` will bring it up to date")
        return
    yield _find("schema", partial(_schema, settings))
    yield from _stores(settings)
    yield _find("queue", partial(_queue, settings))


def _with_database(settings: Settings, stack: ExitStack) -> tuple[Settings, bool]:
    """Settings that name a database, and whether it is the embedded one, started here until `stack` closes."""
    if settings.database.url is not None:
        return settings, False
    server = EmbeddedPostgres(settings.data_dir)
    named = settings.database.model_copy(update={"url": SecretStr(server.url)})
    started = not _answers(server.url)
    if started:
        stack.enter_context(server)
    return settings.model_copy(update={"database": named}), started


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S).close()
    except psycopg.OperationalError:
        return False
    return True


def _versions(settings: Settings) -> str:
    try:
        with psycopg.connect(database_url(settings), connect_timeout=CONNECT_TIMEOUT_S) as connection:
            server = connection.info.parameter_status("server_version") or "of unknown version"
            vector = connection.execute(
                "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
            ).fetchone()
    except psycopg.ProgrammingError:  # its words would show the password
        raise SettingsError(
            "database.url cannot be read as the address of a PostgreSQL database.",
            hint="Write RAG_DATABASE__URL as postgresql://user:password@host/db, with %40 for an @ in the password.",
        ) from None
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"The database does not answer ({str(error).splitlines()[0]}).",
            hint="Check RAG_DATABASE__URL and that PostgreSQL is running.",
        ) from None
    if vector is None:
        raise SettingsError(
            f"PostgreSQL {server} has no pgvector.",
            hint="Install pgvector there, or use the image pgvector/pgvector.",
        )
    return f"PostgreSQL {server.split()[0]} with pgvector {vector[0]}"


def _schema(settings: Settings) -> str:
    if not migrations.is_current(database_url(settings)):
        raise SettingsError("The schema is not the one of this version.", hint=MIGRATE)
    return "current"


def _stores(settings: Settings, *, but: str = "") -> Iterator[Finding]:
    for kind in make_stores(settings).kinds:
        if kind != but:
            yield _find(f"store {kind}", partial(_store, settings, kind))


def _store(settings: Settings, kind: str) -> str:
    async def ping() -> None:
        stores = make_stores(settings)
        try:
            await (await stores.get(kind)).ping()
        finally:
            await stores.close()

    asyncio.run(ping())
    return "answers"


def _queue(settings: Settings) -> str:
    broker = celery_broker(settings)
    if broker is None:
        return _queue_in_database(settings)
    with Connection(broker, connect_timeout=CONNECT_TIMEOUT_S) as connection:  # type: ignore[no-untyped-call]
        address = connection.as_uri()  # without the password
        try:
            connection.ensure_connection(max_retries=1, interval_start=0)
        except OperationalError as error:
            raise Unavailable(
                f"The broker at {address} does not answer ({error}).", hint="Check RAG_BROKER__URL."
            ) from None
    return f"{address} answers"


def _queue_in_database(settings: Settings) -> str:
    with psycopg.connect(database_url(settings), connect_timeout=CONNECT_TIMEOUT_S) as connection:
        row = connection.execute("SELECT to_regnamespace('pgmq') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        raise SettingsError("The database has no queue (pgmq).", hint=MIGRATE)
    return "in the database"


async def _tried(embedder: Embedder) -> str:
    try:
        vectors = await embedder.embed_queries(["知识库 knowledge base"])
    finally:
        await embedder.close()
    return f"{embedder.name} made a vector of {vectors.shape[1]} numbers"


async def _llm(settings: Settings) -> str:
    async with open_llms(settings) as llms:
        found = await report(settings, llms)
    if wrong := [f"{each.name}: {each.problem}" for each in found if not each.reachable]:
        raise ModelError(" ".join(wrong))
    if llms == {DEFAULT_LLM: None}:
        return "none; answers quote the best sentences (RAG_LLM__KIND=ollama or openai for a model)"
    names = [llm.name if llm else f"{name} quotes the best sentences" for name, llm in llms.items()]
    return f"{' and '.join(names)} {'answers' if len(names) == 1 else 'answer'}"
