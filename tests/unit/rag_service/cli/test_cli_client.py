"""How do the commands talk to a service, and what do they say when it does not talk back?

The server here is a real one on a real socket that plays recorded answers: what a whole service cannot be
made to do on demand (breaking off, being something else).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.errors import RagError, SettingsError, Unavailable
from core.settings import Settings
from rag_service.api.schemas import Job
from rag_service.cli.client import Api, Refused, kb_path, read_key, service_url

PROBLEM = {
    "type": "about:blank",
    "title": "Not found",
    "status": 404,
    "detail": "There is no knowledge base named 'hr'.",
    "code": "not-found",
    "hint": "List them.",
}
JOB = {
    "id": "j1",
    "kb_id": "k",
    "kind": "ingest",
    "document_id": "d",
    "document_name": "a.md",
    "status": "running",
    "stage": "embedding",
    "done": 1,
    "total": 2,
    "percent": 50,
    "error": None,
    "attempts": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "finished_at": None,
}


def event(name: str, data: Any, newline: str = "\r\n") -> str:
    return f"event: {name}{newline}data: {json.dumps(data)}{newline}{newline}"


class RecordedServer(ThreadingHTTPServer):
    """Gives the next of `answers` (status, content type, body) to each request, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RecordedHandler)
        self.answers: list[tuple[int, str, str]] = []
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class RecordedHandler(BaseHTTPRequestHandler):
    server: RecordedServer

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization")))
        status, content_type, body = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 (names of the standard library)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[RecordedServer]:
    with RecordedServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def test_the_key_goes_in_a_header_and_the_name_is_escaped(server: RecordedServer) -> None:
    server.answers.append((200, "application/json", "{}"))
    with Api(server.url, "secret") as api:
        api.get(kb_path("人事 a/b"), cursor=None, limit=5)
    assert server.requests == [
        ("GET", "/api/v1/kbs/%E4%BA%BA%E4%BA%8B%20a%2Fb?limit=5", "Bearer secret"),
    ]


def test_a_refusal_keeps_the_words_of_the_service(server: RecordedServer) -> None:
    server.answers.append((404, "application/problem+json", json.dumps(PROBLEM)))
    with Api(server.url, "k") as api, pytest.raises(Refused) as caught:
        api.get("/kbs/hr")
    assert (caught.value.message, caught.value.hint, caught.value.status) == (
        PROBLEM["detail"],
        PROBLEM["hint"],
        404,
    )


def test_a_refused_stream_keeps_the_words_of_the_service(server: RecordedServer) -> None:
    server.answers.append((404, "application/problem+json", json.dumps(PROBLEM)))
    with Api(server.url, "k") as api, pytest.raises(Refused, match="no knowledge base"):
        list(api.events("POST", "/kbs/hr/ask", {}))


@pytest.mark.parametrize(("status", "body"), [(502, "<html>Bad gateway</html>"), (404, '{"oops": 1}')])
def test_something_else_that_answers_is_not_taken_for_the_service(
    server: RecordedServer, status: int, body: str
) -> None:
    server.answers.append((status, "text/html", body))
    with (
        Api(server.url, "k") as api,
        pytest.raises(Unavailable, match=f"is not this service .status {status}"),
    ):
        api.get("/kbs")


def test_a_page_that_is_not_json_is_not_taken_for_the_service(server: RecordedServer) -> None:
    server.answers.append((200, "text/html", "<html>Welcome</html>"))
    with Api(server.url, "k") as api, pytest.raises(Unavailable):
        api.get("/kbs")


def test_a_service_that_does_not_run_is_named_with_the_command_that_starts_it(server: RecordedServer) -> None:
    url = server.url
    server.server_close()
    with Api(url, "k") as api, pytest.raises(Unavailable, match=r"rag-service up") as caught:
        api.get("/kbs")
    assert url in str(caught.value)


