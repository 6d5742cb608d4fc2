"""A few of the rounds of `make test-crash`: whoever is killed when, nothing is lost, doubled or left behind.

With RabbitMQ and with a clock that jumps where Debian's packages for that are installed, and always in CI.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from rabbitmq_server import PROGRAM
from rounds import FAKE_CLOCK, Setup, rounds_of

ROUNDS, DOCUMENTS = 2, 24


def setups() -> Iterator[object]:
    in_ci = bool(os.environ.get("CI"))
    yield pytest.param(Setup(), id="kills")
    if os.geteuid() == 0:  # who can mount a small file system
        yield pytest.param(Setup(disk=True), id="a full disk")
    if PROGRAM.exists() or in_ci:
        yield pytest.param(Setup(broker="rabbitmq"), id="RabbitMQ")
    if FAKE_CLOCK.exists() or in_ci:
        yield pytest.param(Setup(clock=True), id="a clock that jumps")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("setup", [*setups()])
def test_rounds_of_kills_lose_double_and_leave_nothing(setup: Setup) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it when the test fails)
    with rounds_of(setup, rounds=ROUNDS, documents=DOCUMENTS, seed=seed) as rounds:
        outcome = rounds.run(store="pgvector")
    assert outcome.is_clean, (str(outcome), rounds.victims)
    assert outcome.acknowledged >= DOCUMENTS
