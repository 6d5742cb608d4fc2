"""What happened inside a request: for every stage its time, what went in and what came out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stage:
    """One stage's line in the trace. `inputs` and `outputs` count what the stage works on (passages, tokens…)."""

    stage: str
    milliseconds: float = 0.0
    inputs: int = 0
    outputs: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Trace:
    """The stages of one request, in order, those that failed and were left out, and what the user should know."""

    stages: list[Stage] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def degrade(self, why: str) -> None:
        """Say once what was left out, and why."""
        if why not in self.degraded:
            self.degraded.append(why)

    @contextmanager
    def stage(self, name: str, *, inputs: int) -> Iterator[Stage]:
        """Times the block; the block sets `outputs` and `notes`."""
        line = Stage(name, inputs=inputs)
        self.stages.append(line)
        start = time.perf_counter()
        try:
            yield line
        finally:
            line.milliseconds = round((time.perf_counter() - start) * 1000, 2)
