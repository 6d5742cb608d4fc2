"""What do the programs have in common that take folders of data sets and measure a sample of each?"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.dataset import Dataset, load
from core.errors import RagError

T = TypeVar("T")


def run_over_folders(
    doc: str | None, measure: Callable[[Sequence[Dataset], int], Coroutine[Any, Any, None]], *, sample: int
) -> int:
    """The program: `measure` gets the data sets of the command line and how many questions of a kind to take.

    `sample`: as many unless the command line says otherwise. Returns the exit status; an error is one line.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="data sets")
    parser.add_argument(
        "--sample", type=int, default=sample, metavar="N", help=f"questions of a kind ({sample})"
    )
    arguments = parser.parse_args()
    try:
        asyncio.run(measure([load(folder) for folder in arguments.folders], arguments.sample))
    except RagError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def sampled(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, the same ones each time."""
    return random.Random(0).sample(list(items), min(most, len(items)))
