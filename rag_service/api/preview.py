"""`/kbs/{kb}/preview-chunks`: how a document would be cut, before anything is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import ValidationError

from core.db import documents, kbs
from core.errors import InvalidValue, NotFound
from core.types import ParsedDocument, Record
from ingest.chunkers.base import Chunking
from ingest.intake import clean_name
from rag_service.api import schemas
from rag_service.api.deps import AdminKey, Services
from rag_service.api.documents import read_in_pieces
from rag_service.preview import preview
from rag_service.wiring import ApiServices

router = APIRouter(prefix="/kbs/{kb}", tags=["knowledge bases"])


@router.post("/preview-chunks")
async def preview_chunks(
    services: Services,
    _: AdminKey,
    kb: str,
    file: Annotated[UploadFile | None, File(description="A file, which is not kept.")] = None,
    document_id: Annotated[
        str | None, Form(max_length=64, description="Or a document of the knowledge base.")
    ] = None,
    chunking: Annotated[
        str | None,
        Form(max_length=2000, description="JSON, as for a knowledge base; without: that of this one."),
    ] = None,
    limit: Annotated[int, Form(ge=1, le=2000, description="Most chunks returned.")] = 200,
) -> schemas.ChunkPreview:
    """The chunks that a file or a document would become. Nothing is embedded or stored; of a long document only the
    first 100,000 characters are cut."""
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
    wanted = _chunking(chunking) if chunking is not None else Chunking.of_kb(found.settings)
    if (file is None) == (document_id is None):
        raise InvalidValue("Send either `file` or `document_id`.")
    if file is not None:
        parsed, name = await _parsed(services, file)
    else:
        parsed, name = await _stored(services, found.id, document_id or "")
    embedder = services.embedders.of_or_current(found.embedder)
    made = await preview(parsed, wanted, embedder, title=parsed.title or Path(name).stem)
    return schemas.ChunkPreview(
        chunking=wanted,
        name=made.chunker.name,
        total=len(made.chunks),
        cut_off=made.cut_off,
        tokens=sum(made.tokens),
        chunks=[_chunk(*pair) for pair in zip(made.chunks[:limit], made.tokens, strict=False)],
    )


def _chunking(text: str) -> Chunking:
    try:
        return Chunking.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InvalidValue(
            f"`chunking`{': ' + place if place else ''}: {problem['msg']}.",
            hint='As in {"strategy": "parent-child", "characters": 400}.',
        ) from None


async def _parsed(services: ApiServices, file: UploadFile) -> tuple[ParsedDocument, str]:
    name = clean_name((file.filename or "").replace("%22", '"'))
    most = services.settings.server.max_upload_mb * 2**20
    incoming = await services.files.receive(read_in_pieces(file), max_bytes=most)
    try:
        return await services.parse(incoming.path, name), name
    finally:
        incoming.drop()


async def _stored(services: ApiServices, kb_id: str, document_id: str) -> tuple[ParsedDocument, str]:
    async with services.database.transaction() as session:
        document = await documents.get(session, kb_id, document_id)
        parsed = await documents.get_text(session, document_id, document.live_revision or "")
    if parsed is None:
        raise NotFound("This document has not been read yet.", hint="Its job tells the progress.")
    return parsed, document.name


def _chunk(record: Record, tokens: int) -> schemas.PreviewedChunk:
    parent = record.parent
    return schemas.PreviewedChunk(
        position=record.position,
        text=record.text,
        header=record.header,
        section=record.section,
        start=record.start,
        end=record.end,
        page_start=record.page_start,
        page_end=record.page_end,
        tokens=tokens,
        parent_start=parent.start if parent else None,
        parent_end=parent.end if parent else None,
    )
