"""Where may a test's PostgreSQL keep its data and socket?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_folder() -> Iterator[Path]:
    """An empty folder with a short path that PostgreSQL's own user can enter (root's tests need that)."""
    folder = Path(tempfile.mkdtemp(prefix="rag-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
