"""Which rows there are. SQL lives in `core.db.repositories`; the schema is made by `migrations/`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Computed, ForeignKey, Index, MetaData, String, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import DateTime

from core.text import CJK

Json = dict[str, Any]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        datetime: DateTime(timezone=True),
        Json: JSONB,
        list[str]: ARRAY(String),
        str: Text,
    }


class KnowledgeBase(Base):
    """A named set of documents. `deleted_at` is set until the worker has removed everything, or restored it.

    `copies` are stores that it moved away from and that still hold what it was then.
    """

    __tablename__ = "knowledge_bases"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    store: Mapped[str]
    copies: Mapped[list[str]] = mapped_column(server_default=text("'{}'::varchar[]"))
    embedder: Mapped[str]
    dim: Mapped[int]
    generation: Mapped[int] = mapped_column(server_default="1")  # the one that readers see
    newest_generation: Mapped[int] = mapped_column(server_default="1")  # numbers are never used again
    other_generation: Mapped[Json | None]  # `core.db.generations.Generation`
    settings: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    paused: Mapped[bool] = mapped_column(server_default=text("false"))  # documents wait to be read
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_knowledge_bases_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )


class DocumentStatus(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    DELETING = "deleting"


# Characters that a name begins and ends with: of words in any script. (PostgreSQL's own class depends on the locale.)
NAME_LETTERS = r"a-z0-9\u00c0-\u1fff\u2c00-\u2fff\u3040-\uffff\U00020000-\U0003ffff"
NAME_MARKS = ("‘’“”„«»–—‐‑", "''" + '"""""' + "----")  # and how they are written
_MARKS, _PLAIN = (marks.replace("'", "''") for marks in NAME_MARKS)
_EDGES = f"'^[^{NAME_LETTERS}]+|[^{NAME_LETTERS}]+$', '', 'g'"
# What texts call a document: its title, or its file name without folder and ending; without a remark in brackets at
# the end, an article or a small number at the beginning, and signs at both ends; in lower case, every run of blanks,
# hyphens and underscores as one blank, or none between Chinese characters; of a longer one what 200 characters make.
# `retrievers.names` folds texts in the same way.
KNOWN_AS = (
    "regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace("
    "translate(lower(normalize(left(coalesce(nullif(btrim(title), ''), "
    "regexp_replace(name, '^.*/|[.][^./]*$', '', 'g')), 200), NFKC)), "
    f"'{_MARKS}', '{_PLAIN}'), "
    r"'^(.+?)\s*[([][^][()]*[])]\s*$', '\1'), '[-_\s]+', ' ', 'g'), "
    f"'(?<=[{CJK}]) (?=[{CJK}])', '', 'g'), "
    f"{_EDGES}), "
    r"'^(the|an?|\d{1,2}[.)]?) +(?=.)', ''), "
    f"{_EDGES})"
)
# Characters of a name by which it is looked up; the latter of one that begins in Chinese.
HEAD, CJK_HEAD = 12, 4
# As PostgreSQL writes it: the schema is compared with this.
NAME_HEAD = f"""\
"left"(known_as,
CASE
    WHEN ascii(known_as) >= 12352 THEN {CJK_HEAD}
    ELSE {HEAD}
END)"""


class Document(Base):
    """What a user uploaded, once for each name in a knowledge base.

    `sha256` is the content wanted, `live_sha256` and `live_revision` the content that readers see; they
    differ while a new version is being read. Nothing is visible while `live_revision` is null.
    """

    __tablename__ = "documents"

    id: Mapped[str] = mapped_column(primary_key=True)
    kb_id: Mapped[str] = mapped_column(ForeignKey("knowledge_bases.id", ondelete="CASCADE"))
    name: Mapped[str]
    status: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int]
    live_sha256: Mapped[str | None]
    live_revision: Mapped[str | None]
    title: Mapped[str | None]
    language: Mapped[str | None]
    pages: Mapped[int | None]
    characters: Mapped[int | None]
    chunks: Mapped[int | None]
    summaries: Mapped[int | None]  # null for what was read before they were counted
    summary: Mapped[str | None]
    attributes: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    source: Mapped[str | None]  # what keeps it up to date, and removes it: "folder:…", "source:ID"
    known_as: Mapped[str] = mapped_column(Computed(KNOWN_AS, persisted=True), deferred=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())

    __table_args__ = (
        Index("uq_documents_kb_id_name", "kb_id", "name", unique=True),
        Index("ix_documents_kb_id_sha256", "kb_id", "sha256"),
        Index("ix_documents_sha256", "sha256"),
        Index("ix_documents_live_sha256", "live_sha256"),
        Index(
            "ix_documents_kb_id_language",
            "kb_id",
            "language",
            postgresql_where=text("live_revision IS NOT NULL"),
        ),
        Index(
            "ix_documents_kb_id_known_as",
            "kb_id",
            text(NAME_HEAD),
            postgresql_where=text("live_revision IS NOT NULL"),
        ),
    )


class DocumentGeneration(Base):
    """What a document is in the generation of its knowledge base that readers do not see."""

    __tablename__ = "document_generations"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    revision: Mapped[str]
    title: Mapped[str | None]
    language: Mapped[str | None]
    pages: Mapped[int | None]
    characters: Mapped[int | None]
    chunks: Mapped[int | None]
    summaries: Mapped[int | None]
    summary: Mapped[str | None]


class DocumentText(Base):
    """The parsed text of a document's revision, and where its pages and sections lie in it.

    `pages` is a list of [number, start, end], `sections` of [[path…], start, end].
    """

    __tablename__ = "document_texts"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    title: Mapped[str | None]
    pages: Mapped[list[Any]] = mapped_column(JSONB)
    sections: Mapped[list[Any]] = mapped_column(JSONB)


