"""What does a backup look like? A tar file whose every member is named by its kind and the SHA-256 of its content.

    kb/HASH          one, the first: which format, and the knowledge base's row
    documents/HASH   JSON lines, a document each
    texts/HASH       the parsed text of one document
    files/HASH       an original
    chunks/HASH      JSON lines, a record each with its vector; so are summaries/HASH
    end/HASH         one, the last: how many members there are, and the hash of all their names

So damage shows in the member where it is, what was cut off or left out shows at the end, and `tar` can open it. Only
plain members with such names are read: no links, no paths, no compression.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import tarfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from core.errors import RagError
from core.types import Record, Vector
from ingest.intake import clean_name

FORMAT = "rag-service backup"
VERSION = 1
BATCH = 200  # records, or documents, of one member
BLOCK = 2**20  # bytes of an original read at a time
MOST_BYTES = 2**26  # of a member that is not read in blocks
MOST_TEXT_BYTES = 2**30  # of the member of a document's text
_NAME = re.compile(r"(kb|documents|texts|files|chunks|summaries|end)/([0-9a-f]{64})")
Model = TypeVar("Model", bound=BaseModel)
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class DamagedBackup(RagError):
    """The file is no complete backup."""

    status = 422
    code = "damaged-backup"


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SavedKb(_Saved):
    """A knowledge base, and the format of what follows."""

    format: Literal["rag-service backup"]
    version: int
    made_at: datetime
    name: str
    description: str
    store: str
    embedder: str
    dim: int = Field(ge=1)
    settings: dict[str, Any]


class SavedDocument(_Saved):
    """A document that readers could find: its live version."""

    id: str = Field(min_length=1)
    name: str
    sha256: str = Sha256
    size: int = Field(ge=0)
    revision: str = Field(min_length=1)
    title: str | None
    language: str | None
    pages: int | None
    characters: int | None
    chunks: int | None
    summaries: int | None = None
    source: str | None = None
    summary: str | None
    attributes: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @field_validator("name")
    @classmethod
    def _as_uploads_have_it(cls, name: str) -> str:
        if clean_name(name) != name:
            raise ValueError(f"{name[:100]!r} is no name of a document")
        return name


class SavedText(_Saved):
    """The parsed text of a document; pages and sections as `core.db.models.DocumentText` has them."""

    document_id: str
    text: str
    title: str | None
    pages: list[tuple[int, int, int]]
    sections: list[tuple[list[str], int, int]]


class SavedEnd(_Saved):
    """What came before: `sha256` is that of the members' names, a line each."""

    members: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a backup; `start` is where its content begins in the file."""

    kind: str
    sha256: str
    start: int
    size: int


# --- writing ---------------------------------------------------------------------------------------------------


class BackupWriter:
    """Turns parts into the bytes of a backup. Call `end` last."""

    def __init__(self) -> None:
        self._members = 0
        self._names = hashlib.sha256()

    def part(self, kind: str, content: bytes) -> bytes:
        """A whole member."""
        head = self._head(kind, hashlib.sha256(content).hexdigest(), len(content))
        return head + content + _padding(len(content))

    def model(self, kind: str, saved: BaseModel) -> bytes:
        return self.part(kind, saved.model_dump_json().encode())

    def lines(self, kind: str, lines: list[str]) -> bytes:
        return self.part(kind, "".join(f"{line}\n" for line in lines).encode())

    async def file(self, sha256: str, path: Path) -> AsyncIterator[bytes]:
        """The member of an original, block by block. Raises `RagError` if the file is gone or has changed."""
        digest = hashlib.sha256()
        try:
            with path.open("rb") as source:
                size = path.stat().st_size
                yield self._head("files", sha256, size)
                while block := await asyncio.to_thread(source.read, BLOCK):
                    digest.update(block)
                    yield block
        except OSError as error:
            raise RagError(
                f"The original {sha256} cannot be read: {error.strerror}.", hint="Is RAG_DATA_DIR complete?"
            ) from error
        if digest.hexdigest() != sha256:
            raise RagError(f"The original {sha256} is damaged.", hint="Upload the document again.")
        yield _padding(size)

    def end(self) -> bytes:
        end = SavedEnd(members=self._members, sha256=self._names.hexdigest())
        return self.model("end", end) + bytes(2 * tarfile.BLOCKSIZE)

    def _head(self, kind: str, sha256: str, size: int) -> bytes:
        member = tarfile.TarInfo(f"{kind}/{sha256}")
        member.size, member.mode = size, 0o600
        self._members += 1
        self._names.update(f"{member.name}\n".encode())
        return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def record_line(record: Record, vector: Vector) -> str:
    """A record and its vector (float32, little-endian, base64) as a JSON line."""
    values = {field.name: getattr(record, field.name) for field in fields(Record)}
    packed = base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    return json.dumps({**values, "vector": packed}, ensure_ascii=False)


# --- reading ---------------------------------------------------------------------------------------------------


class BackupFile:
    """A backup on disk. Everything it gives out was compared with its hash; else it raises `DamagedBackup`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def members(self) -> Generator[Member, None, None]:
        """All parts in order, `end` left out, which is checked against them."""
        names, count = hashlib.sha256(), 0
        with self._path.open("rb") as file:
            while True:
                member = _read_head(file.read(tarfile.BLOCKSIZE), file.tell())
                if member.kind == "end":
                    break
                names.update(f"{member.kind}/{member.sha256}\n".encode())
                count += 1
                yield member
                file.seek(member.start + member.size + -member.size % tarfile.BLOCKSIZE)
        if self.model(member, SavedEnd) != SavedEnd(members=count, sha256=names.hexdigest()):
            raise DamagedBackup("Parts of the backup are missing or out of order.")

    def kb(self) -> SavedKb:
        """The knowledge base. Raises `DamagedBackup` if this is no backup, or one of a later version."""
        with closing(self.members()) as members:
            first = next(members)
        if first.kind != "kb":
            raise DamagedBackup("A backup begins with its knowledge base; this file does not.")
        saved = self.model(first, SavedKb)
        if saved.version != VERSION:
            raise DamagedBackup(
                f"This backup has the format {saved.version}; this version of the service reads {VERSION}.",
                hint="Restore it with the version that made it, or a later one.",
            )
        return saved

    def check(self) -> dict[str, int]:
        """Read all of it; how many there are of members, documents, files, texts, chunks and summaries."""
        counts = dict.fromkeys(("members", "kb", "documents", "files", "texts", "chunks", "summaries"), 0)
        for member in self.members():
            lines = sum(block.count(b"\n") for block in self.blocks(member))
            counts["members"] += 1
            counts[member.kind] += lines if member.kind in ("documents", "chunks", "summaries") else 1
        if counts["kb"] != 1:
            raise DamagedBackup(f"There are {counts['kb']} knowledge bases in the backup.")
        return counts

    def blocks(self, member: Member) -> Iterator[bytes]:
        """The content, a mebibyte at a time; that it is damaged shows after the last."""
        digest, left = hashlib.sha256(), member.size
        with self._path.open("rb") as file:
            file.seek(member.start)
            while left:
                block = file.read(min(BLOCK, left))
                if not block:
                    raise DamagedBackup(
                        "The backup is cut off.", hint="Copy it again from where it was made."
                    )
                left -= len(block)
                digest.update(block)
                yield block
        if digest.hexdigest() != member.sha256:
            raise DamagedBackup(
                f"The part {member.kind}/{member.sha256[:12]}… is damaged.",
                hint="Copy the file again from where it was made, or take another backup.",
            )

    def model(self, member: Member, kind: type[Model]) -> Model:
        with _in_words(member):
            return kind.model_validate_json(self._content(member))

    def documents(self, member: Member) -> list[SavedDocument]:
        with _in_words(member):
            return [SavedDocument.model_validate_json(line) for line in self._lines(member)]

    def records(self, member: Member) -> list[tuple[Record, Vector]]:
        with _in_words(member):
            return [_record(line) for line in self._lines(member)]

    def _lines(self, member: Member) -> list[bytes]:
        return self._content(member).split(b"\n")[:-1]

    def _content(self, member: Member) -> bytes:
        most = MOST_TEXT_BYTES if member.kind == "texts" else MOST_BYTES
        if member.size > most:
            raise DamagedBackup(f"The part {member.kind}/{member.sha256[:12]}… is too large.")
        return b"".join(self.blocks(member))


