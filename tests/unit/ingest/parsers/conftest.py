"""How do parser tests read a file? `read(name, bytes)` writes it and parses it under that name."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_files import Read

from core.types import ParsedDocument
from ingest.parsers import Limits, parse


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(name: str, data: bytes, **limits: int) -> ParsedDocument:
        # Stored files have no extension: the name alone must do.
        path = tmp_path / "stored"
        path.write_bytes(data)
        return parse(path, name, Limits(**limits))

    return read
