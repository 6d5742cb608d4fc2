"""Does a recording become a document with times, and does a server's trouble stay the server's?

Against a fake server that answers as OpenAI's API reference says (`verbose_json`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.errors import ModelError, ModelTimeout, ModelUnavailable, RagError, UnreadableDocument
from core.settings import load_settings
from core.types import ParsedDocument
from ingest.parsers import Limits, sniff
from ingest.recordings import spoken_document
from models.transcription import Said
from rag_service.wiring import make_parse

WAVE = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64)
VERBOSE = {
    "task": "transcribe",
    "language": "chinese",
    "duration": 132.4,
    "text": "大家好。年假是十天。Any questions?",
    "segments": [
        {"id": 0, "seek": 0, "start": 0.4, "end": 3.1, "text": "大家好。", "tokens": [], "temperature": 0.0},
        {"id": 1, "seek": 0, "start": 65.0, "end": 70.2, "text": " 年假是十天。", "tokens": []},
        {"id": 2, "seek": 0, "start": 71.0, "end": 72.0, "text": " Any questions?", "tokens": []},
    ],
}


@dataclass
class FakeServer:
    """Answers every request with the same status and body; a silent one waits until the client is gone."""

    status: int = 200
    body: str = json.dumps(VERBOSE)
    silent: bool = False
    requests: list[bytes] = field(default_factory=list)
    url: str = ""
    handlers: list[asyncio.Task[None]] = field(default_factory=list)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.append(asyncio.create_task(self.handle(reader, writer)))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.requests.append(head + await reader.readexactly(int(length.split(b":")[1])))
        if self.silent:
            await reader.read()
        body = self.body.encode()
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % (self.status, len(body))
            + body
        )
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving(fake: FakeServer) -> AsyncIterator[FakeServer]:
    server = await asyncio.start_server(fake.accept, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield fake
    await asyncio.gather(*fake.handlers, return_exceptions=True)


async def read(folder: Path, url: str | None, name: str = "meetings/周会.wav", **more: str) -> ParsedDocument:
    variables = {"RAG_DATABASE__URL": "postgresql://nowhere/db", "RAG_DATA_DIR": str(folder), **more}
    if url is not None:
        variables |= {
            "RAG_INGEST__TRANSCRIPTION_URL": url,
            "RAG_INGEST__TRANSCRIPTION_MODEL": "paraformer",
            "RAG_INGEST__TRANSCRIPTION_KEY": "secret",
        }
    path = folder / "stored"
    path.write_bytes(WAVE if name.endswith(".wav") else b"plain words")
    return await make_parse(load_settings(variables))(path, name)


async def test_what_is_said_is_read_with_its_times(tmp_path: Path) -> None:
    async with serving(FakeServer()) as fake:
        document = await read(tmp_path, fake.url)
    assert document.text == "大家好。\n 年假是十天。\n Any questions?"
    assert [section.label for section in document.sections] == ["[00:00:00]", "[00:01:05]"]
    place = document.section_at(document.text.index("questions"))
    assert place is not None
    assert place.label == "[00:01:05]"
    [request] = fake.requests
    assert request.startswith(b"POST /v1/audio/transcriptions ")
    for wanted in (b"Bearer secret", b"paraformer", b"verbose_json", b".wav", WAVE):
        assert wanted in request


async def test_other_files_are_read_as_ever(tmp_path: Path) -> None:
    async with serving(FakeServer()) as fake:
        assert (await read(tmp_path, fake.url, "a.txt")).text == "plain words"
    assert fake.requests == []


async def test_a_transcript_without_times_has_no_sections(tmp_path: Path) -> None:
    async with serving(FakeServer(body=json.dumps({"text": "just words"}))) as fake:
        document = await read(tmp_path, fake.url)
    assert (document.text, document.sections) == ("just words", ())


@pytest.mark.parametrize(
    ("fake", "kind", "words"),
    [
        (FakeServer(400, '{"error": {"message": "bad codec"}}'), UnreadableDocument, "bad codec"),
        (FakeServer(401, "{}"), ModelError, "transcription_key"),
        (FakeServer(503, "{}"), ModelUnavailable, "answers 503"),
        (FakeServer(200, "<html>"), ModelError, "not OpenAI's protocol"),
        (FakeServer(200, '{"text": " "}'), UnreadableDocument, "nothing is said"),
        (FakeServer(silent=True), ModelTimeout, "longer than 0.3 s"),
    ],
    ids=lambda value: value.status if isinstance(value, FakeServer) else "",
)
async def test_trouble_says_whose_it_is(
    fake: FakeServer, kind: type[RagError], words: str, tmp_path: Path
) -> None:
    async with serving(fake):
        with pytest.raises(kind) as trouble:
            await read(tmp_path, fake.url, RAG_INGEST__TRANSCRIPTION_TIMEOUT_S="0.3")
    assert words in str(trouble.value)


async def test_a_server_that_is_down_is_waited_for(tmp_path: Path) -> None:
    async with serving(FakeServer()) as fake:
        pass
    with pytest.raises(ModelUnavailable, match="Nothing answers"):
        await read(tmp_path, fake.url)


async def test_without_a_server_the_refusal_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match="RAG_INGEST__TRANSCRIPTION_URL"):
        await read(tmp_path, None)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.mp3", b"ID3\x04"),
        ("a.mp3", b"\xff\xfb\x90"),
        ("a.m4a", b"\x00\x00\x00\x20ftypM4A "),
        ("a.ogg", b"OggS"),
        ("a.flac", b"fLaC"),
        ("a.webm", b"\x1aE\xdf\xa3"),
    ],
)
def test_recordings_are_known_by_name_and_content(name: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(start + bytes(64))
    assert sniff(path, name).name == "a recording"
    path.write_bytes(b"<!doctype html><html>")
    with pytest.raises(UnreadableDocument, match="named like a recording"):
        sniff(path, name)


def test_long_recordings_have_hours_in_their_time_stamps() -> None:
    document = spoken_document([Said("late", 3 * 3600 + 125.9)], Limits())
    assert document.sections[0].label == "[03:02:05]"
