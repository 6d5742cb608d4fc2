"""A few of the rounds of `make test-crash`: whoever is killed when, nothing is lost, doubled or left behind.

With RabbitMQ where Debian's package is installed, and always in CI. A full disk and a clock that jumps take longer:
`make test-crash DISK=1`, `CLOCK=1`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from rabbitmq_server import PROGRAM
from rounds import Setup, rounds_of

ROUNDS, DOCUMENTS = 2, 24


def setups() -> Iterator[object]:
    yield pytest.param(Setup(), id="kills")
    if PROGRAM.exists() or os.environ.get("CI"):
        yield pytest.param(Setup(broker="rabbitmq"), id="RabbitMQ")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("setup", [*setups()])
def test_rounds_of_kills_lose_double_and_leave_nothing(setup: Setup) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it when the test fails)
    with rounds_of(setup, rounds=ROUNDS, documents=DOCUMENTS, seed=seed) as rounds:
        outcome = rounds.run(store="pgvector")
    assert outcome.is_clean, (str(outcome), rounds.victims)
    assert outcome.acknowledged >= DOCUMENTS
