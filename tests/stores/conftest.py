"""The stores meet real servers here; the contract they keep lies with the other contracts."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "contract"))
pytest.register_assert_rewrite("store_contract", "store_agreement")
