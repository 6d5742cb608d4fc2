"""`/kbs/{kb}/documents`: upload, list, read, download, delete."""

from __future__ import annotations

import json
import math
import mimetypes
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, BackgroundTasks, Query, Request
from fastapi.responses import FileResponse
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from core.db import documents, kbs
from core.db.models import Document
from core.errors import BadRequest, InvalidValue, NotFound, RagError
from ingest.archive import ArchiveLimits, is_archive
from ingest.intake import OF_FOLDER, Accepted, clean_name
from rag_service.api import schemas
from rag_service.api.deps import AdminKey, AnyKey, Cursor, Limit, Services, encode_cursor
from rag_service.api.jobs import job_schema
from rag_service.api.query import check_known
from rag_service.wiring import ApiServices

router = APIRouter(prefix="/kbs/{kb}/documents", tags=["documents"])
COPY_BYTES = 2**20  # read from an upload at a time
MOST_ATTRIBUTES = 50
LONGEST_VALUE = 512  # characters of an attribute's text or number
MOST_ITEMS = 100  # of an attribute that is a list
LONGEST_SOURCE = 200  # characters
FORM_FIELDS = ("attributes", "file", "source")

UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "One or many files. A file's name may be a relative path.",
                        },
                        "attributes": {
                            "type": "string",
                            "description": "JSON object of texts, numbers, booleans and lists of at most 100 texts, "
                            "for `filters` and `filter` in searches.",
                            "examples": ['{"department": "hr", "year": 2026, "topics": ["leave", "pay"]}'],
                        },
                        "source": {
                            "type": "string",
                            "maxLength": 200,
                            "description": "What the documents belong to from now on, such as `folder:handbook`.",
                        },
                    },
                }
            }
        },
    }
}


def document_schema(document: Document) -> schemas.Document:
    return schemas.Document.model_validate(document, from_attributes=True)


@router.post("", status_code=202, openapi_extra=UPLOAD_BODY)
async def upload(
    services: Services, key: AdminKey, kb: str, request: Request, after: BackgroundTasks
) -> schemas.UploadResponse:
    """Take files and queue their ingestion; the jobs tell the progress.

    A name that exists already gets a new version; readers see the old one until the new one is complete.
    The same bytes again do no work; under a new name neither: they are kept once, under the first name, which the
    response gives as `same_as`, and with its attributes. Of several files, those that cannot be read are reported
    one by one. A ZIP archive is unpacked: each of its files becomes a document `archive.zip/path` with a result of
    its own.
    """
    async with services.database.transaction() as session:
        found = await kbs.by_name(session, kb)
    services.embedders.of(found.embedder)  # else nothing can be read into it
    kb_id = found.id
    limits = services.settings.server
    try:
        async with request.form(max_files=limits.max_files_per_upload, max_fields=10) as form:
            for name in form:
                check_known("form field", name, FORM_FIELDS)
            files = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
            if not files:
                raise BadRequest(
                    "There is no file in the request.", hint="Send it as multipart field `file`."
                )
            attributes = _attributes(form)
            source = _source(form)
            results = [
                result
                for file in files
                for result in await _accept(services, kb_id, file, attributes, key.id, source)
            ]
    except MultiPartException as error:
        raise BadRequest(f"The upload cannot be read: {error.message}") from error
    if len(results) == 1 and isinstance(results[0][1], RagError):
        raise results[0][1]
    after.add_task(services.signals.sweep)
    return schemas.UploadResponse(files=[_outcome(name, result) for name, result in results])


async def _accept(
    services: ApiServices,
    kb_id: str,
    file: UploadFile,
    attributes: dict[str, Any] | None,
    uploader: str,
    source: str | None,
) -> list[tuple[str, Accepted | RagError]]:
    """What became of a file, or of each file of an archive, by name."""
    limits = services.settings.server
    max_bytes = limits.max_upload_mb * 2**20
    # Browsers and HTTP libraries write a quotation mark in a file's name as %22 (WHATWG, multipart/form-data).
    name = (file.filename or "").replace("%22", '"')
    results: list[tuple[str, Accepted | RagError]] = []
    try:
        name = clean_name(name)
        incoming = await services.files.receive(read_in_pieces(file), max_bytes=max_bytes)
        if not is_archive(name):
            results.append(
                (name, await services.intake.accept(kb_id, name, incoming, attributes, uploader, source))
            )
            return results
        archive_limits = ArchiveLimits(limits.max_archive_files, limits.max_archive_mb * 2**20)
        async for each in services.intake.accept_archive(
            kb_id, name, incoming, attributes, archive_limits, max_bytes, uploader, source
        ):
            results.append(each)
    except RagError as error:
        if error.status >= 500:
            raise  # the service's trouble, not this file's
        results.append((name, error))
    return results


def _outcome(name: str, result: Accepted | RagError) -> schemas.UploadResult:
    if isinstance(result, RagError):
        return _refused(name, result)
    return schemas.UploadResult(
        name=name,
        outcome="queued" if result.job else "unchanged",
        document_id=result.document_id,
        job=job_schema(result.job) if result.job else None,
        same_as=result.same_as,
    )


def _refused(name: str, error: RagError) -> schemas.UploadResult:
    reason = schemas.JobError(code=error.code, message=error.message, hint=error.hint)
    return schemas.UploadResult(name=name, outcome="refused", error=reason)


