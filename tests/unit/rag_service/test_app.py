"""Is the application complete before it is served?"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from core.settings import load_settings
from rag_service.app import create_app


async def test_no_request_touches_the_warning_filters_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI replaces them while it builds routes; other threads would then lose theirs."""
    app = create_app(load_settings({"RAG_DATA_DIR": str(tmp_path), "RAG_LLM__KIND": "extractive"}))

    def replaced(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the warning filters are replaced")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        with monkeypatch.context() as patch:
            patch.setattr(warnings, "catch_warnings", replaced)
            answers = [await client.get(path) for path in ("/api/v1/health", "/openapi.json")]
    assert [answer.status_code for answer in answers] == [200, 200]
