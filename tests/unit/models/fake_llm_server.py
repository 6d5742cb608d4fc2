"""A fake model server: real TCP and HTTP, but the answers are bytes that a test lays down.

For what a real engine does not do on demand: fail, break off, talk nonsense, fall silent.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Reply:
    """What one path answers: the pieces of the body, then a proper end, a cut, or silence."""

    pieces: Sequence[bytes] = ()
    then: Literal["end", "cut", "silence"] = "end"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass
class FakeServer:
    url: str
    bodies: list[Any] = field(default_factory=list)  # of the requests, parsed
    client_left: asyncio.Event = field(default_factory=asyncio.Event)  # during a silence


@asynccontextmanager
async def fake_server(replies: Mapping[str, Reply | Sequence[Reply]]) -> AsyncIterator[FakeServer]:
    """Of several replies on a path, each request gets the next, and the last one stays."""
    fake = FakeServer(url="")
    left = {path: [reply] if isinstance(reply, Reply) else list(reply) for path, reply in replies.items()}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path, body = await _read_request(reader)
            fake.bodies.append(body)
            queue = left.get(path, [Reply([b'{"error": "no such path"}'], status=404)])
            reply = queue.pop(0) if len(queue) > 1 else queue[0]
            await _write(reply, writer)
            if reply.then == "silence":
                await reader.read()  # returns when the client closes the connection
                fake.client_left.set()
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield fake


def unused_url() -> str:
    """An address of this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
    body = await reader.readexactly(int(length[0])) if length else b""
    return head.split(" ")[1], json.loads(body or b"null")


async def _write(reply: Reply, writer: asyncio.StreamWriter) -> None:
    headers = {
        "content-type": reply.content_type,
        "transfer-encoding": "chunked",
        "connection": "close",
        **reply.headers,
    }
    lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    for piece in reply.pieces:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
    if reply.then == "end":
        writer.write(b"0\r\n\r\n")
    await writer.drain()
