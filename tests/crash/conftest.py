"""Crash tests run the service as the end-to-end tests do, and the stores' servers as the store tests do."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "e2e"), str(TESTS / "servers")]