def test_all_pages_of_a_list_are_read(server: RecordedServer) -> None:
    for items, cursor in (([{"n": 1}, {"n": 2}], "next/+="), ([{"n": 3}], None)):
        page = json.dumps({"items": items, "next_cursor": cursor})
        server.answers.append((200, "application/json", page))
    with Api(server.url, "k") as api:
        assert [item["n"] for item in api.pages("/kbs")] == [1, 2, 3]
    assert server.requests[1][1] == "/api/v1/kbs?cursor=next%2F%2B%3D"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_events_are_read_and_keep_alive_comments_left_out(server: RecordedServer, newline: str) -> None:
    body = (
        event("delta", {"text": "年假\n"}, newline)
        + f": ping{newline}{newline}"
        + event("done", {"answer": "年假\n"}, newline)
    )
    server.answers.append((200, "text/event-stream", body))
    with Api(server.url, "k") as api:
        assert list(api.events("GET", "/x")) == [
            ("delta", {"text": "年假\n"}),
            ("done", {"answer": "年假\n"}),
        ]


def test_a_job_is_followed_through_a_stream_that_breaks_off(server: RecordedServer) -> None:
    done = {**JOB, "status": "done", "stage": "finished", "percent": 100}
    server.answers.append((200, "text/event-stream", event("progress", JOB)))
    server.answers.append((200, "text/event-stream", event("progress", done)))
    with Api(server.url, "k") as api:
        states = [job.status for job in api.follow(Job.model_validate(JOB))]
    assert states == ["running", "running", "done"]


def test_a_failed_job_is_an_error_in_its_own_words(server: RecordedServer) -> None:
    error = {
        "code": "unreadable-document",
        "message": "The PDF is encrypted.",
        "hint": "Remove the password.",
    }
    failed = {**JOB, "status": "failed", "error": error}
    server.answers.append((200, "text/event-stream", event("progress", failed)))
    with Api(server.url, "k") as api, pytest.raises(RagError, match=r"encrypted\. Remove the password\."):
        api.wait(Job.model_validate(JOB))


def test_a_cancelled_job_is_an_error(server: RecordedServer) -> None:
    server.answers.append((200, "text/event-stream", event("progress", {**JOB, "status": "cancelled"})))
    with Api(server.url, "k") as api, pytest.raises(RagError, match="was cancelled"):
        api.wait(Job.model_validate(JOB))


def test_what_jobs_wait_for_is_said_once(server: RecordedServer, capsys: pytest.CaptureFixture[str]) -> None:
    away = {
        **JOB,
        "status": "queued",
        "error": {"code": "x", "message": "Redis does not answer.", "hint": None},
    }
    states = event("progress", away) + event("progress", {**JOB, "status": "done"})
    server.answers += 2 * [(200, "text/event-stream", states)]
    with Api(server.url, "k") as api:
        for _ in range(2):
            assert api.wait(Job.model_validate(JOB)).status == "done"
    assert capsys.readouterr().err.count("Waiting: Redis does not answer.") == 1


def test_the_key_comes_from_the_data_folder_of_this_machine(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.admin_key_file.write_text("secret\n")
    assert read_key(settings, None) == "secret"
    assert read_key(settings, "http://localhost:9000") == "secret"


def test_the_variable_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.admin_key_file.write_text("secret")
    monkeypatch.setenv("RAG_API_KEY", "other")
    assert read_key(settings, None) == "other"


@pytest.mark.parametrize(
    "url", ["https://rag.example.com", "http://10.0.0.7:8000", "http://localhost.evil.com"]
)
def test_the_key_of_this_machine_is_never_sent_to_another(tmp_path: Path, url: str) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.admin_key_file.write_text("secret")
    with pytest.raises(SettingsError, match="RAG_API_KEY"):
        read_key(settings, url)


def test_without_any_key_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="rag-service up"):
        read_key(Settings(data_dir=tmp_path), None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fd00::7", "http://[fd00::7]:8000"),
        ("rag.local", "http://rag.local:8000"),
    ],
)
def test_the_address_is_one_that_can_be_reached(host: str, url: str) -> None:
    assert service_url(Settings.model_validate({"server": {"host": host}})) == url