async def read_in_pieces(file: UploadFile) -> AsyncIterator[bytes]:
    """The file's bytes, a mebibyte at a time."""
    while chunk := await file.read(COPY_BYTES):
        yield chunk


def _attributes(form: FormData) -> dict[str, Any] | None:
    raw = form.get("attributes")
    if raw is None:
        return None
    try:
        value = json.loads(str(raw))
    except (ValueError, RecursionError):
        raise InvalidValue("`attributes` is not valid JSON.") from None
    if not isinstance(value, dict) or len(value) > MOST_ATTRIBUTES:
        raise InvalidValue(f"`attributes` must be a JSON object with at most {MOST_ATTRIBUTES} keys.")
    for key, item in value.items():
        if len(key) > 64 or not _may_be_attribute(item):
            raise InvalidValue(
                f"Attribute '{key[:64]}': keys have at most 64 characters, values are text (at most "
                f"{LONGEST_VALUE} characters), finite numbers, booleans or lists of at most {MOST_ITEMS} such texts."
            )
    schemas.refuse_unstorable(value, "`attributes`")
    return value


def _may_be_attribute(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= MOST_ITEMS and all(
            isinstance(item, str) and len(item) <= LONGEST_VALUE for item in value
        )
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, str | int | float) and len(str(value)) <= LONGEST_VALUE


def _source(form: FormData) -> str | None:
    raw = form.get("source")
    if raw is None:
        return None
    source = str(raw)
    if not source.startswith(OF_FOLDER) or not len(OF_FOLDER) < len(source) <= LONGEST_SOURCE:
        raise InvalidValue(
            f"`source` is {OF_FOLDER} and a name, together at most {LONGEST_SOURCE} characters."
        )
    schemas.refuse_unstorable(source, "`source`")
    return source


@router.get("")
async def list_documents(
    services: Services,
    _: AnyKey,
    kb: str,
    cursor: Cursor,
    limit: Limit = 50,
    name: Annotated[str | None, Query(max_length=500, description="Only names that contain this.")] = None,
) -> schemas.Page[schemas.Document]:
    """Documents by name, those still being read included."""
    async with services.database.transaction() as session:
        found_kb = await kbs.by_name(session, kb)
        found = await documents.page(session, found_kb.id, limit=limit + 1, after=cursor, name=name)
    items = [document_schema(document) for document in found[:limit]]
    more = encode_cursor(items[-1].name) if len(found) > limit else None
    return schemas.Page(items=items, next_cursor=more)


@router.get("/{document_id}")
async def get_document(services: Services, _: AnyKey, kb: str, document_id: str) -> schemas.Document:
    """One document."""
    return document_schema(await _find(services, kb, document_id))


@router.get("/{document_id}/original", response_class=FileResponse)
async def download_original(services: Services, _: AnyKey, kb: str, document_id: str) -> FileResponse:
    """The file as it was uploaded (the version that readers see)."""
    document = await _find(services, kb, document_id)
    path = services.files.path(document.live_sha256 or document.sha256)
    if not path.exists():
        raise NotFound("The original file is gone.", hint="Check RAG_DATA_DIR; upload the file again.")
    file_name = document.name.rsplit("/", 1)[-1]
    return FileResponse(
        path,
        media_type=mimetypes.guess_type(file_name)[0] or "application/octet-stream",
        # Always a download: an uploaded page must not run in the service's own origin.
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name)}"},
    )


@router.get("/{document_id}/text")
async def get_text(
    services: Services,
    _: AnyKey,
    kb: str,
    document_id: str,
    start: Annotated[int, Query(ge=0, description="First character.")] = 0,
    end: Annotated[int | None, Query(ge=0, description="Character behind the last; null: the end.")] = None,
) -> schemas.DocumentText:
    """The parsed text that chunks and citations point into, or the part `start:end` of it (characters)."""
    document = await _find(services, kb, document_id)
    async with services.database.transaction() as session:
        parsed = await documents.get_text(session, document_id, document.live_revision or "")
    if parsed is None:
        raise NotFound("This document has not been read yet.", hint="Its job tells the progress.")
    end = len(parsed.text) if end is None else min(end, len(parsed.text))
    if start > end:
        raise InvalidValue(f"`start` ({start}) lies behind the end ({end}).")
    section = parsed.section_at(start)
    return schemas.DocumentText(
        document_id=document_id,
        name=document.name,
        start=start,
        end=end,
        characters=len(parsed.text),
        text=parsed.text[start:end],
        page=parsed.page_at(start),
        section=section.label if section else "",
    )


@router.delete("/{document_id}", status_code=202)
async def delete_document(
    services: Services, _: AdminKey, kb: str, document_id: str, after: BackgroundTasks
) -> schemas.Job:
    """Hide the document at once; the job removes its file and its entries in the indexes."""
    document = await _find(services, kb, document_id)
    job = await services.intake.delete(document.kb_id, document_id)
    after.add_task(services.signals.sweep)
    return job_schema(job)


async def _find(services: ApiServices, kb: str, document_id: str) -> Document:
    async with services.database.transaction() as session:
        found_kb = await kbs.by_name(session, kb)
        return await documents.get(session, found_kb.id, document_id)
