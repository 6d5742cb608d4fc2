"""A real web server on this machine, whose pages a test changes while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """An answer. With `etag`, a request that has it gets a 304. `pause_s` is waited before each piece of the body."""

    body: bytes = b""
    status: int = 200
    media_type: str = "text/html"
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = None
    pieces: int = 1  # how often the body is sent
    pause_s: float = 0


@dataclass
class Site:
    """`pages` by path; `asked` are the paths and answers so far."""

    port: int = 0
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def web_site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = site.pages.get(self.path, Page(status=404))
            unchanged = page.etag is not None and self.headers["If-None-Match"] == page.etag
            status = 304 if unchanged else page.status
            site.asked.append((self.path, status))
            self.send_response(status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            if page.etag:
                self.send_header("ETag", page.etag)
            self.send_header("Content-Type", page.media_type)
            self.send_header("Content-Length", "0" if unchanged else str(len(page.body) * page.pieces))
            self.end_headers()
            if not unchanged:
                self._send(page)

        def _send(self, page: Page) -> None:
            try:
                for _ in range(page.pieces):
                    time.sleep(page.pause_s)
                    self.wfile.write(page.body)
            except OSError:
                pass  # the reader had enough

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
