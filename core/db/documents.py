"""SQL about documents and their parsed text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.models import (
    NAME_HEAD,
    Document,
    DocumentGeneration,
    DocumentStatus,
    DocumentText,
    Job,
    JobKind,
    JobStatus,
    KnowledgeBase,
)
from core.errors import NotFound
from core.types import Page, ParsedDocument, Section, Span

MOST_NAMED = 1000  # documents that a text names: many may have the same name


async def lock_content(session: AsyncSession, sha256: str) -> None:
    """Until the transaction ends, nobody else stores or removes the file with this content."""
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": sha256})


async def find(session: AsyncSession, document_id: str, *, lock: bool = False) -> Document | None:
    query = select(Document).where(Document.id == document_id)
    return (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()


async def get(session: AsyncSession, kb_id: str, document_id: str) -> Document:
    """A document that is not being deleted; raises `NotFound`."""
    document = await find(session, document_id)
    if document is None or document.kb_id != kb_id or document.status == DocumentStatus.DELETING:
        raise NotFound(f"There is no document {document_id} in this knowledge base.")
    return document


async def with_content(session: AsyncSession, kb_id: str, sha256: str) -> Document | None:
    """A document of the knowledge base that has (or is about to have) exactly this content."""
    query = (
        select(Document)
        .where(
            Document.kb_id == kb_id,
            Document.sha256 == sha256,
            Document.status != DocumentStatus.DELETING,
        )
        .order_by(Document.name)
        .limit(1)
    )
    return (await session.execute(query)).scalar_one_or_none()


async def page(
    session: AsyncSession, kb_id: str, *, limit: int, after: str | None, name: str | None
) -> list[Document]:
    """Documents by name, those after the name `after`, with `name` in their name if given."""
    query = select(Document).where(Document.kb_id == kb_id, Document.status != DocumentStatus.DELETING)
    if after is not None:
        query = query.where(Document.name > after)
    if name:
        query = query.where(Document.name.contains(name, autoescape=True))
    return list((await session.execute(query.order_by(Document.name).limit(limit))).scalars())


async def ready(session: AsyncSession, kb_id: str) -> list[Document]:
    """Those whose newest version readers see, locked until the transaction ends, by id."""
    query = (
        select(Document)
        .where(Document.kb_id == kb_id, Document.status == DocumentStatus.READY)
        .order_by(Document.id)
        .with_for_update()
    )
    return list((await session.execute(query)).scalars())


async def lock_all(session: AsyncSession, kb_id: str) -> None:
    """Until the transaction ends, nobody else changes or deletes documents of the knowledge base."""
    query = select(Document.id).where(Document.kb_id == kb_id).order_by(Document.id)
    await session.execute(query.with_for_update())


async def batch(session: AsyncSession, kb_id: str, *, after: str, limit: int) -> list[Document]:
    """All documents, whatever their status, in the order of their ids: those behind the id `after`."""
    query = select(Document).where(Document.kb_id == kb_id, Document.id > after)
    return list((await session.execute(query.order_by(Document.id).limit(limit))).scalars())


async def with_wrong_texts(session: AsyncSession, kb_id: str) -> set[str]:
    """Ids of the documents that lack the text of the revision that readers see, or have one of no generation."""
    of_kb = select(Document.id).where(Document.kb_id == kb_id)
    matching = exists().where(
        DocumentText.document_id == Document.id, DocumentText.revision == Document.live_revision
    )
    other = exists().where(
        DocumentText.document_id == Document.id,
        DocumentText.revision.is_distinct_from(Document.live_revision),
        _of_no_other_generation(),
    )
    query = of_kb.where(or_(other, and_(Document.live_revision.is_not(None), ~matching)))
    return set((await session.execute(query)).scalars())


@dataclass(frozen=True, slots=True)
class Live:
    """What a reader needs to know of a document that can be found."""

    id: str
    name: str
    revision: str


async def live(
    session: AsyncSession, document_ids: Collection[str], generation: int | None = None
) -> dict[str, Live]:
    """Those of the documents that can be found, with the revision that readers see.

    `generation`: the one that a question began with, though its knowledge base may have switched meanwhile.
    """
    query = _live(of_generation=generation is not None)
    found = await session.execute(query, {"ids": list(document_ids), "generation": generation})
    return {row.id: Live(row.id, row.name, row.revision) for row in found}


@cache  # every search asks it, and to build it takes longer than the answer
def _live(*, of_generation: bool) -> Select[str, str, str | None]:
    """`ids`: the documents; `generation`: the one whose revisions are asked for."""
    revision: ColumnElement[str | None] = Document.live_revision.expression
    generation = bindparam("generation", type_=Integer)
    if of_generation:
        revision = case((KnowledgeBase.generation == generation, revision), else_=DocumentGeneration.revision)
    query = select(Document.id, Document.name, revision.label("revision")).where(
        Document.id == any_(bindparam("ids", type_=ARRAY(Text))), revision.is_not(None)
    )
    if not of_generation:
        return query
    of_it = and_(DocumentGeneration.document_id == Document.id, DocumentGeneration.generation == generation)
    return query.join(KnowledgeBase).outerjoin(DocumentGeneration, of_it)


async def searchable(session: AsyncSession, kb_id: str) -> list[Live]:
    """All documents of the knowledge base that can be found."""
    query = select(Document.id, Document.name, Document.live_revision).where(
        Document.kb_id == kb_id, Document.live_revision.is_not(None)
    )
    return [Live(row.id, row.name, row.live_revision) for row in await session.execute(query)]


async def live_page(session: AsyncSession, kb_id: str, *, limit: int, after: str) -> list[Document]:
    """Documents that can be found, by id, those behind the id `after`."""
    query = select(Document).where(
        Document.kb_id == kb_id, Document.live_revision.is_not(None), Document.id > after
    )
    return list((await session.execute(query.order_by(Document.id).limit(limit))).scalars())


async def insert_new(
    session: AsyncSession, table: type[Document | Job], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert those rows whose ids are not there yet."""
    await session.execute(insert(table).values(list(rows)).on_conflict_do_nothing())


