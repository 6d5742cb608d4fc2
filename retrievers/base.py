"""What a search is asked for, and the interfaces of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from core.types import IndexKind, IndexName, Passage, Query
from retrievers.fields import DeclaredField
from stores.base import VectorStore

if TYPE_CHECKING:  # the command line imports this module, and shall not load numpy
    from models.embedders.base import Embedder


class Mode(StrEnum):
    """How the summary index is used.

    UNION: chunks of the documents it chooses, and chunks found directly. STRICT: only chunks of the documents
    it chooses. FLAT: it is not used.
    """

    UNION = "union"
    STRICT = "strict"
    FLAT = "flat"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to search: one generation of a knowledge base, maybe only some of its documents (None: all).

    `embedder` made its vectors. `description` is what routing compares with; `fields` may be named by questions.
    """

    kb_id: str
    generation: int
    store: VectorStore
    embedder: Embedder
    document_ids: tuple[str, ...] | None = None
    kb_name: str = ""
    description: str = ""
    fields: tuple[DeclaredField, ...] = ()

    def index(self, kind: IndexKind) -> IndexName:
        return IndexName(self.kb_id, self.generation, kind)


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question of the conversation and its answer."""

    question: str
    answer: str


class Rewriter(Protocol):
    async def rewrite(self, question: str, history: Sequence[Turn]) -> Query:
        """What to search for: the question as it would be asked without the conversation, first."""
        ...


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Candidate passages, best first, and what the trace should tell about the search."""

    passages: tuple[Passage, ...]
    notes: dict[str, int | float | str]


class Retriever(Protocol):
    async def retrieve(
        self, query: Query, scope: Scope, *, mode: Mode, pool: int, recursive: bool = False
    ) -> Retrieved:
        """At most `pool` passages of documents that readers can see.

        `recursive`: summaries of sections choose sections, as those of documents choose documents.
        """
        ...
