"""Where do the processes of one machine write, and how is it kept from filling the disk?

Each process appends to one file. Its last run is kept beside it as `NAME.log.1`; a run that writes more than
`LIMIT_BYTES` loses its oldest lines.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

LIMIT_BYTES = 20 * 1024 * 1024


def open_log(file: Path) -> BinaryIO:
    """Begin a new log file for appending; the old one becomes `NAME.log.1`."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    if file.exists():
        file.replace(_previous(file))
    return file.open("ab")


def keep_bounded(file: Path, limit: int = LIMIT_BYTES) -> None:
    """Empty a log that is longer than `limit` bytes into `NAME.log.1`, while its process goes on writing.

    Safe because the writer appends: its next line lands at the new end of the file.
    """
    if file.exists() and file.stat().st_size > limit:
        shutil.copyfile(file, _previous(file))
        with file.open("r+b") as log:
            log.truncate(0)


def last_lines(file: Path, count: int = 15) -> str:
    """The last `count` lines of a log file, or a word that there are none."""
    text = ""
    if file.exists():
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - 16_384))
            text = "\n".join(log.read().decode("utf-8", "replace").splitlines()[-count:])
    return text or "(nothing was written)"


def _previous(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")
