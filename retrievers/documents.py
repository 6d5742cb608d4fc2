"""What does retrieval have to know of documents? Which can be found, and what stands in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.db import documents
from core.db.documents import Live, Named
from core.db.session import Database
from core.types import ParsedDocument, Span
from retrievers.base import Scope

MOST_FOREIGN = 2000  # documents: more make a filter that takes longer than the search


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one revision of a document."""

    document_id: str
    revision: str
    span: Span


class Documents(Protocol):
    async def live(self, scope: Scope, document_ids: Collection[str]) -> dict[str, Live]:
        """Those of the documents that readers of this scope can find."""
        ...

    async def foreign(self, scope: Scope, language: str) -> tuple[str, ...]:
        """At most `MOST_FOREIGN` of the scope's documents that are in another language (`zh`, `en`) than this."""
        ...

    async def texts(self, places: Sequence[Place]) -> list[str | None]:
        """What stands at each place; None where the revision is gone."""
        ...

    async def layout(self, document_id: str, revision: str) -> ParsedDocument | None:
        """The pages and sections of a document; its `text` is empty. None if the revision is gone."""
        ...


class Names(Protocol):
    async def named(
        self, scope: Scope, folded: str, heads: Collection[str], files: Collection[str]
    ) -> list[Named]:
        """The scope's documents whose names stand in a folded text, `heads` being how they may begin, or whose file
        names these are; the longest names first.
        """
        ...


class StoredDocuments:
    """The documents in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def live(self, scope: Scope, document_ids: Collection[str]) -> dict[str, Live]:
        async with self._database.reading() as session:
            return await documents.live(session, document_ids, scope.generation)

    async def foreign(self, scope: Scope, language: str) -> tuple[str, ...]:
        async with self._database.reading() as session:
            return await documents.in_other_language(
                session, scope.kb_id, language, only=scope.document_ids, most=MOST_FOREIGN
            )

    async def named(
        self, scope: Scope, folded: str, heads: Collection[str], files: Collection[str]
    ) -> list[Named]:
        async with self._database.reading() as session:
            return await documents.named_in(
                session, scope.kb_id, folded, heads, files, only=scope.document_ids
            )

    async def texts(self, places: Sequence[Place]) -> list[str | None]:
        if not places:
            return []
        async with self._database.reading() as session:
            return [
                await documents.stretch(session, place.document_id, place.revision, place.span)
                for place in places
            ]

    async def layout(self, document_id: str, revision: str) -> ParsedDocument | None:
        async with self._database.reading() as session:
            return await documents.get_layout(session, document_id, revision)
