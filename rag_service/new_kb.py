"""What a new knowledge base is made of."""

from __future__ import annotations

import uuid

from core.db.models import KnowledgeBase
from core.settings import Settings
from ingest.chunkers.base import Chunking
from models.embedders.base import Embedder


def default_chunking(settings: Settings) -> Chunking:
    """How documents are cut where a knowledge base does not say."""
    return Chunking(characters=settings.ingest.chunk_characters)


async def new_kb(
    settings: Settings, embedder: Embedder, *, name: str, description: str = ""
) -> KnowledgeBase:
    """A knowledge base with this embedder and the store of the settings; not in the database yet.

    Asks the embedder for its dimension, so it raises what a model that is not there raises.
    """
    return KnowledgeBase(
        id=uuid.uuid4().hex[:12],
        name=name,
        description=description,
        store=settings.store.kind,
        embedder=embedder.name,
        dim=await embedder.dimension(),
        generation=1,
        settings={"chunking": default_chunking(settings).model_dump(mode="json")},
    )
