"""A knowledge base gets another generation beside the one that readers see, switches to it, and can go back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from lab import NEW, OLD, Lab, failing, nothing, once
from numpy.typing import NDArray

from core.db import generations, jobs, kbs
from core.db.generations import Generation
from core.db.models import Job, KnowledgeBase
from core.errors import Conflict, NotFound, StoreUnavailable, UnreadableDocument
from core.types import IndexKind, IndexName, Query
from ingest.chunkers.base import Chunking
from models.embedders.base import Embedder
from models.embedders.bundled import BundledEmbedder
from retrievers.base import Mode, Scope
from retrievers.documents import StoredDocuments
from retrievers.two_stage import TwoStageRetriever

SMALL = Chunking(characters=50).model_dump(mode="json")
LONG = "".join(f"Rule {n}: employees report to room {n} on day {n} of the month.\n\n" for n in range(12))
QUESTION = "How long is parental leave?"


class FirstNumbers:
    """The real embedder under another name, of whose vectors the first 128 numbers are kept."""

    name = "first-128-numbers"

    def __init__(self, inner: BundledEmbedder) -> None:
        self._inner = inner
        self.max_tokens = inner.max_tokens

    async def dimension(self) -> int:
        return 128

    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _first(await self._inner.embed_queries(texts))

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _first(await self._inner.embed_passages(texts))

    async def close(self) -> None:
        return


def _first(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    kept = vectors[:, :128]
    return np.asarray(kept / np.linalg.norm(kept, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def short(lab: Lab) -> FirstNumbers:
    """The embedder that the service has from now on; that of the knowledge base is the old one."""
    assert isinstance(lab.embedder, BundledEmbedder)
    lab.older = (lab.embedder,)
    lab.embedder = FirstNumbers(lab.embedder)
    return lab.embedder


async def rebuild(lab: Lab, chunking: dict[str, Any] | None = None) -> Job:
    async with lab.database.transaction() as session:
        kb = await kbs.by_name(session, lab.kb_id, lock=True)
        cutting = {"chunking": chunking} if chunking else generations.seen(kb).cutting
        dim = await lab.embedder.dimension()
        return await lab.intake.rebuild_kb(session, kb, embedder=lab.embedder.name, dim=dim, cutting=cutting)


async def roll_back(lab: Lab) -> Job:
    async with lab.database.transaction() as session:
        return await lab.intake.roll_back_kb(session, await kbs.by_name(session, lab.kb_id, lock=True))


async def drop(lab: Lab) -> Job:
    async with lab.database.transaction() as session:
        kb = await kbs.by_name(session, lab.kb_id, lock=True)
        beside = generations.other(kb)
        assert beside is not None
        return await lab.intake.drop_generation(session, kb, beside.number)


async def kb_of(lab: Lab) -> KnowledgeBase:
    async with lab.database.transaction() as session:
        return await lab.kb(session)


async def other(lab: Lab) -> Generation | None:
    return generations.other(await kb_of(lab))


async def scope_of(lab: Lab) -> Scope:
    """Where a question that comes now is searched for."""
    kb = await kb_of(lab)
    embedders: list[Embedder] = [lab.embedder, *lab.older]
    [embedder] = [each for each in embedders if each.name == kb.embedder]
    return Scope(
        kb.id, kb.generation, lab.other if kb.store == "memory" else lab.store, embedder, kb_name=kb.name
    )


async def found(lab: Lab, question: str = QUESTION, scope: Scope | None = None) -> list[str]:
    """What a reader finds, best first."""
    retriever = TwoStageRetriever(documents=StoredDocuments(lab.database), chosen=20)
    query = Query(question, (question,))
    scope = scope or await scope_of(lab)
    retrieved = await retriever.retrieve(query, scope, mode=Mode.UNION, pool=40)
    return [passage.record.text for passage in retrieved.passages]


async def sound(lab: Lab) -> bool:
    """Whether rows, files and stores agree in all generations."""
    report = await lab.fsck().run()
    assert [f for f in report.findings if f.trouble != "foreign-index"] == []  # those are of other tests
    return report.busy == 0


async def indexes(lab: Lab) -> set[int]:
    """The generations of which the store has anything."""
    store = lab.other if (await kb_of(lab)).store == "memory" else lab.store
    return {index.generation for index in await store.indexes() if index.kb_id == lab.kb_id}


async def filled(lab: Lab) -> None:
    await lab.upload(OLD)
    await lab.upload(LONG, "rules.md")
    await lab.run_all()


async def done(lab: Lab, job: Job) -> None:
    await lab.run_all()
    after = await lab.job(job)
    assert (after.status, after.error) == ("done", None)


async def test_another_chunking_is_built_beside_and_then_shown(lab: Lab) -> None:
    await filled(lab)
    before = {d.name: d.chunks for d in await lab.documents()}
    await done(lab, await rebuild(lab, SMALL))
    kb = await kb_of(lab)
    assert (kb.generation, kb.settings) == (2, {"chunking": SMALL})
    after = {d.name: d.chunks for d in await lab.documents()}
    assert after["rules.md"] > before["rules.md"]
    assert OLD.strip() in await found(lab)
    assert await other(lab) == Generation(1, kb.embedder, kb.dim, {}, complete=True)
    assert await sound(lab)


@pytest.mark.parametrize("store", ["pgvector", "memory"])
async def test_another_embedder_of_another_dimension(lab: Lab, store: str, short: FirstNumbers) -> None:
    await lab.sql("UPDATE knowledge_bases SET store = :store", store=store)
    await filled(lab)
    assert (await found(lab))[0] == OLD.strip()  # with the old embedder
    await done(lab, await rebuild(lab))
    kb = await kb_of(lab)
    assert (kb.generation, kb.embedder, kb.dim) == (2, short.name, 128)
    assert (await found(lab))[0] == OLD.strip()
    await lab.upload(NEW)
    await lab.run_all()
    assert (await found(lab))[0] == NEW.strip()
    assert await sound(lab)
    await done(lab, await roll_back(lab))
    kb = await kb_of(lab)
    assert (kb.generation, kb.dim) == (1, 384)
    assert (await found(lab))[0] == NEW.strip()  # what changed since was read for the old embedder first
    assert await sound(lab)
    await done(lab, await drop(lab))
    assert (await other(lab), await indexes(lab)) == (None, {1})
    assert await sound(lab)


async def test_an_embedder_that_is_gone_can_be_left(lab: Lab, short: FirstNumbers) -> None:
    await filled(lab)
    lab.older = ()
    await done(lab, await rebuild(lab))
    assert (await found(lab))[0] == OLD.strip()


async def test_a_build_that_is_killed_goes_on_where_it_was(lab: Lab) -> None:
    await filled(lab)
    lab.parsed.clear()
    job = await rebuild(lab, SMALL)
    first, second = [d.name for d in sorted(await lab.documents(), key=lambda d: d.id)]

    async def die_at_the_second() -> None:
        if len(lab.parsed) == 2:
            raise asyncio.CancelledError

    lab.before_parsing = die_at_the_second
    await lab.runner("dead").run(job.id)
    assert (await lab.job(job)).lease_owner == "dead"
    assert lab.parsed == [first, second]
    lab.before_parsing = nothing
    await lab.expire_lease()
    await done(lab, job)
    assert lab.parsed == [first, second, second]
    assert (await kb_of(lab)).generation == 2
    assert await sound(lab)


async def claimed(lab: Lab, job: Job, owner: str) -> Job:
    async with lab.database.transaction() as session:
        mine = await jobs.claim(session, job.id, owner=owner, lease=timedelta(seconds=30))
    assert mine is not None
    return mine


async def test_documents_come_change_and_go_while_it_builds(lab: Lab) -> None:
    await filled(lab)
    gone = await lab.upload("Badges open the doors.", "badges.md")
    await lab.run_all()
    job = await rebuild(lab, SMALL)

    async def meanwhile() -> None:
        lab.before_parsing = nothing
        assert OLD.strip() in await found(lab)
        added = await lab.upload("Lunch is at noon.", "lunch.md")
        changed = await lab.upload(NEW)
        deletion = await lab.intake.delete(lab.kb_id, gone.document_id)
        for accepted in (added.job, changed.job, deletion):
            assert accepted is not None
            await lab.runner("another").run(accepted.id)
        assert NEW.strip() in await found(lab)
        assert (await kb_of(lab)).generation == 1

    lab.before_parsing = meanwhile
    await done(lab, job)
    assert (await kb_of(lab)).generation == 2
    assert {d.name for d in await lab.documents()} == {"leave.md", "rules.md", "lunch.md"}
    texts = await found(lab)
    assert NEW.strip() in texts
    assert not {OLD.strip(), "Badges open the doors."} & set(texts)
    assert await sound(lab)


async def test_a_build_lets_others_have_their_turn(lab: Lab) -> None:
    await filled(lab)
    job = await rebuild(lab, SMALL)
    upload = await lab.upload("Lunch is at noon.", "lunch.md")
    lab.parsed.clear()
    await lab.runner().work()
    assert lab.parsed.index("lunch.md") < 2  # before the build had read both of its documents
    assert ((await lab.job(job)).status, (await lab.job(upload.job)).status) == ("done", "done")


async def test_a_question_under_way_sees_the_generation_it_began_with(lab: Lab) -> None:
    await filled(lab)
    scope = await scope_of(lab)
    before = await found(lab, scope=scope)
    await done(lab, await rebuild(lab, SMALL))
    assert await found(lab, scope=scope) == before
    assert await found(lab) != before
    rules = (await lab.documents())[1]
    await lab.intake.delete(lab.kb_id, rules.id)
    assert await found(lab, scope=scope) == [OLD.strip()]  # what is deleted is gone at once, everywhere


async def test_readers_see_one_or_the_other_in_the_moment_of_the_switch(lab: Lab) -> None:
    await filled(lab)
    over = asyncio.Event()
    seen: list[tuple[int, int, bool]] = []

    async def read() -> None:
        while not over.is_set():
            scope = await scope_of(lab)
            texts = await found(lab, "Which room on day 7?", scope)
            seen.append((scope.generation, len(texts), any("day 7" in text for text in texts)))

    readers = [asyncio.create_task(read()) for _ in range(4)]
    await done(lab, await rebuild(lab, SMALL))
    await asyncio.sleep(0.3)
    await done(lab, await roll_back(lab))
    await asyncio.sleep(0.3)
    over.set()
    await asyncio.gather(*readers)
    assert {generation for generation, *_ in seen} == {1, 2}
    assert (
        len({(generation, number) for generation, number, _ in seen}) == 2
    )  # each whole, whenever it was asked
    assert all(answered for *_, answered in seen)


async def test_a_rollback_reads_only_what_changed(lab: Lab) -> None:
    await filled(lab)
    await done(lab, await rebuild(lab, SMALL))
    await lab.upload(NEW)
    await lab.run_all()
    lab.parsed.clear()
    await done(lab, await roll_back(lab))
    assert lab.parsed == ["leave.md"]
    kb = await kb_of(lab)
    assert (kb.generation, kb.settings) == (1, {})
    assert NEW.strip() in await found(lab)
    assert await sound(lab)
    lab.parsed.clear()
    await done(lab, await roll_back(lab))  # and forth again
    assert ((await kb_of(lab)).generation, lab.parsed) == (2, [])
    assert await sound(lab)


async def test_what_is_deleted_is_gone_from_all_generations(lab: Lab) -> None:
    await filled(lab)
    await done(lab, await rebuild(lab, SMALL))
    for document in await lab.documents():
        await lab.intake.delete(lab.kb_id, document.id)
    await lab.run_all()
    for number in (1, 2):
        for kind in IndexKind:
            assert await lab.store.count(IndexName(lab.kb_id, number, kind)) == 0
    assert (await lab.sql("SELECT * FROM document_generations"), lab.stored()) == ([], [])
    await done(lab, await roll_back(lab))
    assert await found(lab) == []


async def test_a_build_that_is_called_off_leaves_nothing(lab: Lab) -> None:
    await filled(lab)
    job = await rebuild(lab, SMALL)

    async def cancel() -> None:
        await lab.intake.cancel(job.id)

    lab.store.before_summaries = once(cancel)
    await lab.run_all()
    assert (await lab.job(job)).status == "cancelled"
    assert (await other(lab), await indexes(lab)) == (None, {1})
    assert OLD.strip() in await found(lab)
    assert await sound(lab)
    await done(lab, await rebuild(lab, SMALL))
    assert (await kb_of(lab)).generation == 3  # numbers are never used again


async def test_a_document_that_cannot_be_read_anew_is_named_and_nothing_switches(lab: Lab) -> None:
    await filled(lab)
    job = await rebuild(lab, SMALL)

    async def refuse() -> None:
        if lab.parsed[-1] == "leave.md":
            raise UnreadableDocument("It is too long.")

    lab.before_parsing = refuse
    await lab.run_all()
    failed = await lab.job(job)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["message"].startswith("1 documents cannot be read anew")
    assert "leave.md: It is too long." in failed.error["message"]
    assert (await kb_of(lab)).generation == 1
    assert await sound(lab)
    lab.before_parsing = nothing
    lab.parsed.clear()
    await lab.intake.retry(job.id)
    await done(lab, job)
    assert (lab.parsed, (await kb_of(lab)).generation) == (["leave.md"], 2)
    assert await sound(lab)


async def test_a_store_that_is_away_is_waited_for(lab: Lab) -> None:
    await filled(lab)
    job = await rebuild(lab, SMALL)
    lab.store.before_summaries = once(failing(StoreUnavailable("It is away.")))
    await lab.runner().run(job.id)
    assert (await lab.job(job)).status == "queued"
    await done(lab, job)
    assert await sound(lab)


async def test_an_error_that_may_go_away_is_tried_again_at_once(lab: Lab) -> None:
    await filled(lab)
    job = await rebuild(lab, SMALL)
    lab.store.before_summaries = once(failing(RuntimeError("once")))
    await done(lab, job)


async def reached(lab: Lab, job: Job, stage: str) -> None:
    for _ in range(1200):
        if (await lab.job(job)).stage == stage:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"The job did not come to {stage}.")


async def test_a_switch_waits_for_documents_that_are_being_read(lab: Lab) -> None:
    await filled(lab)
    upload = await lab.upload(NEW)
    assert upload.job is not None
    await claimed(lab, upload.job, "slow")
    job = await rebuild(lab, SMALL)
    build = asyncio.create_task(lab.runner().run(job.id))
    await reached(lab, job, "switching")
    waiting = await lab.upload("Lunch is at noon.", "lunch.md")
    assert waiting.job is not None
    await lab.runner("another").run(waiting.job.id)
    assert (await lab.job(waiting.job)).status == "queued"  # none begins until the switch is over
    await lab.sql("UPDATE jobs SET status = 'queued' WHERE id = :id", id=upload.job.id)
    await build
    assert (await kb_of(lab)).generation == 2
    await lab.run_all()
    assert NEW.strip() in await found(lab)
    assert await sound(lab)


async def test_a_worker_that_fell_silent_shows_nothing_of_the_generation_before(lab: Lab) -> None:
    await filled(lab)
    upload = await lab.upload(NEW)
    assert upload.job is not None

    async def switch_meanwhile() -> None:
        lab.before_parsing = nothing
        assert upload.job is not None
        await lab.sql(
            "UPDATE jobs SET status = 'queued', lease_until = NULL WHERE id = :id", id=upload.job.id
        )
        job = await rebuild(lab, SMALL)
        while (await lab.job(job)).status != "done":
            await lab.runner("another").run(job.id)
        await lab.sql("UPDATE jobs SET status = 'running' WHERE id = :id", id=upload.job.id)

    lab.before_parsing = switch_meanwhile
    await lab.runner().run(upload.job.id)
    assert (await kb_of(lab)).generation == 2
    assert OLD.strip() in await found(lab)
    await lab.run_all()
    assert NEW.strip() in await found(lab)


async def test_a_knowledge_base_is_deleted_with_all_its_generations(lab: Lab) -> None:
    await filled(lab)
    await done(lab, await rebuild(lab, SMALL))
    async with lab.database.transaction() as session:
        kb = await kbs.by_name(session, lab.kb_id, lock=True)
        await lab.intake.delete_kb(session, kb)
    await lab.sql("UPDATE knowledge_bases SET deleted_at = now()")
    await lab.run_all()
    assert (await indexes(lab), await lab.sql("SELECT * FROM document_generations")) == (set(), [])


async def test_a_build_ends_when_its_knowledge_base_is_deleted(lab: Lab) -> None:
    await filled(lab)
    job = await rebuild(lab, SMALL)

    async def delete() -> None:
        async with lab.database.transaction() as session:
            kb = await kbs.by_name(session, lab.kb_id, lock=True)
            await lab.intake.delete_kb(session, kb)
        await lab.sql("UPDATE knowledge_bases SET deleted_at = now()")

    lab.store.before_summaries = once(delete)
    await lab.run_all()
    assert (await lab.job(job)).status in ("failed", "dismissed")
    assert await indexes(lab) == set()


async def test_what_stands_in_the_way_is_said(lab: Lab) -> None:
    await filled(lab)
    with pytest.raises(Conflict, match="keeps no generation"):
        await roll_back(lab)
    job = await rebuild(lab, SMALL)
    assert (await rebuild(lab, SMALL)).id == job.id
    with pytest.raises(Conflict, match="at work"):
        await rebuild(lab)
    with pytest.raises(Conflict, match="at work"):
        await roll_back(lab)
    with pytest.raises(Conflict, match="second generation"):
        await move_to_memory(lab)
    await done(lab, job)
    with pytest.raises(Conflict, match="keeps the generation before") as refused:
        await rebuild(lab)
    assert refused.value.hint == f"Delete it: `rag-service kb drop-generation {lab.kb_id}`."
    await done(lab, await drop(lab))
    await move_to_memory(lab)
    await lab.run_all()
    with pytest.raises(Conflict, match="has a copy in pgvector"):
        await rebuild(lab)
    with pytest.raises(NotFound):
        async with lab.database.transaction() as session:
            await lab.intake.drop_generation(session, await kbs.by_name(session, lab.kb_id), 2)


async def move_to_memory(lab: Lab) -> None:
    async with lab.database.transaction() as session:
        await lab.intake.move_kb(session, await kbs.by_name(session, lab.kb_id, lock=True), "memory")


async def test_fsck_finds_and_mends_what_is_wrong_in_the_kept_generation(lab: Lab) -> None:
    await filled(lab)
    await done(lab, await rebuild(lab, SMALL))
    kept = IndexName(lab.kb_id, 1, IndexKind.CHUNKS)
    [document] = [d for d in await lab.documents() if d.name == "leave.md"]
    await lab.store.delete_document(kept, document.id)
    report = await lab.fsck(mend=True).run()
    assert [(f.trouble, f.document, f.mended) for f in report.findings if f.kb] == [
        ("missing-records", "leave.md", "deleted")
    ]
    assert await sound(lab)
    lab.parsed.clear()
    await done(lab, await roll_back(lab))
    assert lab.parsed == ["leave.md"]
    assert OLD.strip() in await found(lab)
    assert await sound(lab)
