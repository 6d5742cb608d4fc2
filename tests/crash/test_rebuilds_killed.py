"""The worker that builds another generation is killed three times, and the store's server once: what do readers see?

Meanwhile one book gets a new version and another is deleted. The moments are drawn at random; a failure prints the
seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import pytest
from books import VERSIONS, Reading, entries, is_over, search, upload, whole
from kills import kill_again_and_again
from store_servers import EVERY, KINDS, names_in
from target import Target, service_beside
from up_service import eventually

KB = "library"
BOOKS = tuple(f"volume{number:02}" for number in range(12))
STAYS, CHANGES, GOES = BOOKS[0], BOOKS[5], BOOKS[10]
OTHER_CHUNKING = {"characters": 120}  # every entry is a chunk still
LONGEST_S = 0.5  # between the beginning of an attempt and its kill

pytestmark = pytest.mark.timeout(1200)  # the first run fetches the servers


@pytest.fixture(params=KINDS if EVERY else KINDS[:1])  # minutes each
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with service_beside(request.param) as target:
        yield target


def test_a_killed_rebuild_goes_on_and_switches_when_all_is_built(target: Target) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (pytest shows it when the test fails)
    with target.service.client() as client:
        kb_id = client.post("/kbs", json={"name": KB, "store": target.kind}).json()["id"]
        finish(client, *(upload(client, KB, book, VERSIONS[0]) for book in BOOKS))
        with Reading(lambda book: search(client, KB, book), [STAYS]) as reading:
            rebuild = client.post(f"/kbs/{KB}/rebuild", json={"chunking": OTHER_CHUNKING}).json()["id"]
            change, deletion = upload(client, KB, CHANGES, VERSIONS[1]), delete(client, GOES)
            kill_again_and_again(
                target.service, target.server, client, rebuild, random.Random(seed), longest_s=LONGEST_S
            )
            finish(client, rebuild, change, deletion)
        assert reading.wrong == []
        assert reading.versions == {VERSIONS[0]}
        kb = client.get(f"/kbs/{KB}").json()
        assert (kb["generation"], kb["documents"]) == (2, len(BOOKS) - 1)
        assert kb["chunking"]["characters"] == OTHER_CHUNKING["characters"]
        assert_readers_see_the_last_of_each(client)
        assert faults(client) == []
        finish(client, client.post(f"/kbs/{KB}/rollback", json={}).json()["id"])
        assert client.get(f"/kbs/{KB}").json()["generation"] == 1
        assert_readers_see_the_last_of_each(client)
        finish(client, client.delete(f"/kbs/{KB}/generations/2").json()["id"])
        assert [name for name in names_in(target.kind, target.url) if f"{kb_id}_g2" in name] == []
        assert_readers_see_the_last_of_each(client)
        assert faults(client) == []


def finish(client: httpx.Client, *job_ids: str) -> None:
    for job_id in job_ids:
        eventually(lambda job_id=job_id: is_over(client, job_id))
        assert client.get(f"/jobs/{job_id}").json()["error"] is None


def delete(client: httpx.Client, book: str) -> str:
    [document] = [
        each
        for each in client.get(f"/kbs/{KB}/documents", params={"limit": 100}).json()["items"]
        if each["name"] == f"{book}.md"
    ]
    return str(client.delete(f"/kbs/{KB}/documents/{document['id']}").json()["id"])


def assert_readers_see_the_last_of_each(client: httpx.Client) -> None:
    assert entries(search(client, KB, STAYS)) == whole(VERSIONS[0])
    assert entries(search(client, KB, CHANGES)) == whole(VERSIONS[1])
    assert entries(search(client, KB, GOES)) == []


def faults(client: httpx.Client) -> list[object]:
    """What `fsck` finds."""
    path = f"/fsck/{client.post('/fsck', json={}).json()['id']}"
    eventually(lambda: client.get(path).json()["finished_at"] is not None)
    report = client.get(path).json()["report"]
    return [*report["findings"], *report["unchecked"]]
