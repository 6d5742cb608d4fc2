"""Where uploaded files lie: a folder in which every file is named by the SHA-256 of its content.

Equal files are kept once. Writing is atomic (temporary name, fsync, rename), so a file that has its name is
complete. Several machines share the folder in a cluster (NFS or the like).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import RagError, TooLarge

SHA256_DIGITS = 64


class StorageFull(RagError):
    """The disk for uploaded files is full."""

    status = 507
    code = "storage-full"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A received file that has no place yet: move it with `FileStore.keep` or drop it."""

    path: Path
    sha256: str
    size: int

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)


class FileStore:
    """The folder of uploaded files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"

    def open(self) -> None:
        """Make the folder (only this user may enter it)."""
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def is_whole(self, sha256: str) -> bool:
        """Whether the file is there, byte for byte; reads all of it."""
        try:
            with self.path(sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except FileNotFoundError:
            return False

    def contents(self) -> Iterator[str]:
        """The hashes of all files that are there."""
        for folder in sorted(self._folder.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(folder.iterdir()):
                if path == self.path(path.name) and len(path.name) == SHA256_DIGITS:
                    yield path.name

    def unfinished(self, *, older_than_s: float) -> list[Path]:
        """What was being received when its process was killed: nobody has written to it for a while."""
        before = time.time() - older_than_s
        found = []
        for path in sorted(self._incoming.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # it has got its place meanwhile
                if path.stat().st_mtime < before:
                    found.append(path)
        return found

    async def receive(
        self, chunks: AsyncIterator[bytes], *, max_bytes: int, setting: str = "RAG_SERVER__MAX_UPLOAD_MB"
    ) -> Incoming:
        """Write a stream to a temporary file. Raises `TooLarge`, `StorageFull`; then nothing is left.

        `setting` is the one that `max_bytes` comes from.
        """
        descriptor, name = tempfile.mkstemp(dir=self._incoming)
        path = Path(name)
        digest = hashlib.sha256()
        size = 0
        try:
            with os.fdopen(descriptor, "wb") as target:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > max_bytes:
                        raise TooLarge(
                            f"The file is larger than {max_bytes // 2**20} MiB.",
                            hint=f"{setting} sets the limit.",
                        )
                    digest.update(chunk)
                    target.write(chunk)
                target.flush()
                await asyncio.to_thread(os.fsync, target.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageFull(
                f"The file cannot be written: {error.strerror}.", hint="Free some space."
            ) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Incoming(path, digest.hexdigest(), size)

    def keep(self, incoming: Incoming) -> None:
        """Give the file its place. Call it under `documents.lock_content`."""
        place = self.path(incoming.sha256)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        incoming.path.replace(place)
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)

    def remove(self, sha256: str) -> None:
        """Call it under `documents.lock_content`, when nothing refers to the content any more."""
        self.path(sha256).unlink(missing_ok=True)