async def languages(session: AsyncSession, kb_ids: Collection[str]) -> set[str]:
    """In which languages (`zh`, `en`) documents of the knowledge bases are that can be found."""
    query = select(Document.language).where(
        Document.kb_id.in_(kb_ids), Document.live_revision.is_not(None), Document.language.is_not(None)
    )
    return {found for found in (await session.execute(query.distinct())).scalars() if found}


async def in_other_language(
    session: AsyncSession, kb_id: str, language: str, *, only: Collection[str] | None, most: int
) -> tuple[str, ...]:
    """At most so many documents of the knowledge base (`only` these) that can be found and are in the other of the two
    languages (`zh`, `en`) than this.
    """
    values = {
        "kb_id": kb_id,
        "language": "en" if language == "zh" else "zh",
        "only": list(only or ()),
        "most": most,
    }
    return tuple((await session.execute(_in_language(anywhere=only is None), values)).scalars())


@cache
def _in_language(*, anywhere: bool) -> Select[str]:
    query = select(Document.id).where(
        Document.kb_id == bindparam("kb_id"),
        Document.live_revision.is_not(None),
        Document.language == bindparam("language"),
    )
    if not anywhere:
        # One parameter for all of them: a statement takes 65,535 at most.
        query = query.where(Document.id == any_(bindparam("only", type_=ARRAY(Text))))
    return query.limit(bindparam("most", type_=Integer))


@dataclass(frozen=True, slots=True)
class Named:
    """A document that a text may name: what texts call it (folded, see `KNOWN_AS`), its title and its file name."""

    id: str
    known_as: str
    title: str | None
    name: str


_VISIBLE = """
SELECT id, known_as, left(nullif(btrim(title), ''), 200) AS title, name FROM documents
WHERE kb_id = :kb_id AND live_revision IS NOT NULL AND (:anywhere OR id = ANY(CAST(:only AS text[])))
"""
# In SQL as it is, because to build it of objects takes longer than to run it. The heads are one text, because the
# driver takes longer for an array of thousands; each is searched for in the index, because the planner would rather
# read all documents.
_NAMED = text(f"""
SELECT * FROM (
    SELECT each.* FROM unnest(string_to_array(:heads, E'\\n')) AS heads (head)
    CROSS JOIN LATERAL ({_VISIBLE} AND {NAME_HEAD} = head AND strpos(:folded, known_as) > 0 LIMIT :most) AS each
    UNION
    {_VISIBLE} AND name = ANY(CAST(:files AS text[]))
) AS named
ORDER BY length(known_as) DESC, known_as, id LIMIT :most
""")  # noqa: S608 - made of constants


async def named_in(
    session: AsyncSession,
    kb_id: str,
    folded: str,
    heads: Collection[str],
    files: Collection[str],
    *,
    only: Collection[str] | None,
) -> list[Named]:
    """Documents that can be found (`only` these) whose `known_as` stands in the `folded` text, be it inside words, or
    whose file name is among the `files`: at most `MOST_NAMED`, the longest names first.

    `heads`: what a name in the text may begin with, as `NAME_HEAD` has it.
    """
    parameters = {"kb_id": kb_id, "folded": folded, "heads": "\n".join(heads), "files": list(files)}
    inside = {"anywhere": only is None, "only": list(only or ())}
    named = await session.execute(_NAMED, parameters | inside | {"most": MOST_NAMED})
    return [Named(row.id, row.known_as, row.title, row.name) for row in named]