class SourceKind(StrEnum):
    """What an address leads to: one page, or a list of pages."""

    URL = "url"
    SITEMAP = "sitemap"


class Source(Base):
    """An address that documents of a knowledge base come from, again every `interval_s` seconds (null: when told to).

    `result` tells what the last synchronisation came to, `next_at` when the next is due.
    """

    __tablename__ = "sources"

    id: Mapped[str] = mapped_column(primary_key=True)
    kb_id: Mapped[str] = mapped_column(ForeignKey("knowledge_bases.id", ondelete="CASCADE"))
    kind: Mapped[str]
    url: Mapped[str]
    interval_s: Mapped[int | None]
    next_at: Mapped[datetime | None]
    synced_at: Mapped[datetime | None]
    result: Mapped[Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("uq_sources_kb_id_url", "kb_id", "url", unique=True),)


class SourcePage(Base):
    """A page of a source, as it was when it was last fetched."""

    __tablename__ = "source_pages"

    source_id: Mapped[str] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"), primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    document_id: Mapped[str]  # no foreign key: the document may be deleted by hand
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]


class JobKind(StrEnum):
    INGEST = "ingest"
    DELETE_DOCUMENT = "delete-document"
    DELETE_KB = "delete-kb"
    MOVE_KB = "move-kb"
    DROP_COPY = "drop-copy"
    RESTORE_KB = "restore-kb"
    BACKUP_KB = "backup-kb"
    EXPORT_KB = "export-kb"
    SYNC_SOURCE = "sync-source"
    REBUILD_KB = "rebuild-kb"
    ROLLBACK_KB = "rollback-kb"
    DROP_GENERATION = "drop-generation"


# Jobs that the API itself does, to keep a knowledge base still while it reads all of it (`ingest.hold`).
OF_THE_API = (JobKind.BACKUP_KB, JobKind.EXPORT_KB)
# Jobs that can be called off: what was deleted is hidden already and does not come back.
CAN_BE_CANCELLED = (
    JobKind.INGEST,
    JobKind.MOVE_KB,
    JobKind.DROP_COPY,
    JobKind.RESTORE_KB,
    JobKind.SYNC_SOURCE,
    JobKind.REBUILD_KB,
    JobKind.ROLLBACK_KB,
)
# Jobs that bring the generation that readers do not see up to date and switch to it. Others go on meanwhile.
BUILDS = (JobKind.REBUILD_KB, JobKind.ROLLBACK_KB)
# Jobs of a whole knowledge base: no other job of it runs beside them.
WHOLE_KB = (
    JobKind.DELETE_KB,
    JobKind.MOVE_KB,
    JobKind.DROP_COPY,
    JobKind.RESTORE_KB,
    JobKind.DROP_GENERATION,
    *OF_THE_API,
)


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DISMISSED = "dismissed"  # it failed, and nobody will try it again


OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)  # not over yet
UNFINISHED = (*OPEN, JobStatus.FAILED)  # or somebody may try it again


class Job(Base):
    """One piece of work for a worker. A running job belongs to `lease_owner` until `lease_until`.

    `uploader` is the id of the key that asked for it, or empty. Workers take turns between uploaders.
    `cancelling`: whoever has it, or takes it, undoes what was done and ends it.
    """

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kb_id: Mapped[str] = mapped_column(ForeignKey("knowledge_bases.id", ondelete="CASCADE"))
    kind: Mapped[str]
    document_id: Mapped[str | None]  # no foreign key: the job outlives a document that failed or went
    document_name: Mapped[str | None]
    sha256: Mapped[str | None]
    detail: Mapped[
        Json | None
    ]  # of a move: where to, how far it has come; of a failed ingestion: the lost row
    uploader: Mapped[str] = mapped_column(server_default="")
    status: Mapped[str] = mapped_column(server_default="queued")
    cancelling: Mapped[bool] = mapped_column(server_default="false")
    stage: Mapped[str] = mapped_column(server_default="waiting")
    done: Mapped[int] = mapped_column(server_default="0")
    total: Mapped[int] = mapped_column(server_default="0")
    percent: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[Json | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    run_after: Mapped[datetime] = mapped_column(server_default=func.now())
    signalled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    started_at: Mapped[datetime | None]  # the last time that a worker took it
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_jobs_kb_id_created_at", "kb_id", "created_at"),
        Index("ix_jobs_turns", "kb_id", "uploader", "started_at"),
        Index("ix_jobs_failed", "finished_at", postgresql_where=text("status = 'failed'")),
        Index("ix_jobs_document_id", "document_id"),
        Index("ix_jobs_open", "run_after", postgresql_where=text("status IN ('queued', 'running')")),
    )


class CheckStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Check(Base):
    """One comparison of rows, files and stores (`ingest.fsck`). A running one is somebody's until `lease_until`.

    `mend`: what can be mended is. `foreign`: so are indexes of knowledge bases that this database does not know.
    """

    __tablename__ = "checks"

    id: Mapped[str] = mapped_column(primary_key=True)
    mend: Mapped[bool]
    foreign: Mapped[bool]
    status: Mapped[str] = mapped_column(server_default="queued")
    report: Mapped[Json | None]
    error: Mapped[Json | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key, kept as its SHA-256 only. `role` is `admin` (everything) or `reader` (search and ask)."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Conversation(Base):
    """A sequence of questions and answers of one key about one knowledge base."""

    __tablename__ = "conversations"

    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True)
    kb_id: Mapped[str] = mapped_column(ForeignKey("knowledge_bases.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    turns: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
