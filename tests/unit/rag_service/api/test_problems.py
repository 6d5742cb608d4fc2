"""Errors reach clients as RFC 9457 problems with the right status, and tell nothing that is ours to know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter, FastAPI, Query

from core import errors
from core.errors import RagError, Unavailable
from rag_service.api.deps import Cursor
from rag_service.api.errors import PROBLEMS, install, openai_error, problem_of
from rag_service.api.query import ONLY_KNOWN_PARAMETERS
from rag_service.api.schemas import IN_WORDS

SECRET = "postgresql://u:hunter2@db"


def every_error(base: type[RagError] = RagError) -> Iterator[type[RagError]]:
    yield base
    for kind in base.__subclasses__():
        yield from every_error(kind)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(responses=PROBLEMS)

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise getattr(errors, name)("It is wrong.", hint="Mend it.", retry_after_s=4.6)

    @app.get("/break")
    @app.get("/v1/break")
    async def broken() -> None:
        raise RuntimeError(SECRET)

    @app.get("/number/{n}")
    async def number(n: int) -> int:
        return n

    install(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


@pytest.mark.parametrize(
    "name", sorted({kind.__name__ for kind in every_error() if kind.__module__ == "core.errors"})
)
async def test_every_error_of_ours_is_a_problem_with_its_own_status(
    client: httpx.AsyncClient, name: str
) -> None:
    kind = getattr(errors, name)
    response = await client.get(f"/raise/{name}")
    assert response.status_code == kind.status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "5"
    body = response.json()
    assert (body["status"], body["code"], body["detail"], body["hint"]) == (
        kind.status,
        kind.code,
        "It is wrong.",
        "Mend it.",
    )
    assert body["title"]
    assert ("www-authenticate" in response.headers) == (kind.status == 401)


def test_errors_that_a_retry_may_help_say_so_by_their_status() -> None:
    assert all(kind.status in (503, 504) for kind in every_error() if issubclass(kind, Unavailable))
    assert all(kind.retryable for kind in every_error() if issubclass(kind, Unavailable))
    assert not any(kind.retryable for kind in every_error() if kind.status < 500)


def test_an_error_without_words_has_those_of_its_class() -> None:
    problem = problem_of(errors.NotAuthenticated())
    assert problem.detail.startswith("An API key is needed")
    assert problem.hint is None


@pytest.mark.parametrize("path", ["/break", "/v1/break"])
async def test_what_broke_inside_is_not_told_outside(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 500
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert "RuntimeError" not in response.text
    assert "internal" in response.text


async def test_a_malformed_request_names_the_field(client: httpx.AsyncClient) -> None:
    response = await client.get("/number/seven")
    assert response.status_code == 422
    body = response.json()
    assert body["code"] == "malformed"
    assert body["errors"][0]["field"] == "path.n"


@pytest.mark.parametrize(("pattern", "words"), IN_WORDS.items())
async def test_what_a_text_may_hold_is_said_in_words(pattern: str, words: str) -> None:
    app = FastAPI()

    @app.get("/text")
    async def text(value: str = Query(pattern=pattern)) -> str:
        return value

    install(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        body = (await client.get("/text", params={"value": " "})).json()
    assert body["detail"] == f"query.value: {words}"
    assert body["errors"] == [{"field": "query.value", "message": words}]


async def test_a_query_parameter_that_an_endpoint_does_not_know_is_refused_by_its_name() -> None:
    app = FastAPI()
    router = APIRouter(dependencies=[ONLY_KNOWN_PARAMETERS])

    @router.get("/all")
    async def both(cursor: Cursor, status: str = "") -> str:
        return f"{cursor} {status}"

    @router.get("/one")
    async def one() -> str:
        return "one"

    app.include_router(router, prefix="/x")
    install(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x/x") as client:
        assert (await client.get("/all?cursor=YQ&status=b")).json() == "a b"
        typo, none = await client.get("/all?state=b"), await client.get("/one?status=b")
    assert (typo.status_code, none.status_code) == (422, 422)
    assert "`state` here (did you mean `status`?)" in typo.json()["detail"]
    assert "`cursor`, `status`" in typo.json()["hint"]
    assert none.json()["hint"] == "This request takes none."


async def test_unknown_paths_and_methods_are_problems_too(client: httpx.AsyncClient) -> None:
    absent, wrong = await client.get("/absent"), await client.post("/number/1")
    assert (absent.status_code, absent.json()["code"]) == (404, "not-found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    assert "GET /absent" in absent.json()["detail"]
    assert "POST /number/1" in wrong.json()["detail"]
    assert all("docs/api.md" in response.json()["hint"] for response in (absent, wrong))
    assert wrong.headers["allow"] == "GET"


async def test_openai_clients_get_the_shape_that_they_read(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/absent")).json()
    assert "There is nothing at GET /v1/absent." in body["error"].pop("message")
    assert body == {"error": {"type": "invalid_request_error", "param": None, "code": "not-found"}}
    assert openai_error(problem_of(errors.ModelTimeout()))["error"]["type"] == "server_error"
