"""The contract of stores sees a bug in any of them (`tests/stores/planted_bugs.py` plants them)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_bugs", TESTS / "stores" / "planted_bugs.py")
    assert spec
    assert spec.loader
    module = sys.modules["planted_bugs"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


planted_bugs = _load()
ALL = [(kind, bug) for kind, bugs in planted_bugs.BUGS.items() for bug in bugs]


@pytest.fixture(scope="module")
def copy() -> object:
    with planted_bugs.copied() as folder:
        yield folder


@pytest.mark.parametrize(("kind", "bug"), ALL, ids=[f"{kind}: {bug.name}" for kind, bug in ALL])
def test_a_bug_can_be_planted(kind: str, bug: object) -> None:
    """Code that has changed since would make a bug a change of nothing."""
    text = (TESTS.parent / "stores" / bug.file).read_text()  # type: ignore[attr-defined]
    assert text.count(bug.right) == 1  # type: ignore[attr-defined]


def test_the_contract_sees_bugs(copy: Path) -> None:
    assert planted_bugs.some_green(copy, "memory", {}) == []


def test_the_contract_is_green_without_a_bug(copy: Path) -> None:
    assert not planted_bugs.is_red(copy, "memory", None, {})
