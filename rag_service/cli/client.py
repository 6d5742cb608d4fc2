"""How do the commands talk to a running service?

The address is `RAG_URL`, else the one this machine's settings give; the key is `RAG_API_KEY`, else the first
admin key in the data folder. httpx is imported by the first request, so that `rag-service up` stays small.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import typer
from pydantic import ValidationError

from core.errors import Conflict, RagError, SettingsError, Unavailable
from core.settings import Settings, load_settings
from rag_service.api.schemas import FINAL, Job, Problem, UploadResult

if TYPE_CHECKING:
    import httpx

URL_VARIABLE = "RAG_URL"
KEY_VARIABLE = "RAG_API_KEY"
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 300.0  # the service sends keep-alive comments well within this
PIECE_BYTES = 2**20  # of a download
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (listened on, not reachable as such)


class Refused(RagError):
    """The service refused the request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, hint=problem.hint, retry_after_s=problem.retry_after_s)
        self.status = problem.status
        self.code = problem.code


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to upload and the name it gets in the knowledge base."""

    path: Path
    name: str


def open_api() -> Api:
    """The service that environment and settings name. Raises `SettingsError` if there is no key for it."""
    settings = load_settings()
    url = os.environ.get(URL_VARIABLE)
    return Api(url or service_url(settings), read_key(settings, url))


def service_url(settings: Settings) -> str:
    """The address of the service that these settings start, as seen from this machine."""
    host = settings.server.host
    host = EVERYWHERE.get(host) or (f"[{host}]" if ":" in host else host)
    return f"http://{host}:{settings.server.port}"


def read_key(settings: Settings, url: str | None) -> str:
    """`RAG_API_KEY`, else this machine's own admin key, which never goes to another machine."""
    key = os.environ.get(KEY_VARIABLE)
    if key:
        return key
    if url is not None and not _is_this_machine(url):
        raise SettingsError(
            f"There is no API key for {url}.", hint=f"Set {KEY_VARIABLE} to a key of that service."
        )
    file = settings.admin_key_file
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise SettingsError(
            f"There is no API key: {KEY_VARIABLE} is not set and {file} does not exist.",
            hint=f"Start the service with `rag-service up`, or set {KEY_VARIABLE} (and {URL_VARIABLE}).",
        ) from None
    except OSError as error:
        raise SettingsError(
            f"The API key in {file} cannot be read: {error.strerror}.",
            hint=f"Run as the user who started the service, or set {KEY_VARIABLE}.",
        ) from None


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def kb_path(kb: str, *parts: str) -> str:
    """The path of (a part of) a knowledge base: `kb_path("hr", "jobs")` is `/kbs/hr/jobs`."""
    return "/kbs/" + "/".join(quote(part, safe="") for part in (kb, *parts))


class Api:
    """The service's REST API. Paths start after `/api/v1`; what it refuses is raised as `Refused`, a service
    that does not answer as `Unavailable`."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._client: httpx.Client | None = None
        self._told: str | None = None

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        return self._json("GET", path, params=_given(query))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._json("POST", path, json=body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._json("PATCH", path, json=body)

    def delete(self, path: str, **query: Any) -> Any:
        return self._json("DELETE", path, params=_given(query))

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page after page."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, **query)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def upload(self, kb: str, files: Sequence[LocalFile], *, source: str | None = None) -> list[UploadResult]:
        """Upload files, which belong to `source`, in one request. Raises `OSError` if one cannot be read."""
        with ExitStack() as stack:
            parts = [("file", (file.name, stack.enter_context(file.path.open("rb")))) for file in files]
            form = _given({"source": source})
            response = self._json("POST", kb_path(kb, "documents"), files=parts, data=form)
        return [UploadResult.model_validate(result) for result in response["files"]]

    def download(self, path: str, **query: Any) -> Iterator[bytes]:
        """The bytes of a response as they come. One that ends early raises `Unavailable`."""
        with self._in_words(), self._http.stream("GET", path, params=_given(query)) as response:
            if response.is_error:
                response.read()
            self._check(response)
            yield from response.iter_bytes(PIECE_BYTES)

    def send_file(self, path: str, file: Path, **query: Any) -> Any:
        """POST the file as it is. Raises `OSError` if it cannot be read."""
        with file.open("rb") as source:
            size = {"Content-Length": str(file.stat().st_size)}
            return self._json("POST", path, params=_given(query), content=source, headers=size)

    def follow(self, job: Job) -> Iterator[Job]:
        """A job's states, from the given one to the final one. Says once what it (and others like it) wait for."""
        yield job
        while job.status not in FINAL:  # a stream that breaks off is opened again
            for _, data in self.events("GET", f"/jobs/{job.id}/events"):
                job = Job.model_validate(data)
                self._tell_what_it_waits_for(job)
                yield job

    def _tell_what_it_waits_for(self, job: Job) -> None:
        if job.error is None or job.status in FINAL or job.error.message == self._told:
            return
        self._told = job.error.message
        typer.echo(
            f"Waiting: {self._told} The service goes on by itself; Ctrl-C ends the waiting only.", err=True
        )

    def wait(self, job: Job) -> Job:
        """The final state of a job. Raises `RagError` with the job's own words if it failed or was cancelled."""
        for state in self.follow(job):
            job = state
        if job.status == "cancelled":
            raise Conflict("The job was cancelled.")
        if job.error is not None:
            raise RagError(job.error.message, hint=job.error.hint)
        return job

    def events(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[str, Any]]:
        """The server-sent events of a response as (name, data)."""
        with self._in_words(), self._http.stream(method, path, json=body) as response:
            if response.is_error:
                response.read()
            self._check(response)
            yield from _parse_events(response.iter_lines())

    @property
    def _http(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 (see the top of the file)

        if self._client is None:
            self._client = httpx.Client(
                base_url=f"{self.url}/api/v1",
                headers={"Authorization": f"Bearer {self._key}"},
                timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                # A proxy from the environment cannot reach this machine's own addresses.
                trust_env=not _is_this_machine(self.url),
            )
        return self._client

    def _json(self, method: str, path: str, **arguments: Any) -> Any:
        with self._in_words():
            response = self._http.request(method, path, **arguments)
            self._check(response)
            return response.json() if response.content else None

    def _check(self, response: httpx.Response) -> None:
        if not response.is_error:
            return
        try:
            raise Refused(Problem.model_validate_json(response.text))
        except ValidationError:
            raise Unavailable(
                f"What answers at {self.url} is not this service (status {response.status_code}).",
                hint=f"Check {URL_VARIABLE} and any proxy in between.",
            ) from None

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        import httpx  # noqa: PLC0415

        try:
            yield
        except httpx.ConnectError:
            raise Unavailable(
                f"The service does not answer at {self.url}.",
                hint=f"Start it with `rag-service up`, or set {URL_VARIABLE} to where it runs.",
            ) from None
        except httpx.InvalidURL as error:
            raise SettingsError(
                f"{self.url} is not an address: {error}.", hint=f"Check {URL_VARIABLE}."
            ) from None
        except (httpx.TransportError, json.JSONDecodeError) as error:
            raise Unavailable(f"The connection to {self.url} broke off ({type(error).__name__}).") from None


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    name, data = "message", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif not line:
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
