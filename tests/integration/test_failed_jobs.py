"""A job that failed keeps its file: it can be tried again or dismissed. And workers take turns between uploaders."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from lab import MAX_ATTEMPTS, NEW, OLD, Lab, failing, new_kb, nothing
from running_service import Running

from core.db import jobs
from core.db.models import Job, JobKind
from core.errors import Conflict, NotFound, RagError, UnreadableDocument
from ingest.queue import Signals, make_celery

DAMAGED = UnreadableDocument("leave.md is damaged.")


async def failed(lab: Lab, text: str = OLD) -> Job:
    """The job of a document that could not be read."""
    lab.before_parsing = failing(DAMAGED)
    accepted = await lab.upload(text)
    await lab.run_all()
    lab.before_parsing = nothing
    job = await lab.job(accepted.job)
    assert job.status == "failed"
    return job


async def test_a_document_that_failed_is_read_when_its_job_is_tried_again(lab: Lab) -> None:
    job = await failed(lab)
    await lab.sql("UPDATE jobs SET detail = jsonb_set(detail, '{attributes}', '{\"a\": 1}')")
    assert await lab.documents() == []
    assert lab.stored() == [OLD]
    again = await lab.intake.retry(job.id)
    assert (again.id, again.status, again.attempts, again.error) == (job.id, "queued", 0, None)
    await lab.run_all()
    assert await lab.texts() == [OLD.strip()]
    [document] = await lab.documents()
    assert (document.name, document.attributes, document.size) == ("leave.md", {"a": 1}, len(OLD))
    assert (await lab.job(job)).status == "done"
    assert (await lab.fsck().run()).problems == 0


async def test_a_job_can_fail_again_and_be_tried_again(lab: Lab) -> None:
    job = await failed(lab)
    for _ in range(2):
        lab.store.before_summaries = failing(RuntimeError("broken"))
        await lab.intake.retry(job.id)
        await lab.run_all()
        assert (await lab.job(job)).attempts == MAX_ATTEMPTS
    lab.store.before_summaries = nothing
    await lab.intake.retry(job.id)
    await lab.run_all()
    assert await lab.texts() == [OLD.strip()]


async def test_a_failed_new_version_can_be_tried_again_while_readers_see_the_old_one(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    job = await failed(lab, NEW)
    assert sorted(lab.stored()) == sorted([OLD, NEW])
    await lab.intake.retry(job.id)
    assert await lab.texts() == [OLD.strip()]
    await lab.run_all()
    assert await lab.texts() == [NEW.strip()]
    assert lab.stored() == [NEW]


async def test_a_newer_upload_or_a_deletion_takes_the_failed_job_off_the_list_and_its_file_away(
    lab: Lab,
) -> None:
    job = await failed(lab)
    accepted = await lab.upload(NEW)
    await lab.run_all()
    assert (await lab.job(job)).status == "dismissed"
    assert lab.stored() == [NEW]
    job = await failed(lab, OLD)
    await lab.intake.delete(lab.kb_id, accepted.document_id)
    await lab.run_all()
    assert (await lab.job(job)).status == "dismissed"
    assert lab.stored() == []


async def test_a_version_that_fails_after_a_newer_one_came_is_not_tried_again(lab: Lab) -> None:
    async def newer_comes() -> None:
        lab.before_parsing = nothing
        await lab.upload(NEW)
        raise DAMAGED

    lab.before_parsing = newer_comes
    old = await lab.upload(OLD)
    await lab.run_all()
    assert (await lab.job(old.job)).status == "failed"
    assert old.job is not None
    with pytest.raises(Conflict, match="uploaded again"):
        await lab.intake.retry(old.job.id)
    assert await lab.texts() == [NEW.strip()]


async def test_a_dismissed_job_loses_its_file_but_not_one_that_others_need(lab: Lab) -> None:
    job = await failed(lab)
    other_kb = await new_kb(lab)
    await lab.upload(OLD, "same.md", other_kb)
    await lab.intake.dismiss(job.id)
    assert lab.stored() == [OLD]
    await lab.sql("DELETE FROM knowledge_bases WHERE id = :kb", kb=other_kb)
    job = await failed(lab)
    assert (await lab.intake.dismiss(job.id)).status == "dismissed"
    assert lab.stored() == []
    for act in (lab.intake.dismiss, lab.intake.retry):
        with pytest.raises(Conflict, match="dismissed"):
            await act(job.id)
        with pytest.raises(NotFound):
            await act("none")


async def test_failed_jobs_are_forgotten_when_they_are_old(lab: Lab) -> None:
    job = await failed(lab)
    day = timedelta(days=1)
    assert await lab.intake.dismiss_all(older_than=day) == 0
    await lab.sql("UPDATE jobs SET finished_at = now() - interval '25 hours'")
    assert await lab.intake.dismiss_all(older_than=day) == 1
    assert (await lab.job(job)).status == "dismissed"
    assert lab.stored() == []


async def test_all_failed_jobs_are_tried_again_and_what_cannot_be_is_told(lab: Lab) -> None:
    job = await failed(lab)
    await failed(lab, NEW)  # the first is dismissed
    lab.before_parsing = failing(DAMAGED)
    lost = await lab.upload("Lost.\n", "lost.md")
    await lab.run_all()
    lab.before_parsing = nothing
    lab.files.remove((await lab.job(lost.job)).sha256 or "")
    results = await lab.intake.retry_all(lab.kb_id)
    assert [str(result) for result in results if isinstance(result, RagError)] == [
        "The file of lost.md is gone. Upload it again."
    ]
    await lab.run_all()
    assert await lab.texts() == [NEW.strip()]
    assert (await lab.job(job)).status == "dismissed"


async def test_a_failed_move_and_a_failed_deletion_can_be_tried_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = await lab.upload(OLD)
    await lab.run_all()
    lab.other.before_upsert = failing(RagError("It refuses."))
    async with lab.database.transaction() as session:
        move = await lab.intake.move_kb(session, await lab.kb(session), "memory")
    await lab.run_all()
    lab.other.before_upsert = nothing
    assert (await lab.job(move)).status == "failed"
    await lab.intake.retry(move.id)
    await lab.run_all()
    assert (await lab.job(move)).status == "done"
    assert await lab.other.count((await lab.other.indexes())[0]) == 1

    async def refuses(*_: object, **__: object) -> int:
        raise RagError("It refuses.")

    with monkeypatch.context() as patch:
        patch.setattr(lab.other, "delete_document", refuses)
        deletion = await lab.intake.delete(lab.kb_id, accepted.document_id)
        await lab.run_all()
    assert (await lab.job(deletion)).status == "failed"
    await lab.intake.retry(deletion.id)
    await lab.run_all()
    assert await lab.documents() == []


# --- turns ---------------------------------------------------------------------------------------------------


async def upload_many(lab: Lab, uploader: str, number: int, kb_id: str | None = None) -> None:
    for n in range(number):
        incoming = await lab.receive(f"{uploader} {n} keeps the keys.\n")
        await lab.intake.accept(kb_id or lab.kb_id, f"{uploader}-{n}.md", incoming, None, uploader)


async def test_one_file_of_another_uploader_or_knowledge_base_does_not_wait_for_all_of_somebodys(
    lab: Lab,
) -> None:
    other_kb = await new_kb(lab)
    await upload_many(lab, "many", 6)
    await upload_many(lab, "few", 2)
    await upload_many(lab, "many", 1, other_kb)
    await lab.sql("UPDATE jobs SET document_name = 'elsewhere' WHERE kb_id = :kb", kb=other_kb)
    await lab.runner().work()
    order = [
        name
        for (name,) in await lab.sql(
            "SELECT document_name FROM jobs WHERE status = 'done' ORDER BY finished_at"
        )
    ]
    assert order == [
        "many-0.md",
        "few-0.md",
        "elsewhere",
        "many-1.md",
        "few-1.md",
        *(f"many-{n}.md" for n in range(2, 6)),
    ]


async def test_a_deletion_goes_before_the_documents_of_the_same_uploader(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    await lab.run_all()
    await lab.upload(NEW, "new.md")
    deletion = await lab.intake.delete(lab.kb_id, accepted.document_id)
    async with lab.database.transaction() as session:
        assert await jobs.whose_turn(session) == deletion.id


async def test_of_one_knowledge_base_no_more_documents_are_read_at_a_time_than_allowed(lab: Lab) -> None:
    reading: list[int] = [0]
    most: list[int] = []
    other_kb = await new_kb(lab)

    async def count() -> None:
        reading[0] += 1
        most.append(reading[0])
        await asyncio.sleep(0.2)
        reading[0] -= 1

    lab.before_parsing = count
    await upload_many(lab, "a", 4)
    await asyncio.gather(*(lab.runner(f"w{n}", per_kb=1).work() for n in range(3)))
    await lab.runner(per_kb=1).work()
    assert most == [1, 1, 1, 1]
    both_read = asyncio.Barrier(2)

    async def meet() -> None:
        await asyncio.wait_for(both_read.wait(), 60)

    lab.before_parsing = meet  # another knowledge base is read beside it
    await upload_many(lab, "b", 1)
    await upload_many(lab, "b", 1, other_kb)
    await asyncio.gather(*(lab.runner(f"w{n}", per_kb=1).work() for n in range(2)))
    assert await lab.sql("SELECT 1 FROM jobs WHERE status <> 'done'") == []


async def test_a_paused_knowledge_base_takes_uploads_and_deletes_but_reads_nothing(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    await lab.runner().work()
    await lab.sql("UPDATE knowledge_bases SET paused = true WHERE id = :kb", kb=lab.kb_id)
    waiting = await lab.upload(NEW, "new.md")
    await lab.intake.delete(lab.kb_id, accepted.document_id)
    await lab.runner().work()
    assert [d.name for d in await lab.documents()] == ["new.md"]
    assert waiting.job is not None
    await lab.runner().run(waiting.job.id)  # whoever asks
    assert (await lab.job(waiting.job)).status == "queued"
    await lab.sql("UPDATE knowledge_bases SET paused = false WHERE id = :kb", kb=lab.kb_id)
    await lab.run_all()
    assert await lab.texts() == [NEW.strip()]


async def test_no_signals_are_sent_for_jobs_that_may_not_begin(lab: Lab) -> None:
    signals = Signals(make_celery(database_url=lab.url, broker_url=None), lab.database)
    await lab.sql("UPDATE knowledge_bases SET paused = true WHERE id = :kb", kb=lab.kb_id)
    accepted = await lab.upload(OLD)
    assert await signals.sweep() == 0
    await lab.sql("UPDATE knowledge_bases SET paused = false WHERE id = :kb", kb=lab.kb_id)
    assert await signals.sweep() == 1
    assert (await lab.job(accepted.job)).kind == JobKind.INGEST
    signals.close()


def test_admins_list_retry_and_dismiss_failed_jobs_and_pause_knowledge_bases(service: Running) -> None:
    kb = service.new_kb("failures")
    service.upload(kb, {"empty.md": "  \n "})
    service.work()
    [job] = service.client.get("/jobs", params={"status": "failed"}).json()["items"]
    assert "There is no text" in job["error"]["message"]
    assert service.client.get(f"/kbs/{kb}/jobs", params={"status": "failed"}).json()["items"] == [job]
    assert service.client.post(f"/kbs/{kb}/pause").json()["paused"] is True
    assert service.client.post(f"/jobs/{job['id']}/retry").json()["status"] == "queued"
    assert service.client.get(f"/kbs/{kb}").json()["paused"] is True
    assert service.client.post(f"/kbs/{kb}/resume").json()["paused"] is False
    service.work()
    assert service.client.post("/jobs/retry", json={"kb": kb}).json() == {"jobs": 1, "refused": []}
    service.work()
    assert service.client.post("/jobs/dismiss", json={}).json() == {"jobs": 1}
    assert service.client.post(f"/jobs/{job['id']}/dismiss").status_code == 409
    reader = service.client.post("/keys", json={"name": "reader"}).json()["key"]
    with service.as_(reader) as client:
        for path in (f"/jobs/{job['id']}/retry", f"/jobs/{job['id']}/dismiss", f"/kbs/{kb}/pause"):
            assert client.post(path).status_code == 403
