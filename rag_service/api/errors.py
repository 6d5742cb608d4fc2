"""How errors reach a client: as RFC 9457 problems, with the right status, never with a stack trace."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from core.errors import RagError
from rag_service.api.schemas import IN_WORDS, Problem

log = logging.getLogger(__name__)
OPENAI_PREFIX = "/v1/"
# What is said of a kind of error (of pydantic) whose own words are those of Python.
_OF_KIND = {
    "extra_forbidden": "There is no such field",
    "missing": "It is missing",
    "dict_type": "It is not an object",
    "model_type": "It is not an object",
    "model_attributes_type": "It is not an object",
}
CLIENT_CLOSED_REQUEST = 499  # as nginx has it
# What every endpoint may answer, for the OpenAPI document.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request cannot be fulfilled; `detail` and `hint` say why."},
    "5XX": {"model": Problem, "description": "The service cannot answer now; see `retry_after_s`."},
}


def problem_of(error: Exception) -> Problem:
    """The error as clients see it. What was not raised on purpose is an internal error without details."""
    if isinstance(error, HTTPException) and isinstance(error.__cause__, RagError):
        error = error.__cause__  # the framework hides what was wrong while it read the body
    if isinstance(error, RagError):
        return Problem(
            type="about:blank",
            title=(type(error).__doc__ or "Error").splitlines()[0].rstrip("."),
            status=error.status,
            detail=error.message,
            code=error.code,
            hint=error.hint,
            retry_after_s=error.retry_after_s,
        )
    if isinstance(error, RequestValidationError):
        return Problem(
            type="about:blank",
            title="The request is malformed",
            status=422,
            detail=_first_wrong_field(error),
            code="malformed",
            errors=[{"field": _field(e), "message": _said(e)} for e in error.errors()],
        )
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase
        return Problem(
            type="about:blank",
            title=title,
            status=error.status_code,
            detail=str(error.detail),
            code=title.lower().replace(" ", "-"),
        )
    return Problem(
        type="about:blank",
        title="Internal error",
        status=500,
        detail="Something went wrong inside the service.",
        code="internal",
        hint="The service's log has the details.",
    )


def _field(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"])


def _first_wrong_field(error: RequestValidationError) -> str:
    first = error.errors()[0]
    return f"{_field(first)}: {_said(first)}"


def _said(error: Any) -> str:
    pattern = error.get("ctx", {}).get("pattern")
    said = IN_WORDS.get(pattern) or _OF_KIND.get(error["type"])
    return said or str(error["msg"]).removeprefix("Value error, ")


def _problem_with_address(request: Request, error: HTTPException) -> Problem | None:
    """What to say when no endpoint has this path or method; None for other errors."""
    asked = f"{request.method} {request.url.path[:200]}"
    details = {
        HTTPStatus.NOT_FOUND: f"There is nothing at {asked}.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{asked} is no request of this service; the path takes other methods.",
    }
    status = HTTPStatus(error.status_code)
    if status not in details or error.detail != status.phrase:
        return None
    changes = {
        "detail": details[status],
        "hint": "docs/api.md lists the requests, /openapi.json describes them.",
    }
    return problem_of(error).model_copy(update=changes)


def response(request: Request, error: Exception) -> JSONResponse:
    with_address = _problem_with_address(request, error) if isinstance(error, HTTPException) else None
    problem = with_address or problem_of(error)
    headers = dict(getattr(error, "headers", None) or {})  # such as `Allow` of a 405
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.retry_after_s:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    if request.url.path.startswith(OPENAI_PREFIX):
        return JSONResponse(openai_error(problem), problem.status, headers)
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        problem.status,
        headers,
        media_type="application/problem+json",
    )


def openai_error(problem: Problem) -> dict[str, Any]:
    """The same in the shape that OpenAI clients read."""
    kind = "invalid_request_error" if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    message = f"{problem.detail} {problem.hint}" if problem.hint else problem.detail
    return {"error": {"message": message, "type": kind, "param": None, "code": problem.code}}


def install(app: FastAPI) -> None:
    async def known(request: Request, error: Exception) -> JSONResponse:
        return response(request, error)

    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s broke", request.method, request.url.path, exc_info=error)
        return response(request, error)

    for kind in (RagError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, known)

    async def nobody(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)  # for the log alone

    app.add_exception_handler(ClientDisconnect, nobody)
    app.add_exception_handler(Exception, unknown)