def _read_head(block: bytes, start: int) -> Member:
    if not block:
        raise DamagedBackup("The backup is cut off.", hint="Copy it again from where it was made.")
    try:
        head = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        raise DamagedBackup(
            "This is no backup of rag-service, or it is damaged or cut off.",
            hint="`rag-service kb backup` makes one.",
        ) from None
    name = _NAME.fullmatch(head.name)
    if name is None or head.type != tarfile.REGTYPE or head.size < 0:
        raise DamagedBackup(f"A backup has no member such as {head.name[:100]!r}.")
    return Member(name[1], name[2], start, head.size)


@cache
def _record_type() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def _record(line: bytes) -> tuple[Record, Vector]:
    values = json.loads(line)
    vector = np.frombuffer(base64.b64decode(values.pop("vector"), validate=True), dtype="<f4")
    return _record_type().validate_python(values), vector.astype(np.float32)


@contextmanager
def _in_words(member: Member) -> Iterator[None]:
    """Says of content that has the right hash but not the right shape which part it is in."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        raise _misshapen(member, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _misshapen(member, str(error)) from error


def _misshapen(member: Member, said: str) -> DamagedBackup:
    return DamagedBackup(f"The part {member.kind}/{member.sha256[:12]}… is not what a backup holds: {said}.")
