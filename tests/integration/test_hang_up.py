"""Does a client that hangs up give its place at the language model back, however it asked?

The model server is the fake of `tests/unit/models/fake_llm_server.py`: it falls silent, before its first word or in the
middle, and sees who leaves. That real engines stop writing then is checked in `tests/engines/test_fairness.py`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from running_service import LoopThread, Running, running_service

sys.path.append(str(Path(__file__).parents[1] / "unit" / "models"))
from fake_llm_server import FakeServer, Reply, fake_server

PATIENCE_S = 30.0
QUESTION = "How many weeks is parental leave?"
LEAVE_MD = "# Leave\n\nParental leave is 16 weeks. The company pays for all of it.\n"
ASK = "/api/v1/kbs/leave/ask", {"question": QUESTION}
CHAT = "/v1/chat/completions", {"model": "kb:leave", "messages": [{"role": "user", "content": QUESTION}]}


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "1", "choices": [choice]}).encode() + b"\n\n"


SILENT = Reply((), "silence", content_type="text/event-stream")
HALF = Reply((chunk("Parental leave is 16 weeks. "),), "silence", content_type="text/event-stream")
WHOLE = Reply(
    (chunk("Parental leave is 16 weeks.", "stop"), b"data: [DONE]\n\n"), content_type="text/event-stream"
)


@contextmanager
def engine(first: Reply) -> Iterator[tuple[LoopThread, FakeServer]]:
    """A model server that answers the first request with `first` and all others."""
    loop = LoopThread()
    fake = fake_server({"/v1/chat/completions": [first, WHOLE]})
    try:
        yield loop, loop.run(fake.__aenter__())
        loop.run(fake.__aexit__(None, None, None))
    finally:
        loop.close()


def one_at_a_time(fake: FakeServer) -> dict[str, str]:
    return {
        "RAG_LLM__KIND": "openai",
        "RAG_LLM__URL": f"{fake.url}/v1",
        "RAG_LLM__MODEL": "m",
        "RAG_LLM__CONCURRENCY": "1",
        "RAG_INGEST__SUMMARISE": "extractive",
    }


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("request_", [ASK, CHAT], ids=["ask", "chat"])
@pytest.mark.parametrize("first", [SILENT, HALF], ids=["before the first word", "in the middle"])
def test_who_hangs_up_leaves_the_engine_to_the_next(
    first: Reply,
    request_: tuple[str, dict[str, Any]],
    stream: bool,
    new_database: Callable[[], AbstractContextManager[str]],
    tmp_path: Path,
) -> None:
    path, body = request_
    with (
        engine(first) as (loop, fake),
        new_database() as database,
        running_service(database, tmp_path, **one_at_a_time(fake)) as service,
    ):
        service.new_kb("leave")
        service.upload("leave", {"leave.md": LEAVE_MD})
        service.work()
        with hanging(service, path, {**body, "stream": stream}) as connection:
            until(lambda: len(fake.bodies) == 1)
            if first is HALF and stream:
                while b"16 weeks" not in connection.recv(65536):
                    pass
        loop.run(asyncio.wait_for(fake.client_left.wait(), PATIENCE_S))
        assert "16 weeks" in service.ask("leave", QUESTION)["answer"]
    assert len(fake.bodies) == 2


def test_metrics_say_how_many_answers_are_written_and_wait(
    new_database: Callable[[], AbstractContextManager[str]], tmp_path: Path
) -> None:
    def answers(service: Running) -> set[str]:
        lines = service.client.get(service.url + "/metrics").text.splitlines()
        return {line for line in lines if line.startswith("rag_llm_answers{")}

    def numbers(running: int, waiting: int) -> set[str]:
        return {
            f'rag_llm_answers{{model="default",state="running"}} {running}.0',
            f'rag_llm_answers{{model="default",state="waiting"}} {waiting}.0',
        }

    with (
        engine(SILENT) as (_, fake),
        new_database() as database,
        running_service(database, tmp_path, **one_at_a_time(fake)) as service,
    ):
        service.new_kb("leave")
        service.upload("leave", {"leave.md": LEAVE_MD})
        service.work()
        assert answers(service) == numbers(0, 0)
        with hanging(service, *ASK):
            until(lambda: answers(service) == numbers(1, 0))
            with hanging(service, *ASK):
                until(lambda: answers(service) == numbers(1, 1))
            until(lambda: answers(service) == numbers(1, 0))
        until(lambda: answers(service) == numbers(0, 0))


@contextmanager
def hanging(service: Running, path: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A connection on which the request was sent; it is closed at the end."""
    address = urlsplit(service.url)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {service.admin_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    assert address.port
    with socket.create_connection(("127.0.0.1", address.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head.encode() + content)
        yield connection


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
