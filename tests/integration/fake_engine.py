"""A fake server with OpenAI's protocol whose words are laid down: what a real model writes is its own affair."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class FakeEngine(BaseHTTPRequestHandler):
    """Answers `words` (or what they make of the prompt) of the JSON that is asked for by its fields, else "Lisbon."."""

    words: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[str]] = []
    prompts: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self._send(json.dumps({"data": [{"id": "fake"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        fields = tuple(schema.get("properties", ()))
        self.asked.append(",".join(fields) or "answer")
        self.prompts.append(body["messages"][-1]["content"])
        text = json.dumps({f: self._word(f) for f in fields}) if fields else "Mary Smith was born in Lisbon."
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "fake"}
        pieces = [
            {**chunk, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        lines = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
        self._send(lines.encode(), "text/event-stream")

    def _word(self, field: str) -> Any:
        word = self.words[field]
        if callable(word):
            return word(self.prompts[-1])
        return word.pop(0) if isinstance(word, list) and field in ("enough", "next_question") else word

    def _send(self, data: bytes, content_type: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    @classmethod
    def forget(cls) -> None:
        cls.words = {}
        cls.asked.clear()
        cls.prompts.clear()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def fake_engine() -> Iterator[str]:
    """Its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeEngine)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
