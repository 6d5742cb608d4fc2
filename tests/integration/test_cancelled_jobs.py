"""A job that waits or runs can be called off: what it did is undone, and nothing that readers saw goes away."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lab import NEW, OLD, Lab, Step, failing, move, once, place
from running_service import Running

from core.db import jobs
from core.db.models import Job
from core.errors import Conflict, NotFound, StoreUnavailable
from core.types import IndexKind, IndexName
from ingest.intake import Accepted


def cancelling(lab: Lab, job: Job | None) -> Step:
    """Call the job off while it runs."""

    async def cancel() -> None:
        assert job is not None
        assert (await lab.intake.cancel(job.id)).cancelling

    return cancel


async def cancel_and_work(lab: Lab, accepted: Accepted) -> Job:
    await cancelling(lab, accepted.job)()
    await lab.run_all()
    return await lab.job(accepted.job)


async def test_a_document_that_waits_is_gone_with_its_file(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert (await cancel_and_work(lab, accepted)).status == "cancelled"
    assert (await lab.documents(), await lab.count(), lab.stored(), lab.parsed) == ([], 0, [], [])


async def test_a_new_version_that_waits_leaves_the_old_one(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    assert (await cancel_and_work(lab, await lab.upload(NEW))).status == "cancelled"
    [document] = await lab.documents()
    assert (document.status, document.sha256) == ("ready", document.live_sha256)
    assert (await lab.texts(), lab.stored()) == ([OLD.strip()], [OLD])


async def test_what_was_written_of_a_new_version_goes_and_the_old_one_stays(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    before = await lab.count()
    accepted = await lab.upload(NEW)
    lab.store.before_summaries = failing(RuntimeError("killed"))
    assert accepted.job is not None
    await lab.runner().run(accepted.job.id)  # the chunks of the new version are written
    assert await lab.count() > before
    assert (await cancel_and_work(lab, accepted)).status == "cancelled"
    assert (await lab.texts(), await lab.count()) == ([OLD.strip()], before)
    assert (await lab.fsck().run()).problems == 0


async def test_who_calls_off_what_is_all_but_done_is_too_late(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    lab.store.before_summaries = once(cancelling(lab, accepted.job))  # the last thing that is written
    await lab.run_all()
    assert (await lab.job(accepted.job)).status == "done"
    assert await lab.texts() == [OLD.strip()]


async def test_what_is_being_parsed_is_undone(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    lab.before_parsing = once(cancelling(lab, accepted.job))
    await lab.run_all()
    assert (await lab.job(accepted.job)).status == "cancelled"
    assert (await lab.documents(), await lab.count(), lab.stored()) == ([], 0, [])


async def test_the_successor_of_a_worker_that_died_undoes_what_it_did(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    async with lab.database.transaction() as session:
        assert await jobs.claim(session, accepted.job.id, owner="dead", lease=timedelta(seconds=30))
    await lab.intake.cancel(accepted.job.id)
    await lab.expire_lease()
    await lab.run_all()
    assert (await lab.job(accepted.job)).status == "cancelled"
    assert (await lab.documents(), lab.stored()) == ([], [])


async def test_a_job_of_a_paused_knowledge_base_is_cancelled_too(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    await lab.sql("UPDATE knowledge_bases SET paused = true WHERE id = :kb", kb=lab.kb_id)
    assert accepted.job is not None
    await lab.intake.cancel(accepted.job.id)
    await lab.runner().work()
    assert (await lab.job(accepted.job)).status == "cancelled"


async def test_a_move_to_a_store_that_does_not_come_back_can_be_called_off(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    job = await move(lab, "memory")
    lab.other.before_upsert = failing(StoreUnavailable("It is away."))
    await lab.runner().run(job.id)
    assert (await lab.job(job)).status == "queued"
    await lab.intake.cancel(job.id)
    await lab.runner().work()  # at once, not after the wait for the store
    assert (await lab.job(job)).status == "cancelled"
    assert await place(lab) == ("pgvector", [])
    assert (await move(lab, "memory")).id != job.id


async def test_a_move_that_is_copying_leaves_no_copy(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    job = await move(lab, "memory")
    lab.other.before_upsert = once(cancelling(lab, job))
    await lab.runner().run(job.id)
    assert (await lab.job(job)).status == "cancelled"
    assert await place(lab) == ("pgvector", [])
    for kind in IndexKind:
        with pytest.raises(NotFound):
            await lab.other.count(IndexName(lab.kb_id, 1, kind))
    assert await lab.texts() == [OLD.strip()]


async def test_who_asks_for_the_same_move_again_gets_the_job_that_is_under_way(lab: Lab) -> None:
    await lab.upload(OLD)
    job = await move(lab, "memory")
    assert (await move(lab, "memory")).id == job.id
    with pytest.raises(Conflict, match="being moved to memory") as refused:
        await move(lab, "redis")
    assert refused.value.hint == f"Call that off first: `rag-service jobs cancel {job.id}`."
    await lab.intake.cancel(job.id)
    with pytest.raises(Conflict):
        await move(lab, "memory")


async def test_deletions_and_what_is_over_cannot_be_cancelled(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    await lab.run_all()
    with pytest.raises(Conflict, match="done already"):
        await lab.intake.cancel(accepted.job.id)
    deletion = await lab.intake.delete(lab.kb_id, accepted.document_id)
    with pytest.raises(Conflict, match="deletion cannot be cancelled"):
        await lab.intake.cancel(deletion.id)
    with pytest.raises(NotFound):
        await lab.intake.cancel("no-such-job")


def test_a_job_is_cancelled_by_a_command(service: Running) -> None:
    service.client.post("/kbs", json={"name": "cancel"})
    service.client.post("/kbs/cancel/pause")
    answer = service.client.post("/kbs/cancel/documents", files={"file": ("leave.md", OLD)})
    job_id = answer.json()["files"][0]["job"]["id"]
    said = service.command("jobs", "cancel", job_id)
    assert (said.exit_code, said.stdout) == (0, "Cancelled.\n")
    assert service.client.get("/kbs/cancel/documents").json()["items"] == []
    again = service.client.post(f"/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["detail"]) == (409, "This job is cancelled already.")


def test_jobs_of_all_knowledge_bases_are_listed_with_their_names(service: Running) -> None:
    service.upload(service.new_kb("listed"), {"leave.md": "Parental leave is 18 weeks.\n"})
    said = service.command("jobs", "list")
    assert said.exit_code == 0
    assert [line.split()[1:4] for line in said.output.splitlines() if " listed " in line] == [
        ["listed", "ingest", "leave.md"]
    ]


def test_a_command_asks_several_knowledge_bases_at_once(service: Running) -> None:
    service.upload(service.new_kb("towers"), {"tower.md": "The tower has twelve bells.\n"})
    service.upload(service.new_kb("bridges"), {"bridge.md": "The bridge has nine arches.\n"})
    service.work()
    for question, answer in (("How many bells has the tower?", "twelve"), ("How many arches?", "nine")):
        said = service.command("ask", question, "--kb", "towers", "--kb", "bridges")
        assert (said.exit_code, answer in said.output) == (0, True), said.output
    assert "nine" in service.command("search", "arches", "--kb", "towers", "--kb", "bridges").output


def test_readers_cancel_nothing(service: Running) -> None:
    key = service.client.post("/keys", json={"name": "r", "role": "reader"}).json()["key"]
    answer = service.client.post("/jobs/any/cancel", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 403
