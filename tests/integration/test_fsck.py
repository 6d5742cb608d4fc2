"""Rows, files and stores: what does not agree is found and mended, and what is being written is left alone."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from lab import NEW, OLD, Lab, failing, once
from running_service import Running
from sqlalchemy import update

from core.db import checks, jobs
from core.db.models import Check
from core.errors import StoreUnavailable
from core.types import EmbeddedRecord, IndexKind, IndexName, Record, derived_id
from ingest.checker import Checker
from ingest.fsck import Fsck, Report, Trouble

ANOTHER = "The canteen is open from 11 to 14.\n"


@pytest.fixture(autouse=True)
async def _no_index_of_other_tests(lab: Lab) -> None:
    for index in await lab.store.indexes():
        await lab.store.drop_index(index)


async def read(lab: Lab, text: str = OLD, name: str = "leave.md") -> str:
    """The id of a document that readers can find."""
    accepted = await lab.upload(text, name)
    await lab.run_all()
    return accepted.document_id


async def troubles(lab: Lab) -> list[str]:
    return sorted(finding.trouble.value for finding in (await lab.fsck().run()).findings)


async def mended(lab: Lab, *, foreign: bool = False) -> Report:
    """The report of a check that mends; what it queued is done, and the next check finds nothing."""
    report = await lab.fsck(mend=True, foreign=foreign).run()
    await lab.run_all()
    assert await troubles(lab) == []
    return report


async def plant(lab: Lab, document_id: str, revision: str = "r", position: int = 0, **index: int) -> None:
    """A record that the pipeline did not write."""
    name = IndexName(lab.kb_id, index.get("generation", 1), IndexKind.CHUNKS)
    record = Record(
        derived_id(document_id, revision, "chunk", position),
        document_id,
        revision,
        "planted",
        position=position,
    )
    dim = await lab.embedder.dimension()
    [vector] = await lab.embedder.embed_passages(["planted"])
    await lab.store.ensure_index(name, dim=dim)
    await lab.store.upsert(name, [EmbeddedRecord(record, vector, ("planted",))])


async def test_where_all_is_in_order_nothing_is_found_and_everything_was_looked_at(lab: Lab) -> None:
    await read(lab)
    await read(lab, ANOTHER, "canteen.md")
    report = await lab.fsck(mend=True).run()
    assert (report.findings, report.unchecked, report.busy, report.problems) == ([], [], 0, 0)
    assert report.checked == {"indexes": 2, "knowledge_bases": 1, "documents": 2, "records": 4, "files": 2}


async def test_records_of_a_document_that_is_gone_are_deleted(lab: Lab) -> None:
    await read(lab)
    await plant(lab, "gone", position=0)
    await plant(lab, "gone", position=1)
    assert await troubles(lab) == ["orphan-records"]
    assert await lab.count("gone") == 2  # a check that does not mend changes nothing
    report = await mended(lab)
    assert [f.what for f in report.findings] == ["pgvector has 2 records of a document that is gone."]
    assert (report.problems, report.mended) == (0, {Trouble.ORPHAN_RECORDS: 1})
    assert await lab.texts() == [OLD.strip()]


async def test_records_and_texts_of_an_old_revision_are_deleted(lab: Lab) -> None:
    document_id = await read(lab)
    await plant(lab, document_id, revision="old")
    await lab.sql("INSERT INTO document_texts VALUES (:id, 'old', 'text', NULL, '[]', '[]')", id=document_id)
    assert await troubles(lab) == ["stale-records", "stale-text"]
    await mended(lab)
    assert await lab.count() == 2
    assert await lab.texts() == [OLD.strip()]


@pytest.mark.parametrize("kind", IndexKind)
async def test_a_document_whose_records_are_lost_is_read_again(lab: Lab, kind: IndexKind) -> None:
    document_id = await read(lab)
    await read(lab, ANOTHER, "canteen.md")
    await lab.store.delete_document(IndexName(lab.kb_id, 1, kind), document_id)
    report = await mended(lab)
    assert [(f.trouble, f.document) for f in report.findings] == [(Trouble.MISSING_RECORDS, "leave.md")]
    assert f"0 of 1 {kind.value}" in report.findings[0].what
    assert await lab.count() == 4


async def test_a_lost_index_is_made_anew_from_the_originals(lab: Lab) -> None:
    await read(lab)
    await read(lab, ANOTHER, "canteen.md")
    await lab.store.drop_index(IndexName(lab.kb_id, 1, IndexKind.CHUNKS))
    assert await troubles(lab) == ["missing-records", "missing-records"]
    await mended(lab)
    assert sorted(await lab.texts()) == sorted([OLD.strip(), ANOTHER.strip()])


async def test_more_records_than_a_document_has_are_replaced(lab: Lab) -> None:
    document_id = await read(lab)
    [row] = await lab.documents()
    await plant(lab, document_id, revision=row.live_revision, position=7)
    assert await troubles(lab) == ["surplus-records"]
    await mended(lab)
    assert await lab.count() == 2


async def test_a_document_without_its_text_is_read_again(lab: Lab) -> None:
    document_id = await read(lab)
    await lab.sql("DELETE FROM document_texts WHERE document_id = :id", id=document_id)
    assert await troubles(lab) == ["missing-text"]
    await mended(lab)
    assert await lab.sql("SELECT 1 FROM document_texts WHERE document_id = :id", id=document_id) != []


async def test_a_document_read_before_summaries_were_counted_is_in_order(lab: Lab) -> None:
    await read(lab)
    await lab.sql("UPDATE documents SET summaries = NULL")
    assert await troubles(lab) == []


async def test_an_index_of_a_deleted_knowledge_base_or_in_another_store_is_dropped(lab: Lab) -> None:
    await read(lab)
    for store, generation in ((lab.other, 1), (lab.store, 9)):
        await store.ensure_index(IndexName(lab.kb_id, generation, IndexKind.CHUNKS), dim=4)
    assert await troubles(lab) == ["orphan-index", "orphan-index"]
    await mended(lab)
    assert await lab.other.indexes() == []
    assert len(await lab.store.indexes()) == 2
    await lab.sql("UPDATE knowledge_bases SET deleted_at = now() WHERE id = :kb", kb=lab.kb_id)
    assert await troubles(lab) == ["orphan-index", "orphan-index", "stuck"]
    await lab.fsck(mend=True).run()
    await lab.run_all()
    assert await lab.store.indexes() == []
    assert await lab.documents() == []


async def test_the_copy_of_a_move_is_no_orphan(lab: Lab) -> None:
    await read(lab)
    await lab.other.ensure_index(IndexName(lab.kb_id, 1, IndexKind.CHUNKS), dim=4)
    await lab.sql("UPDATE knowledge_bases SET copies = '{memory}' WHERE id = :kb", kb=lab.kb_id)
    assert await troubles(lab) == []


async def test_an_index_that_may_be_another_services_goes_only_when_that_is_said(lab: Lab) -> None:
    foreign = IndexName("elsewhere", 1, IndexKind.CHUNKS)
    await lab.store.ensure_index(foreign, dim=4)
    report = await lab.fsck(mend=True).run()
    assert (report.found, report.problems) == ({Trouble.FOREIGN_INDEX: 1}, 0)
    assert await lab.store.indexes() == [foreign]
    await mended(lab, foreign=True)
    assert await lab.store.indexes() == []


async def test_files_that_no_document_has_are_removed(lab: Lab, tmp_path: Path) -> None:
    await read(lab)
    orphan = lab.files.path("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_text("orphan")
    broken_off, fresh = tmp_path / "incoming" / "old", tmp_path / "incoming" / "new"
    for path in (broken_off, fresh):
        path.write_text("upload")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(broken_off, (two_days_ago, two_days_ago))
    assert await troubles(lab) == ["orphan-file", "orphan-file"]
    await mended(lab)
    assert lab.stored() == [OLD, "upload"]
    assert fresh.exists()


async def test_a_lost_original_is_told_and_nothing_is_deleted(lab: Lab) -> None:
    document_id = await read(lab)
    [row] = await lab.documents()
    lab.files.remove(row.sha256)
    report = await lab.fsck(mend=True).run()
    assert [(f.trouble, f.mended) for f in report.findings] == [(Trouble.MISSING_FILE, None)]
    assert report.problems == 1
    await lab.store.delete_document(IndexName(lab.kb_id, 1, IndexKind.CHUNKS), document_id)
    assert (await lab.fsck(mend=True).run()).problems == 2  # its records cannot be had again


@pytest.mark.parametrize("status", ["queued", "processing", "deleting"])
async def test_a_document_that_waits_for_a_job_that_is_not_there_gets_one(lab: Lab, status: str) -> None:
    await lab.upload(OLD)
    await lab.sql("UPDATE jobs SET status = 'cancelled' WHERE kb_id = :kb", kb=lab.kb_id)
    await lab.sql("UPDATE documents SET status = :status WHERE kb_id = :kb", status=status, kb=lab.kb_id)
    assert await troubles(lab) == ["stuck"]
    await mended(lab)
    assert await lab.texts() == ([] if status == "deleting" else [OLD.strip()])


# --- beside others -------------------------------------------------------------------------------------------


async def test_what_a_job_has_half_written_is_left_alone(lab: Lab) -> None:
    """A first version, a new one, and a retry that still waits: each with chunks and no summary yet."""
    reports: list[Report] = []

    async def check() -> None:
        reports.append(await lab.fsck(mend=True).run())

    for text in (OLD, NEW):
        await lab.upload(text)
        lab.store.before_summaries = once(check)
        await lab.run_all()
    lab.store.before_summaries = once(failing(RuntimeError("broken")))
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    await lab.runner().run(accepted.job.id)
    await check()
    assert [report.findings for report in reports] == [[], [], []]
    assert all(report.busy for report in reports)
    await lab.run_all()
    assert await lab.texts() == [OLD.strip()]
    assert await troubles(lab) == []


async def test_a_copy_that_is_being_made_is_left_alone(lab: Lab) -> None:
    await read(lab)
    reports: list[Report] = []

    async def check() -> None:
        reports.append(await lab.fsck(mend=True).run())

    lab.other.before_upsert = once(check)
    async with lab.database.transaction() as session:
        kb = await lab.kb(session)
        await lab.intake.move_kb(session, kb, "memory")
    await lab.run_all()
    assert reports[0].findings == []
    assert reports[0].busy
    assert await troubles(lab) == []


async def test_no_job_of_a_knowledge_base_begins_while_a_document_of_it_is_looked_at(lab: Lab) -> None:
    accepted = await lab.upload(OLD)
    assert accepted.job is not None
    async with lab.database.transaction() as session:
        await jobs.lock_claims(session, lab.kb_id)
        work = asyncio.create_task(lab.runner().run(accepted.job.id))
        await asyncio.sleep(0.3)
        assert (await lab.job(accepted.job)).status == "queued"
    await work
    assert await lab.texts() == [OLD.strip()]


async def test_a_store_that_is_away_is_left_out_and_that_is_said(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await read(lab)

    async def away(*_: object, **__: object) -> int:
        raise StoreUnavailable("It is away.")

    monkeypatch.setattr(lab.store, "count", away)
    monkeypatch.setattr(lab.store, "indexes", away)
    report = await lab.fsck(mend=True).run()
    assert report.findings == []
    assert report.unchecked == [
        "Indexes in pgvector: It is away.",
        f"Knowledge base {lab.kb_id}: It is away.",
    ]


# --- when, and by whom ---------------------------------------------------------------------------------------


def checker(lab: Lab, *, every: timedelta | None = None) -> Checker:
    return Checker(
        database=lab.database,
        make_fsck=lambda mend, foreign: lab.fsck(mend=mend, foreign=foreign),
        owner="worker",
        every=every,
        mend=True,
    )


async def ask(lab: Lab) -> Check:
    async with lab.database.transaction() as session:
        return await checks.ask(session, mend=True, foreign=False)


async def the_check(lab: Lab, check: Check) -> Check:
    async with lab.database.transaction() as session:
        return await checks.get(session, check.id)


async def test_a_check_that_is_asked_for_is_run_once_and_reports(lab: Lab) -> None:
    await lab.sql("DELETE FROM checks")
    await plant(lab, "gone")
    check = await ask(lab)
    assert await checker(lab).run_due()
    assert not await checker(lab).run_due()
    done = await the_check(lab, check)
    assert done.status == "done"
    assert done.report is not None
    assert done.report["mended"] == {"orphan-records": 1}
    assert done.report["findings"][0]["document_id"] == "gone"


async def test_checks_come_by_themselves_at_their_interval(lab: Lab) -> None:
    await lab.sql("DELETE FROM checks")
    day = timedelta(days=1)
    assert await checker(lab, every=day).run_due()
    assert not await checker(lab, every=day).run_due()
    await lab.sql("UPDATE checks SET created_at = now() - interval '25 hours'")
    assert await checker(lab, every=day).run_due()


async def test_the_next_check_comes_although_the_clock_went_back(lab: Lab) -> None:
    await lab.sql("DELETE FROM checks")
    day = timedelta(days=1)
    assert await checker(lab, every=day).run_due()
    await lab.sql("UPDATE checks SET created_at = now() + interval '1 day'")
    assert await checker(lab, every=day).run_due()


async def test_a_dead_workers_check_goes_to_another_although_the_clock_went_back(lab: Lab) -> None:
    await lab.sql("DELETE FROM checks")
    await ask(lab)
    async with lab.database.transaction() as session:
        assert await checks.take(session, owner="dead", lease=timedelta(seconds=60))
    await lab.sql("UPDATE checks SET lease_until = lease_until + interval '1 day'")
    assert await checker(lab).run_due()


async def test_a_check_whose_worker_dies_or_stops_goes_to_another(lab: Lab) -> None:
    await lab.sql("DELETE FROM checks")
    check = await ask(lab)
    async with lab.database.transaction() as session:
        assert await checks.take(session, owner="dead", lease=timedelta(seconds=60))
    assert not await checker(lab).run_due()
    async with lab.database.transaction() as session:
        await session.execute(update(Check).values(lease_until=Check.created_at))
    assert await checker(lab).run_due()
    assert (await the_check(lab, check)).status == "done"
    check = await ask(lab)
    async with lab.database.transaction() as session:
        assert await checks.take(session, owner="worker", lease=timedelta(seconds=60))
    await checker(lab).stop()
    assert (await the_check(lab, check)).status == "queued"
    assert await checker(lab).run_due()


async def test_a_check_that_breaks_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.sql("DELETE FROM checks")
    check = await ask(lab)

    async def broken(_: Fsck) -> Report:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Fsck, "run", broken)
    await checker(lab).run_due()
    failed = await the_check(lab, check)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "secret" not in str(failed.error)


def test_admins_ask_for_a_check_and_read_its_report(service: Running) -> None:
    asked = service.client.post("/fsck", json={"mend": True})
    assert asked.status_code == 202
    while service.loop.run(service.worker.checker.run_due()):
        pass
    check = service.client.get(f"/fsck/{asked.json()['id']}").json()
    assert (check["status"], check["mend"], check["error"]) == ("done", True, None)
    assert check["report"]["problems"] == 0
    assert "redis" in check["report"]["unchecked"][0]  # nobody answers there
    assert service.client.get("/fsck").json()[0]["id"] == check["id"]
    assert service.client.get("/fsck/none").status_code == 404
    reader = service.client.post("/keys", json={"name": "reader"}).json()["key"]
    with service.as_(reader) as client:
        assert client.get("/fsck").status_code == client.post("/fsck", json={}).status_code == 403
