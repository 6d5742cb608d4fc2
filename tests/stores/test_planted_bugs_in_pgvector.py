"""The contract of stores sees a bug in pgvector's (`planted_bugs.py`; in the exact store's: tests/unit)."""

from __future__ import annotations

import planted_bugs
import pytest

pytestmark = pytest.mark.timeout(1800)


def test_the_contract_sees_bugs(postgres_server: str) -> None:
    with planted_bugs.copied() as folder:
        assert planted_bugs.some_green(folder, "pgvector", {"RAG_TEST_DATABASE_URL": postgres_server}) == []
