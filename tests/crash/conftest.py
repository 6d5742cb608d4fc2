"""Crash tests run the service as the end-to-end tests do, and the stores' servers as the store tests do."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "e2e"))
