"""How is a server reached that runs in a network of its own? By a socket that was opened outside.

    unshare --net python milvus_in_namespace.py FD COMMAND…

FD is a listening socket of the outer network. Runs COMMAND, and hands connections from FD to its port 19530.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys

PORT = 19530
_SET_FLAGS, _UP = 0x8914, 0x1


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14s", b"lo", _UP, b""))


async def forward(outside: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    try:
        inside, ask = await asyncio.open_connection("127.0.0.1", PORT)
    except OSError:
        answer.close()
        return
    await asyncio.gather(pump(outside, ask), pump(inside, answer))


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


async def main() -> None:
    raise_loopback()
    process = await asyncio.create_subprocess_exec(*sys.argv[2:])
    server = await asyncio.start_server(forward, sock=socket.socket(fileno=int(sys.argv[1])))
    async with server:
        sys.exit(await process.wait())


if __name__ == "__main__":
    asyncio.run(main())
