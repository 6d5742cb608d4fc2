"""Where are the files of the web page?"""

from __future__ import annotations

from pathlib import Path


def static_dir() -> Path:
    """The folder with `index.html` and the files it names under `/web/`."""
    return Path(__file__).parent
