"""CI does not pass because something that should run was skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
FILES = {
    "test_inside.py": "def test_it(): pytest.skip('no Milvus')",
    "test_mark.py": "@pytest.mark.skipif(True, reason='no Milvus')\ndef test_it(): ...",
    "test_fixture.py": "@pytest.fixture\ndef milvus(): pytest.skip('no Milvus')\ndef test_it(milvus): ...",
    "test_module.py": "pytest.skip('no Milvus', allow_module_level=True)",
    "test_import.py": "pytest.importorskip('no_such_client_of_milvus')",
    "test_allowed.py": "@pytest.mark.skipif(True, reason='only root can')\ndef test_it(): ...",
    "test_expected.py": "@pytest.mark.xfail(reason='a known fault')\ndef test_it(): assert False",
}
MAY_PASS = {"test_allowed.py", "test_expected.py"}


def failed_files(folder: Path, ci: str) -> set[str]:
    """Run test files of this code with our hooks, far from our configuration."""
    for name, code in FILES.items():
        (folder / name).write_text(f"import pytest\n{code}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "--continue-on-collection-errors", "-rfE", folder],
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "CI": ci},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    assert done.returncode == (1 if lines else 0)
    assert ("In CI this must run" in done.stdout) is bool(lines)
    return {name for name in FILES if any(name in line for line in lines)}


def test_in_ci_a_skip_fails_wherever_it_is_said(tmp_path: Path) -> None:
    assert failed_files(tmp_path, ci="true") == FILES.keys() - MAY_PASS


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    assert failed_files(tmp_path, ci="") == set()
