"""SQL about generations: the one of a knowledge base that readers see, and the other that it may have beside it.

Documents hold what they are in the first, `document_generations` what they are in the other. A switch exchanges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.models import Document, DocumentGeneration, DocumentText, Json, KnowledgeBase

CUTTING = ("chunking", "chunk_characters")  # the settings of a knowledge base that belong to a generation
# What a switch exchanges: columns of documents, and what they are called in `document_generations`.
EXCHANGED = {"live_sha256": "sha256", "live_revision": "revision"} | {
    name: name for name in ("title", "language", "pages", "characters", "chunks", "summaries", "summary")
}


@dataclass(frozen=True, slots=True)
class Generation:
    """How one build of a knowledge base is made. `cutting`: the settings that say so.

    `complete`: readers have seen it, so it can be gone back to; else it is being built.
    """

    number: int
    embedder: str
    dim: int
    cutting: Json
    complete: bool = False

    def makes_the_same_as(self, other: Generation) -> bool:
        return (self.embedder, self.dim, self.cutting) == (other.embedder, other.dim, other.cutting)


def seen(kb: KnowledgeBase) -> Generation:
    """The generation that readers see."""
    return Generation(kb.generation, kb.embedder, kb.dim, _cutting(kb.settings), complete=True)


def other(kb: KnowledgeBase) -> Generation | None:
    """The one beside it."""
    return Generation(**kb.other_generation) if kb.other_generation is not None else None


def numbers(kb: KnowledgeBase) -> list[int]:
    beside = other(kb)
    return [kb.generation] if beside is None else [kb.generation, beside.number]


def begin(kb: KnowledgeBase, *, embedder: str, dim: int, cutting: Json) -> Generation:
    """A new generation beside the one that readers see, with nothing in it."""
    kb.newest_generation += 1
    begun = Generation(kb.newest_generation, embedder, dim, cutting)
    kb.other_generation = asdict(begun)
    return begun


def _cutting(settings: Mapping[str, Any]) -> Json:
    return {name: settings[name] for name in CUTTING if name in settings}


def _row_of(number: int) -> ColumnElement[bool]:
    return and_(DocumentGeneration.document_id == Document.id, DocumentGeneration.generation == number)


def _missing(kb_id: str, number: int, *columns: Any) -> Select[Any]:
    """Of the documents that readers see, those that the generation lacks, or has in another version."""
    return (
        select(*columns)
        .outerjoin(DocumentGeneration, _row_of(number))
        .where(
            Document.kb_id == kb_id,
            Document.live_revision.is_not(None),
            DocumentGeneration.sha256.is_distinct_from(Document.live_sha256),
        )
    )


async def missing(
    session: AsyncSession, kb_id: str, number: int, *, after: str, limit: int
) -> list[Document]:
    """Documents that the generation lacks, or has in another version than readers see; by id, behind the id `after`."""
    query = _missing(kb_id, number, Document).where(Document.id > after).order_by(Document.id).limit(limit)
    return list((await session.execute(query)).scalars())


async def count_missing(session: AsyncSession, kb_id: str, number: int) -> int:
    return int((await session.execute(_missing(kb_id, number, func.count(Document.id)))).scalar_one())


async def put(session: AsyncSession, row: DocumentGeneration) -> None:
    """Keep what the document is in a generation (again is fine)."""
    await session.merge(row)


async def of_document(session: AsyncSession, document_id: str, number: int) -> DocumentGeneration | None:
    return await session.get(DocumentGeneration, (document_id, number))


async def batch(
    session: AsyncSession, kb_id: str, number: int, *, after: str, limit: int
) -> list[tuple[DocumentGeneration, str]]:
    """What documents are in the generation, with their names, by id: those behind the id `after`."""
    query = (
        select(DocumentGeneration, Document.name)
        .join(Document, _row_of(number))
        .where(Document.kb_id == kb_id, Document.id > after)
        .order_by(Document.id)
        .limit(limit)
    )
    return [(row, name) for row, name in (await session.execute(query)).all()]


async def forget_document(session: AsyncSession, document_id: str) -> None:
    """The document is in no generation but the one that readers see."""
    await session.execute(delete(DocumentGeneration).where(DocumentGeneration.document_id == document_id))


async def drop(session: AsyncSession, kb: KnowledgeBase) -> None:
    """Forget the generation that readers do not see: its rows and texts. `kb` must be locked."""
    beside = other(kb)
    if beside is None:
        return
    of_kb = select(Document.id).where(Document.kb_id == kb.id)
    chosen = and_(DocumentGeneration.document_id.in_(of_kb), DocumentGeneration.generation == beside.number)
    await session.execute(
        delete(DocumentText)
        .where(
            DocumentText.document_id == DocumentGeneration.document_id,
            DocumentText.revision == DocumentGeneration.revision,
            chosen,
        )
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        delete(DocumentGeneration).where(chosen).execution_options(synchronize_session=False)
    )
    kb.other_generation = None


async def switch(session: AsyncSession, kb: KnowledgeBase) -> None:
    """Exchange the two generations, for readers all at once.

    Nothing that readers see may be missing in the other, and `kb` and its documents must be locked.
    """
    new, old = other(kb), seen(kb)
    assert new is not None
    values = {"kb": kb.id, "old": old.number, "new": new.number}
    # Both updates see the rows as they were before: that is what makes it an exchange.
    to_documents = ", ".join(f"{column} = g.{name}" for column, name in EXCHANGED.items())
    to_generations = ", ".join(f"{name} = d.{column}" for column, name in EXCHANGED.items())
    both = "d.id = g.document_id AND g.generation = :new AND d.kb_id = :kb AND d.live_revision IS NOT NULL"
    exchange = (
        f"WITH shown AS (UPDATE documents d SET {to_documents} FROM document_generations g WHERE {both}) "  # noqa: S608 - made of the names above
        f"UPDATE document_generations g SET generation = :old, {to_generations} FROM documents d WHERE {both}"
    )
    await session.execute(text(exchange), values)
    # What is left is of documents that readers do not see.
    await session.execute(
        text(
            "DELETE FROM document_generations g USING documents d "
            "WHERE d.id = g.document_id AND d.kb_id = :kb AND g.generation = :new"
        ),
        values,
    )
    kept = {name: value for name, value in kb.settings.items() if name not in CUTTING}
    kb.generation, kb.embedder, kb.dim, kb.settings = new.number, new.embedder, new.dim, kept | new.cutting
    kb.other_generation = asdict(old)
