"""The ASGI application: routes, errors, limits, and services opened for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import web
from core.errors import TooLarge
from core.settings import Settings
from rag_service.api import (
    ask,
    backup,
    calibrate,
    conversations,
    documents,
    errors,
    fsck,
    health,
    jobs,
    kbs,
    keys,
    metrics,
    models,
    openai,
    preview,
    sources,
    tune,
)
from rag_service.api.query import ONLY_KNOWN_PARAMETERS
from rag_service.api.traffic import CountTraffic, Traffic, paths
from rag_service.wiring import open_api

API_PREFIX = "/api/v1"
DESCRIPTION = (
    "A self-hosted RAG knowledge base: documents in, cited answers out. Everything but `/health` and `/ready` "
    "needs an API key, as `Authorization: Bearer KEY`. Errors are RFC 9457 problems."
)
SECURITY_HEADERS = {
    b"content-security-policy": b"default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


def create_app(settings: Settings) -> FastAPI:
    """The application for these settings; servers and models are opened when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_api(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="rag-service",
        version=version("rag-service"),
        description=DESCRIPTION,
        lifespan=lifespan,
        responses=errors.PROBLEMS,
        docs_url=None,  # these pages would load scripts from elsewhere; the document itself is /openapi.json
        redoc_url=None,
    )
    for module in (
        health,
        kbs,
        preview,
        tune,
        calibrate,
        backup,
        documents,
        sources,
        jobs,
        fsck,
        ask,
        conversations,
        keys,
        models,
    ):
        app.include_router(module.router, prefix=API_PREFIX, dependencies=[ONLY_KNOWN_PARAMETERS])
    app.include_router(metrics.router, dependencies=[ONLY_KNOWN_PARAMETERS])
    app.include_router(openai.router)
    app.mount("/web", StaticFiles(directory=web.static_dir()), name="web")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(web.static_dir() / "index.html")

    errors.install(app)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.server.max_request_mb * 2**20,
        limited_elsewhere=(f"{API_PREFIX}{backup.RESTORE_PATH}",),
    )
    app.add_middleware(SecurityHeaders)
    app.state.traffic = Traffic()
    app.add_middleware(CountTraffic, traffic=app.state.traffic, paths=paths(app))
    # Builds every route, once. FastAPI would do it at the first request, in the server's thread, and for as
    # long as that takes replace the warning filters of the whole process.
    app.openapi()
    return app


class BodyLimit:
    """Refuses a request body of more than `max_bytes`, also one that does not say how long it is.

    Requests to `limited_elsewhere` have limits of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, limited_elsewhere: Sequence[str]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._limited_elsewhere = limited_elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") in self._limited_elsewhere:
            await self._app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise TooLarge(
                    f"The request is larger than {self._max_bytes // 2**20} MiB.",
                    hint="Send fewer files at a time; RAG_SERVER__MAX_REQUEST_MB sets the limit.",
                )
            return message

        await self._app(scope, counted, send)


class SecurityHeaders:
    """Adds headers that keep browsers from running what is not ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)
