"""Failing assertions of the contract show their values, as those of test files do."""

import pytest

pytest.register_assert_rewrite("store_contract", "store_properties", "store_agreement")
