"""A few of the rounds of `make test-crash`: whoever is killed when, nothing is lost, doubled or left behind."""

from __future__ import annotations

import random

import pytest
from rounds import Setup, rounds_of

ROUNDS, DOCUMENTS = 2, 24


@pytest.mark.timeout(600)
def test_rounds_of_kills_lose_double_and_leave_nothing() -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it when the test fails)
    with rounds_of(Setup(), rounds=ROUNDS, documents=DOCUMENTS, seed=seed) as rounds:
        outcome = rounds.run(store="pgvector")
    assert outcome.is_clean, (str(outcome), rounds.victims)
    assert outcome.acknowledged >= DOCUMENTS
