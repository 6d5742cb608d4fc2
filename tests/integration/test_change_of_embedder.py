"""The way from one embedder to another over HTTP and by commands: both are searched with, until all is built anew."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from running_service import Running, running_service

from models.embedders.bundled import BundledEmbedder

LEAVE = "Employees take ten days of annual leave. Parental leave is 16 weeks.\n"
KITCHEN = "The Atlas 9 espresso machine is descaled every month with citric acid.\n"
QUESTION = "How long is parental leave?"
NUMBERS = 128


class FirstNumbersHandler(BaseHTTPRequestHandler):
    """OpenAI's `/embeddings`, with the first numbers of the bundled embedder's vectors: shorter, and real."""

    embedder = BundledEmbedder()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        vectors = asyncio.run(self.embedder.embed_passages(body["input"]))[:, :NUMBERS]
        data = [{"index": n, "embedding": vector.tolist()} for n, vector in enumerate(vectors)]
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture(scope="module")
def new_embedder() -> Iterator[dict[str, str]]:
    """The settings of another embedder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FirstNumbersHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    kind = {"KIND": "openai", "URL": url, "MODEL": "first-numbers"}
    yield {f"RAG_EMBEDDER__{name}": value for name, value in kind.items()}
    server.shutdown()
    server.server_close()


def test_a_service_changes_its_embedder(
    new_database: Callable[[], AbstractContextManager[str]], tmp_path: Path, new_embedder: dict[str, str]
) -> None:
    with new_database() as url:
        with running_service(url, tmp_path) as before:
            before.upload(before.new_kb("people"), {"leave.txt": LEAVE})
            before.work()
        with running_service(url, tmp_path, **new_embedder) as without_the_old:
            refused = without_the_old.client.post("/kbs/people/ask", json={"question": QUESTION})
            assert refused.status_code == 409
            assert "made with the embedder multilingual-e5-small-q4" in refused.json()["detail"]
            assert "RAG_OLD_EMBEDDER__KIND" in refused.json()["hint"]
            assert "kb rebuild" in refused.json()["hint"]
        with running_service(url, tmp_path, **new_embedder, RAG_OLD_EMBEDDER__KIND="bundled") as both:
            _ask_both(both)
            _rebuild_and_go_back(both)


def _ask_both(service: Running) -> None:
    service.upload(service.new_kb("kitchen"), {"atlas.txt": KITCHEN})
    service.work()
    assert service.client.get("/kbs/people").json()["dimensions"] == 384
    assert service.client.get("/kbs/kitchen").json()["dimensions"] == NUMBERS
    for question, kb in ((QUESTION, "people"), ("How often is the espresso machine descaled?", "kitchen")):
        answer = service.client.post("/ask", json={"question": question, "trace": True}).json()
        assert answer["citations"][0]["kb"] == kb
    # What the documents do not answer is refused where the embedder's thresholds are known.
    unanswered = {"question": "Who won the 1998 football world cup?", "kbs": ["people"]}
    assert not service.client.post("/ask", json=unanswered).json()["found"]
    service.upload("people", {"badges.txt": "Badges open the doors of the office.\n"})
    service.work()
    assert service.ask("people", "What opens the doors?")["found"]


def _rebuild_and_go_back(service: Running) -> None:
    said = service.command("kb", "rebuild", "people", "--characters", "100")
    assert said.exit_code == 0, said.output
    assert said.output.startswith(
        "people is in generation 2: openai:first-numbers, sentence, up to 100 characters."
    )
    kb = service.client.get("/kbs/people").json()
    assert (kb["generation"], kb["dimensions"], kb["chunking"]["characters"]) == (2, NUMBERS, 100)
    assert kb["other_generation"]["number"] == 1
    assert kb["other_generation"]["complete"]
    assert service.ask("people", QUESTION)["citations"][0]["quote"] == "Parental leave is 16 weeks."
    again = service.command("kb", "rebuild", "people")
    assert "Delete it: `rag-service kb drop-generation people`." in again.output
    said = service.command("kb", "rollback", "people")
    assert said.output.startswith("people is in generation 1: multilingual-e5-small-q4, sentence, up to 250")
    assert service.ask("people", QUESTION)["citations"][0]["quote"] == "Parental leave is 16 weeks."
    said = service.command("kb", "drop-generation", "people")
    assert said.output == "Deleted generation 2 of people.\n"
    assert service.client.get("/kbs/people").json()["other_generation"] is None
    assert service.client.delete("/kbs/people/generations/2").status_code == 404
    assert service.client.post("/kbs/people/rollback").status_code == 409
