"""Jobs: done once however often they are delivered, taken over when a worker dies, cleaned up when they fail.

Real PostgreSQL, store, embedder and files. Faults are laid down where they happen in life: in the parser's
process, in the store's connection, in a worker that stops between two steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
import pytest_asyncio
from kombu import Consumer, Queue
from lab import MAX_ATTEMPTS, NEW, OLD, Lab, failing, move, new_kb, once, place

from core.db import jobs, kbs
from core.db.models import DocumentStatus, Job, JobKind
from core.errors import DatabaseUnavailable, NotFound, StoreError, StoreUnavailable, UnreadableDocument
from core.types import IndexKind, IndexName, Record, Vector
from ingest.queue import QUEUE, Signals, make_celery
from stores.base import VectorStore
from stores.memory import MemoryStore

# --- delivered twice, taken over -----------------------------------------------------------------------------


async def test_a_job_that_is_delivered_to_two_workers_is_done_by_one(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    await asyncio.gather(*(lab.runner(f"w{n}").run(accepted.job.id) for n in range(4)))
    await lab.runner().run(accepted.job.id)  # and once more, long after
    job = await lab.job(accepted.job)
    assert (job.status, job.attempts, job.percent) == ("done", 1, 100)
    assert lab.parsed == ["leave.md"]


async def test_a_job_whose_worker_falls_silent_goes_to_another_and_the_first_changes_nothing_more(
    lab: Lab,
) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    second_is_done = asyncio.Event()
    it_waits = asyncio.Event()

    async def fall_silent() -> None:
        it_waits.set()
        await second_is_done.wait()

    lab.store.before_summaries = once(fall_silent)  # the last step before readers would see it
    first = asyncio.create_task(lab.runner("first").run(accepted.job.id))
    await it_waits.wait()
    await lab.runner("second").run(accepted.job.id)
    assert (await lab.job(accepted.job)).lease_owner == "first"  # its lease still holds
    await lab.expire_lease()
    await lab.runner("second").run(accepted.job.id)
    await lab.upload(NEW)
    await lab.run_all()
    second_is_done.set()
    await first
    job = await lab.job(accepted.job)
    assert (job.status, job.attempts) == ("done", 2)
    assert await lab.texts() == [NEW.strip()]
    [document] = await lab.documents()
    assert (document.status, document.sha256) == ("ready", document.live_sha256)


async def test_a_worker_that_stops_in_order_gives_its_job_back_as_if_it_had_not_tried(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    began = asyncio.Event()

    async def wait_for_ever() -> None:
        began.set()
        await asyncio.Event().wait()

    lab.before_parsing = once(wait_for_ever)
    runner = lab.runner()
    running = asyncio.create_task(runner.run(accepted.job.id))
    await began.wait()
    await runner.stop()
    await running
    job = await lab.job(accepted.job)
    assert (job.status, job.attempts, job.lease_owner) == ("queued", 0, None)
    await lab.run_all()
    assert await lab.texts() == [OLD.strip()]


async def test_a_lease_is_kept_while_the_work_goes_on(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    runner = lab.runner()
    runner._lease = timedelta(seconds=2)
    lab.before_parsing = once(partial(asyncio.sleep, 3))  # type: ignore[arg-type]
    await asyncio.gather(runner.run(accepted.job.id), _try_again_and_again(lab, accepted.job.id))
    job = await lab.job(accepted.job)
    assert (job.status, job.attempts) == ("done", 1)


async def _try_again_and_again(lab: Lab, job_id: str) -> None:
    other = lab.runner("other")
    for _ in range(30):
        await asyncio.sleep(0.1)
        await other.run(job_id)


# --- failures ------------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_for_a_while_costs_no_attempt(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    away = StoreUnavailable("The store does not answer.", retry_after_s=60)
    lab.store.before_summaries = once(failing(away))
    assert accepted.job is not None
    await lab.runner().run(accepted.job.id)
    waiting = await lab.job(accepted.job)
    assert (waiting.status, waiting.attempts) == ("queued", 0)
    assert waiting.error is not None
    assert waiting.error["code"] == "store-unavailable"
    assert waiting.run_after - datetime.now(UTC) > timedelta(seconds=50)
    await lab.runner().run(accepted.job.id)
    assert (await lab.job(accepted.job)).status == "queued"  # not due yet
    await lab.run_all()
    job = await lab.job(accepted.job)
    assert (job.status, job.attempts, job.error) == ("done", 1, None)
    assert await lab.texts() == [OLD.strip()]


async def test_the_other_jobs_of_a_knowledge_base_wait_for_its_store_too_and_say_so(lab: Lab) -> None:
    accepted = [await lab.upload(OLD), await lab.upload(NEW, "new.md")]
    lab.store.before_summaries = once(failing(StoreUnavailable("It is away.", retry_after_s=60)))
    first, second = (each.job for each in accepted)
    assert first is not None
    await lab.runner().run(first.id)
    waiting = await lab.job(second)
    assert waiting.status == "queued"
    assert waiting.error is not None
    assert waiting.error["message"] == "It is away."
    assert waiting.run_after - datetime.now(UTC) > timedelta(seconds=50)
    await lab.run_all()
    assert {(await lab.job(each)).status for each in (first, second)} == {"done"}


async def test_a_job_whose_database_goes_away_as_well_says_why_it_waits_when_it_is_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    lab.store.before_summaries = once(failing(StoreUnavailable("It is away.", retry_after_s=60)))
    retry_later, away = jobs.retry_later, [DatabaseUnavailable(retry_after_s=0.01) for _ in range(3)]

    async def retry_when_it_is_back(*arguments: Any, **options: Any) -> None:
        if away:
            raise away.pop()
        await retry_later(*arguments, **options)

    monkeypatch.setattr(jobs, "retry_later", retry_when_it_is_back)
    await lab.runner().run(accepted.job.id)
    waiting = await lab.job(accepted.job)
    assert (waiting.status, waiting.attempts, away) == ("queued", 0, [])
    assert waiting.error is not None
    assert waiting.error["message"] == "It is away."


async def test_what_breaks_unexpectedly_is_tried_again_after_growing_pauses(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    lab.store.before_summaries = once(failing(RuntimeError("secret detail")))
    assert accepted.job is not None
    await lab.runner().run(accepted.job.id)
    waiting = await lab.job(accepted.job)
    assert (waiting.status, waiting.attempts) == ("queued", 1)
    assert timedelta(0) < waiting.run_after - datetime.now(UTC) <= timedelta(seconds=2)
    assert "secret detail" not in str(waiting.error)
    await lab.run_all()
    assert (await lab.job(accepted.job)).attempts == 2
    assert await lab.texts() == [OLD.strip()]


async def test_a_document_that_always_breaks_fails_with_a_reason_and_leaves_its_file(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    lab.store.before_summaries = failing(RuntimeError("always"))  # after the chunks were written
    await lab.run_all()
    job = await lab.job(accepted.job)
    assert (job.status, job.attempts) == ("failed", MAX_ATTEMPTS)
    assert job.error == {
        "code": "internal",
        "message": "Reading it broke: RuntimeError.",
        "hint": "The worker's log has the details.",
    }
    assert await lab.documents() == []
    assert await lab.count() == 0
    assert lab.stored() == [OLD]


async def test_a_document_that_kills_its_workers_fails_after_the_last_attempt(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    for n in range(MAX_ATTEMPTS):
        async with lab.database.transaction() as session:
            claimed = await jobs.claim(
                session, accepted.job.id, owner=f"dead {n}", lease=timedelta(seconds=30)
            )
        assert claimed is not None
        await lab.expire_lease()
    await lab.run_all()
    job = await lab.job(accepted.job)
    assert job.status == "failed"
    assert job.error is not None
    assert f"stopped {MAX_ATTEMPTS} times" in job.error["message"]
    assert lab.parsed == []
    assert await lab.documents() == []
    assert lab.stored() == [OLD]


async def test_a_failed_update_leaves_readers_the_version_before(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    before = await lab.count()
    update = await lab.upload(" \n\n ")
    await lab.run_all()
    job = await lab.job(update.job)
    assert job.status == "failed"
    assert job.error is not None
    assert "There is no text" in job.error["message"]
    [document] = await lab.documents()
    assert (document.status, document.sha256) == ("ready", document.live_sha256)
    assert await lab.texts() == [OLD.strip()]
    assert await lab.count() == before
    assert sorted(lab.stored()) == sorted([OLD, " \n\n "])


async def test_an_unreadable_document_is_not_tried_twice(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    lab.before_parsing = failing(UnreadableDocument("leave.md is damaged."))
    await lab.run_all()
    job = await lab.job(accepted.job)
    assert (job.status, job.attempts) == ("failed", 1)
    assert lab.parsed == ["leave.md"]


@pytest.mark.parametrize("place", ["before_delete", "before_summaries"])
async def test_an_update_that_is_killed_half_way_leaves_no_trace_of_the_old_version(
    lab: Lab, place: str
) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    setattr(lab.store, place, once(failing(RuntimeError("killed"))))
    await lab.upload(NEW)
    await lab.run_all()
    assert await lab.texts() == [NEW.strip()]
    assert await lab.count() == 2  # a chunk and a summary
    assert lab.stored() == [NEW]
    assert (
        len(
            await lab.sql(
                "SELECT 1 FROM document_texts t JOIN documents d ON d.id = t.document_id WHERE d.kb_id = :kb",
                kb=lab.kb_id,
            )
        )
        == 1
    )


# --- uploads and deletions that cross each other -------------------------------------------------------------


async def test_ten_equal_uploads_at_once_make_one_document_and_one_job(lab: Lab) -> None:
    accepted = await asyncio.gather(*(lab.upload(OLD) for _ in range(10)))
    assert len({a.document_id for a in accepted}) == 1
    assert len({a.job.id for a in accepted if a.job}) == 1
    await lab.run_all()
    assert len(await lab.sql("SELECT 1 FROM jobs WHERE kb_id = :kb", kb=lab.kb_id)) == 1
    assert await lab.count() == 2
    assert lab.stored() == [OLD]
    assert (await lab.upload(OLD)).job is None


async def test_ten_different_uploads_at_once_of_one_name_end_with_one_of_them(lab: Lab) -> None:
    versions = [OLD.replace("16", str(n)) for n in range(10)]
    await asyncio.gather(*(lab.upload(version) for version in versions))
    await lab.run_all()
    [document] = await lab.documents()
    assert document.status == "ready"
    [stored] = lab.stored()
    assert stored in versions
    assert await lab.texts() == [stored.strip()]
    assert await lab.count() == 2


async def test_a_document_that_is_deleted_while_it_is_read_never_appears(lab: Lab) -> None:
    accepted = await lab.upload(OLD)

    async def delete() -> None:
        await lab.intake.delete(lab.kb_id, accepted.document_id)

    lab.store.before_summaries = once(delete)
    assert accepted.job is not None
    await lab.runner().run(accepted.job.id)
    assert await lab.texts() == []
    await lab.expire_lease()
    await lab.run_all()
    assert await lab.documents() == []
    assert await lab.count() == 0
    assert lab.stored() == []


async def test_a_new_version_that_arrives_while_the_old_one_is_read_wins(lab: Lab) -> None:
    first = await lab.upload(OLD)

    async def update() -> None:
        await lab.upload(NEW)

    lab.before_parsing = once(update)
    await lab.run_all()
    assert (await lab.job(first.job)).status in ("done", "cancelled")
    [document] = await lab.documents()
    assert (document.status, document.sha256) == ("ready", document.live_sha256)
    assert await lab.texts() == [NEW.strip()]
    assert await lab.count() == 2
    assert lab.stored() == [NEW]


async def test_a_document_that_is_uploaded_again_while_it_is_deleted_is_there_in_the_end(lab: Lab) -> None:
    first = await lab.upload(OLD)
    await lab.run_all()
    await lab.intake.delete(lab.kb_id, first.document_id)

    async def upload() -> None:
        await lab.upload(OLD)

    lab.store.before_delete = once(upload)
    await lab.run_all()
    assert [d.status for d in await lab.documents()] == [DocumentStatus.READY]
    assert await lab.texts() == [OLD.strip()]
    assert await lab.count() == 2
    assert lab.stored() == [OLD]


async def test_a_document_that_comes_back_after_a_deletion_is_not_taken_for_read(lab: Lab) -> None:
    first = await lab.upload(OLD)
    await lab.run_all()
    await lab.intake.delete(lab.kb_id, first.document_id)
    again, third = await lab.upload(OLD), await lab.upload(OLD)
    assert again.job is not None
    assert third.job is not None
    assert third.job.id == again.job.id
    lab.before_parsing = failing(UnreadableDocument("leave.md is damaged."))
    await lab.run_all()
    assert await lab.documents() == []  # and it does not stay as one that is ready but cannot be found
    assert await lab.count() == 0
    assert lab.stored() == [OLD]  # for another try


async def test_a_deletion_that_is_killed_half_way_is_finished_by_the_next_worker(lab: Lab) -> None:
    first = await lab.upload(OLD)
    await lab.run_all()
    job = await lab.intake.delete(lab.kb_id, first.document_id)
    lab.store.before_delete = once(failing(RuntimeError("killed")))
    await lab.run_all()
    assert (await lab.job(job)).attempts == 2
    assert await lab.documents() == []
    assert await lab.count() == 0
    assert lab.stored() == []


async def test_a_deleted_knowledge_base_leaves_only_what_others_share_with_it(lab: Lab) -> None:
    other = await new_kb(lab)
    await lab.upload(OLD)
    await lab.upload(NEW, "new.md")
    await lab.upload(OLD, kb_id=other)
    await lab.run_all()
    await lab.upload("Never read.\n", "waiting.md")
    async with lab.database.transaction() as session:
        kb = await kbs.by_name(session, lab.kb_id, lock=True)
        kb.deleted_at = datetime.now(UTC)
        job = await lab.intake.delete_kb(session, kb)
    assert job.kind == JobKind.DELETE_KB
    await lab.run_all()
    assert (await lab.job(job)).status == "done"
    assert await lab.documents() == []
    assert await lab.sql("SELECT 1 FROM pg_tables WHERE tablename LIKE :name", name=f"%{lab.kb_id}%") == []
    assert lab.stored() == [OLD]  # the other one has it too


# --- signals -------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def signals(lab: Lab) -> AsyncIterator[Signals]:
    celery = make_celery(database_url=lab.url, broker_url=None)
    signals = Signals(celery, lab.database)
    yield signals
    await asyncio.to_thread(signals.close)


async def messages(lab: Lab) -> int:
    [(count,)] = await lab.sql("SELECT count(*) FROM pgmq.q_rag_jobs")
    return int(count)


async def take(lab: Lab, job: Job | None, owner: str) -> None:
    """A worker of this name begins with the job."""
    assert job is not None
    async with lab.database.transaction() as session:
        assert await jobs.claim(session, job.id, owner=owner, lease=timedelta(seconds=30))


async def test_a_new_job_is_signalled_once(lab: Lab, signals: Signals) -> None:
    await lab.upload(OLD)
    assert await signals.sweep() == 1
    assert await signals.sweep() == 0
    assert await messages(lab) >= 1


def take_two_and_lose_the_database_between(url: str) -> list[str]:
    """The jobs that a worker is told of that takes one message at a time and cannot acknowledge the first one."""
    taken: list[Any] = []
    with make_celery(database_url=url, broker_url=None).connection_for_read() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        with Consumer(channel, Queue(QUEUE), callbacks=[lambda _, message: taken.append(message)]):
            connection.drain_events(timeout=10)
            with psycopg.connect(url, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            with pytest.raises(psycopg.OperationalError):
                taken[0].ack()
            connection.drain_events(timeout=10)
    return [message.payload[0][0] for message in taken]


async def test_a_worker_that_cannot_acknowledge_a_signal_gets_the_next_one(
    lab: Lab, signals: Signals
) -> None:
    await lab.upload(OLD)
    await lab.upload(NEW, "new.md")
    assert await signals.sweep() >= 2
    taken = await asyncio.to_thread(take_two_and_lose_the_database_between, lab.url)
    assert len(set(taken)) == 2


async def test_a_signal_that_was_lost_is_sent_again(lab: Lab, signals: Signals) -> None:
    await lab.upload(OLD)
    await signals.sweep()
    before = await messages(lab)
    await lab.sql("UPDATE jobs SET signalled_at = now() - interval '11 seconds'")
    assert await signals.sweep() == 1
    assert await messages(lab) == before + 1


async def test_a_job_whose_worker_died_is_signalled_again(lab: Lab, signals: Signals) -> None:
    accepted = await lab.upload(OLD)
    await signals.sweep()
    await take(lab, accepted.job, "dead")
    assert await signals.sweep() == 0
    await lab.sql(
        "UPDATE jobs SET signalled_at = now() - interval '9 seconds', lease_until = now() - interval '1 second'"
    )
    assert await signals.sweep() == 1


async def test_waiting_jobs_are_not_signalled_again_while_somebody_works(lab: Lab, signals: Signals) -> None:
    first = await lab.upload(OLD)
    await lab.upload(NEW, "new.md")
    await signals.sweep()
    await take(lab, first.job, "busy")
    await lab.sql("UPDATE jobs SET signalled_at = now() - interval '1 hour' WHERE status = 'queued'")
    assert await signals.sweep() == 0


async def test_a_waiting_job_is_due_although_the_clock_went_back_a_day(lab: Lab, signals: Signals) -> None:
    await lab.upload(OLD)
    await signals.sweep()
    await lab.sql(
        "UPDATE jobs SET created_at = created_at + interval '1 day', run_after = run_after + interval '1 day', "
        "signalled_at = signalled_at + interval '1 day'"
    )
    assert await signals.sweep() == 1
    assert await signals.sweep() == 0


async def test_a_dead_workers_job_is_free_a_minute_after_the_clock_went_back(
    lab: Lab, signals: Signals
) -> None:
    accepted = await lab.upload(OLD)
    await signals.sweep()
    await take(lab, accepted.job, "dead")
    await lab.sql("UPDATE jobs SET lease_until = lease_until + interval '1 day'")
    assert await signals.sweep() == 0
    [(left,)] = await lab.sql("SELECT lease_until - now() FROM jobs")
    assert timedelta(seconds=50) < left <= timedelta(minutes=1)
    await lab.expire_lease()
    assert await signals.sweep() == 1


async def test_a_working_worker_keeps_its_job_when_the_clock_goes_back(lab: Lab, signals: Signals) -> None:
    accepted = await lab.upload(OLD)
    job = accepted.job
    assert job is not None
    await take(lab, job, "busy")
    await lab.sql("UPDATE jobs SET lease_until = lease_until + interval '1 day'")
    await signals.sweep()
    async with lab.database.transaction() as session:
        await jobs.extend(session, job.id, owner="busy", lease=timedelta(seconds=30))
        await jobs.hold(session, job.id, owner="busy")


# --- moves ---------------------------------------------------------------------------------------------------


async def contents(store: VectorStore, kb_id: str) -> list[tuple[Record, list[float]]]:
    indexes = [IndexName(kb_id, 1, kind) for kind in IndexKind]
    return [(r, np.round(v, 4).tolist()) for index in indexes for r, v in await store.scan(index)]


async def test_a_move_copies_every_record_with_its_vector_and_switches(lab: Lab) -> None:
    for number in range(3):
        await lab.upload(f"Fact {number}: leave is {number} weeks.\n", f"{number}.md")
    await lab.run_all()
    job = await move(lab, "memory")
    await lab.run_all()
    done = await lab.job(job)
    assert (done.status, done.done, done.total, done.percent) == ("done", 6, 6, 100)
    assert await place(lab) == ("memory", ["pgvector"])
    assert await contents(lab.other, lab.kb_id) == await contents(lab.store, lab.kb_id)
    assert len(await contents(lab.other, lab.kb_id)) == 6


async def test_after_a_move_new_documents_go_to_the_new_store_only(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    await move(lab, "memory")
    await lab.run_all()
    accepted = await lab.upload(NEW, "new.md")
    await lab.run_all()
    assert accepted.document_id in {r.document_id for r, _ in await contents(lab.other, lab.kb_id)}
    assert accepted.document_id not in {r.document_id for r, _ in await contents(lab.store, lab.kb_id)}


async def test_a_move_that_is_stopped_half_way_goes_on_where_it_was(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.move.BATCH", 1)
    for number in range(3):
        await lab.upload(f"Fact {number}: leave is {number} weeks.\n", f"{number}.md")
    await lab.run_all()
    job = await move(lab, "memory")
    written = 0

    async def stop_at_the_third() -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise StoreUnavailable("The server is away.")

    lab.other.before_upsert = stop_at_the_third
    await lab.runner().run(job.id)
    assert (await lab.job(job)).status == "queued"
    assert await place(lab) == ("pgvector", [])
    await lab.run_all()
    assert written == 7  # six records, and the one that failed again
    assert await place(lab) == ("memory", ["pgvector"])
    assert await contents(lab.other, lab.kb_id) == await contents(lab.store, lab.kb_id)


async def test_a_copy_that_differs_is_not_switched_to(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.upload(OLD)
    await lab.run_all()

    async def damaged(index: IndexName, *, after: str = "", limit: int = 500) -> list[tuple[Record, Vector]]:
        found = await MemoryStore.scan(lab.other, index, after=after, limit=limit)
        return [(replace(record, text="something else"), vector) for record, vector in found]

    monkeypatch.setattr(lab.other, "scan", damaged)
    job = await move(lab, "memory")
    await lab.run_all()
    failed = await lab.job(job)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "differs at record" in failed.error["message"]
    assert await place(lab) == ("pgvector", [])


async def test_documents_that_came_while_a_move_waited_are_in_the_copy(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.move.BATCH", 1)
    await lab.upload(OLD)
    await lab.run_all()
    job = await move(lab, "memory")
    written: list[int] = []

    async def stop_at_the_second() -> None:
        written.append(1)
        if len(written) == 2:
            raise StoreUnavailable("The server is away.")

    lab.other.before_upsert = stop_at_the_second
    await lab.runner().run(job.id)
    for number in range(4):  # before and behind the place that the copy has come to
        late = await lab.upload(f"Fact {number}.\n", f"{number}.md")
        assert late.job is not None
        await lab.runner().run(late.job.id)
    await lab.run_all()
    assert (await lab.job(job)).status == "done"
    assert await contents(lab.other, lab.kb_id) == await contents(lab.store, lab.kb_id)
    assert len(await contents(lab.other, lab.kb_id)) == 10


async def test_a_move_whose_workers_are_killed_again_and_again_is_not_given_up(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    job = await move(lab, "memory")
    for number in range(MAX_ATTEMPTS + 2):
        async with lab.database.transaction() as session:
            assert await jobs.claim(session, job.id, owner=f"dead {number}", lease=timedelta(seconds=30))
        await lab.expire_lease()
    await lab.run_all()
    assert (await lab.job(job)).status == "done"
    assert await place(lab) == ("memory", ["pgvector"])


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
async def test_the_incomplete_copy_of_a_move_that_does_not_end_is_removed(lab: Lab, end: str) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    job = await move(lab, "memory")
    error = StoreError("It is full.") if end == "fails" else StoreUnavailable("It is away.")
    lab.other.before_upsert = failing(error)
    await lab.runner().run(job.id)
    if end == "is cancelled":
        assert await lab.other.count(IndexName(lab.kb_id, 1, IndexKind.CHUNKS)) == 0
        await delete_kb(lab)
    else:
        assert (await lab.job(job)).status == "failed"
    for kind in IndexKind:
        with pytest.raises(NotFound):
            await lab.other.count(IndexName(lab.kb_id, 1, kind))


async def delete_kb(lab: Lab) -> None:
    async with lab.database.transaction() as session:
        kb = await kbs.by_name(session, lab.kb_id, lock=True)
        kb.deleted_at = datetime.now(UTC)
        await lab.intake.delete_kb(session, kb)
    await lab.run_all()


async def test_ingestion_waits_for_a_move(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    job = await move(lab, "memory")
    late = await lab.upload(NEW, "new.md")
    assert late.job is not None

    async def ingest() -> None:
        await lab.runner("other").run(late.job.id if late.job else "")

    await lab.sql('UPDATE jobs SET error = \'{"message": "It is away."}\' WHERE id = :id', id=late.job.id)
    lab.other.before_upsert = once(ingest)
    await lab.runner().run(job.id)
    waiting = await lab.job(late.job)
    assert (waiting.attempts, waiting.error) == (0, None)  # the store that was left is no longer waited for
    await lab.run_all()
    assert late.document_id in {r.document_id for r, _ in await contents(lab.other, lab.kb_id)}


async def test_the_old_copy_goes_when_told_to_and_with_the_knowledge_base(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.run_all()
    await move(lab, "memory")
    await lab.run_all()
    async with lab.database.transaction() as session:
        kb = await kbs.by_name(session, lab.kb_id, lock=True)
        with pytest.raises(NotFound, match="no copy in redis") as refused:
            await lab.intake.drop_copy(session, kb, "redis")
        assert refused.value.hint == "It has copies in pgvector."
        await lab.intake.drop_copy(session, kb, "pgvector")
    await lab.run_all()
    assert await place(lab) == ("memory", [])
    with pytest.raises(NotFound):
        await lab.store.count(IndexName(lab.kb_id, 1, IndexKind.CHUNKS))
    assert len(await contents(lab.other, lab.kb_id)) == 2