async def put_text(session: AsyncSession, document_id: str, revision: str, parsed: ParsedDocument) -> None:
    """Keep the parsed text of a revision (again is fine)."""
    await session.merge(
        DocumentText(
            document_id=document_id,
            revision=revision,
            text=parsed.text,
            title=parsed.title,
            pages=[[p.number, p.span.start, p.span.end] for p in parsed.pages],
            sections=[[list(s.path), s.span.start, s.span.end] for s in parsed.sections],
        )
    )


async def get_text(session: AsyncSession, document_id: str, revision: str) -> ParsedDocument | None:
    row = await session.get(DocumentText, (document_id, revision))
    return _parsed(row.text, row.title, row.pages, row.sections) if row else None


async def get_layout(session: AsyncSession, document_id: str, revision: str) -> ParsedDocument | None:
    """Title, pages and sections of a revision, with an empty text."""
    query = select(DocumentText.title, DocumentText.pages, DocumentText.sections)
    row = (await session.execute(_of_revision(query, document_id, revision))).one_or_none()
    return _parsed("", row.title, row.pages, row.sections) if row else None


async def stretch(session: AsyncSession, document_id: str, revision: str, span: Span) -> str | None:
    """The characters at `span`; None if the revision is gone."""
    query = select(func.substr(DocumentText.text, span.start + 1, len(span), type_=Text))
    found: str | None = (
        await session.execute(_of_revision(query, document_id, revision))
    ).scalar_one_or_none()
    return found


def _of_revision(query: Select[Any], document_id: str, revision: str) -> Select[Any]:
    return query.where(DocumentText.document_id == document_id, DocumentText.revision == revision)


def _parsed(text: str, title: str | None, pages: list[Any], sections: list[Any]) -> ParsedDocument:
    return ParsedDocument(
        text=text,
        title=title,
        pages=tuple(Page(number, Span(start, end)) for number, start, end in pages),
        sections=tuple(Section(tuple(path), Span(start, end)) for path, start, end in sections),
    )


def _other_texts(document_id: str, keep_revision: str) -> ColumnElement[bool]:
    """Texts of revisions that are in no generation: neither this one nor that of another."""
    return and_(
        DocumentText.document_id == document_id,
        DocumentText.revision != keep_revision,
        _of_no_other_generation(),
    )


def _of_no_other_generation() -> ColumnElement[bool]:
    return ~exists().where(
        DocumentGeneration.document_id == DocumentText.document_id,
        DocumentGeneration.revision == DocumentText.revision,
    )


async def has_other_texts(session: AsyncSession, document_id: str, keep_revision: str) -> bool:
    query = select(DocumentText.revision).where(_other_texts(document_id, keep_revision))
    return (await session.execute(query.limit(1))).scalar_one_or_none() is not None


async def drop_other_texts(session: AsyncSession, document_id: str, keep_revision: str) -> None:
    """Forget the texts of the document's revisions but this one, and those that are in another generation."""
    await session.execute(
        delete(DocumentText)
        .where(_other_texts(document_id, keep_revision))
        .execution_options(synchronize_session=False)
    )


async def content_in_use(session: AsyncSession, sha256: str) -> bool:
    """Whether a document or an unfinished job still needs the file with this content."""
    return bool(await contents_in_use(session, [sha256]))


async def contents_in_use(session: AsyncSession, contents: Collection[str]) -> set[str]:
    """Those of the hashes whose file a document still needs, an unfinished job, or one that can be tried again."""
    unfinished = or_(
        Job.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]),
        and_(Job.status == JobStatus.FAILED, Job.kind == JobKind.INGEST),
    )
    found: set[str | None] = set()
    for query in (
        select(Document.sha256).where(Document.sha256.in_(contents)),
        select(Document.live_sha256).where(Document.live_sha256.in_(contents)),
        select(Job.sha256).where(Job.sha256.in_(contents), unfinished),
    ):
        found.update((await session.execute(query)).scalars())
    return {sha256 for sha256 in found if sha256}


async def contents_of_kb(session: AsyncSession, kb_id: str) -> set[str]:
    """The hashes of all files that the knowledge base's documents have, or had while its jobs are remembered."""
    return await _contents(session, Document.kb_id == kb_id, Job.kb_id == kb_id)


async def contents_of_document(session: AsyncSession, document_id: str) -> set[str]:
    """The hashes of all files that the document has, or had while its jobs are remembered."""
    return await _contents(session, Document.id == document_id, Job.document_id == document_id)


async def _contents(
    session: AsyncSession, of_documents: ColumnElement[bool], of_jobs: ColumnElement[bool]
) -> set[str]:
    found: set[str | None] = set()
    for query in (
        select(Document.sha256).where(of_documents),
        select(Document.live_sha256).where(of_documents),
        select(Job.sha256).where(of_jobs),
    ):
        found.update((await session.execute(query)).scalars())
    return {sha256 for sha256 in found if sha256}
