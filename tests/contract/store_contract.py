"""What must every vector store do? The specification of `stores.base`, as tests.

`store_spec.StoreSpec` has these and more, and says what a store supplies. The oracle is `MemoryStore`.

All tests of a class share one open store and one index, which is emptied before each of them: making an index
takes longer than most tests, and records that were deleted are where stores go wrong.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from benchmarks.store_agreement import same_ranking
from core.errors import DimensionMismatch, InvalidValue, NotFound, StoreUnavailable, UnsupportedByStore
from core.types import EmbeddedRecord, Hit, IndexKind, IndexName, Metadata, Record, Vector
from stores.base import VectorStore
from stores.filters import (
    And,
    Contains,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    Lt,
    Lte,
    Ne,
    Not,
    Or,
)
from stores.memory import MemoryStore

DIM = 4
KB = f"test{uuid.uuid4().hex[:8]}"  # a server that is not ours keeps others, too
INDEX = IndexName(KB, 1, IndexKind.CHUNKS)
OTHER = IndexName(KB, 2, IndexKind.CHUNKS)
SUMMARIES = IndexName(KB, 1, IndexKind.SUMMARIES)
SHAPED = IndexName(KB, 3, IndexKind.CHUNKS)
AXES = np.eye(DIM, dtype=np.float32)
NASTY = "a'b\"c\\d%_*?|&!():{}[];--\n\t$1 %s"


def unit(*numbers: float) -> Vector:
    vector = np.asarray(numbers, dtype=np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def make(
    record_id: str,
    *,
    document: str = "d1",
    revision: str = "r1",
    vector: Vector | None = None,
    terms: Sequence[str] = ("common",),
    metadata: Metadata | None = None,
    **fields: Any,
) -> EmbeddedRecord:
    record = Record(
        record_id,
        document,
        revision,
        fields.pop("text", f"text of {record_id}"),
        metadata=metadata or {},
        **fields,
    )
    return EmbeddedRecord(record, AXES[0] if vector is None else vector, tuple(terms))


FULL = make(
    "full",
    text="员工每年享有 15 天年假。🎉 Ünïcode\n\tand 'quotes' \\ \"too\"",
    header="手册 › 假期",
    section="手册/假期",
    start=7,
    end=42,
    page_start=3,
    page_end=4,
    position=9,
    metadata={
        "语言": "zh",
        "emoji🙂": "🎉",
        "n": 3,
        "ratio": 0.1,
        "ok": True,
        "tags": ["a", "年假"],
        "": "",
        "none": [],
    },
    terms=("员工", "年假"),
)

# One record for each shape a field can have. In `FILTERS`, the ids that each filter must find.
SHAPES: dict[str, Metadata] = {
    "text": {"f": "b"},
    "number": {"f": 1},
    "fraction": {"f": 1.5},
    "true": {"f": True},
    "list": {"f": ["b", "c"]},
    "digit": {"f": "1"},
    "nasty": {"f": NASTY, NASTY: "x"},
    "missing": {},
    "capital": {"f": "B"},
}
EVERY = set(SHAPES)
FILTERS: list[tuple[Filter, set[str]]] = [
    (Eq("f", "b"), {"text"}),
    (Eq("f", "B"), {"capital"}),
    (Eq("f", 1), {"number"}),
    (Eq("f", 1.0), {"number"}),
    (Eq("f", 1.5), {"fraction"}),
    (Eq("f", True), {"true"}),
    (Eq("f", False), set()),
    (Eq("f", "1"), {"digit"}),
    (Eq("f", "true"), set()),
    (Eq("f", NASTY), {"nasty"}),
    (Eq(NASTY, "x"), {"nasty"}),
    (Eq("f", "%"), set()),
    (Eq("f", "*"), set()),
    (Eq("f", ""), set()),
    (Eq("absent", "x"), set()),
    (Ne("f", "b"), EVERY - {"text"}),
    (Ne("f", 1), EVERY - {"number"}),
    (Ne("f", True), EVERY - {"true"}),
    (Ne("absent", "x"), EVERY),
    (In("f", ("b", 1, True)), {"text", "number", "true"}),
    (In("f", ("x", NASTY)), {"nasty"}),
    (In("f", ()), set()),
    (Lt("f", 1.5), {"number"}),
    (Lte("f", 1.5), {"number", "fraction"}),
    (Gt("f", 1), {"fraction"}),
    (Gte("f", 1), {"number", "fraction"}),
    (Lt("f", "b"), {"digit", "nasty", "capital"}),
    (Lte("f", "b"), {"digit", "nasty", "capital", "text"}),
    (Gt("f", "a"), {"nasty", "text"}),
    (Gte("f", "b"), {"text"}),
    (Gt("f", "Z"), {"nasty", "text"}),  # by code point: capitals come before small letters
    (Gte("f", True), set()),
    (Lt("absent", 1), set()),
    (Exists("f"), EVERY - {"missing"}),
    (Exists(NASTY), {"nasty"}),
    (Exists("absent"), set()),
    (Contains("f", "b"), {"list"}),
    (Contains("f", "x"), set()),
    (Contains("absent", "b"), set()),
    (And(()), EVERY),
    (Or(()), set()),
    (Not(And(())), set()),
    (And((Exists("f"), Ne("f", "b"), Ne("f", 1))), EVERY - {"missing", "text", "number"}),
    (Or((Eq("f", "b"), Eq("f", True))), {"text", "true"}),
    (Not(Lt("f", 1.5)), EVERY - {"number"}),
    (Not(Contains("f", "b")), EVERY - {"list"}),
    (Not(Exists("f")), {"missing"}),
    (Not(Or((Eq("f", "b"), And((Gt("f", 0), Not(Eq("f", 1))))))), EVERY - {"text", "fraction"}),
    # The record's own fields. Record number i (in the order above) has position i and page i + 1, and from
    # the fifth on no page at all; documents alternate.
    (Eq("id", "text"), {"text"}),
    (In("id", ("text", "list", "none")), {"text", "list"}),
    (Eq("document_id", "even"), {"text", "fraction", "list", "nasty", "capital"}),
    (Ne("document_id", "even"), {"number", "true", "digit", "missing"}),
    (Eq("revision", "r1"), EVERY),
    (Gt("document_id", "even"), {"number", "true", "digit", "missing"}),
    (Eq("position", 3), {"true"}),
    (Eq("position", 3.0), {"true"}),
    (Eq("position", "3"), set()),
    (Eq("position", True), set()),
    (Lt("position", 1.5), {"text", "number"}),
    (Lt("position", "9"), set()),
    (Gte("position", 10**30), set()),
    (Lte("page_start", 2), {"text", "number"}),
    (Not(Lte("page_start", 2)), EVERY - {"text", "number"}),
    (Eq("page_end", 1), {"text"}),
    (Ne("page_end", 1), EVERY - {"text"}),
    (Exists("page_start"), {"text", "number", "fraction", "true"}),
    (Contains("id", "text"), set()),
    (Exists("position"), EVERY),
]
FILTER_NAMES = [f"{type(where).__name__}-{i}" for i, (where, _) in enumerate(FILTERS)]


def shaped_records() -> list[EmbeddedRecord]:
    return [
        make(
            name,
            document="odd" if i % 2 else "even",
            position=i,
            page_start=i + 1 if i < 4 else None,
            page_end=i + 1 if i < 4 else None,
            metadata=metadata,
        )
        for i, (name, metadata) in enumerate(SHAPES.items())
    ]


def ids(found: Sequence[Hit] | Sequence[Record]) -> list[str]:
    return [item.record.id if isinstance(item, Hit) else item.id for item in found]


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of store, to be tested. Neither function opens what it makes."""

    new: Callable[[], VectorStore]  # on a server for tests, always the same one
    unreachable: Callable[[], VectorStore]  # its server does not answer; of a store that needs none, any
    slow: bool = (
        False  # a lookalike of a server that takes too long for 5,000 chunks, and to drop them; it goes soon
    )


async def emptied(store: VectorStore, index: IndexName, dim: int = DIM) -> IndexName:
    """The index, without records. Deleting them is faster than making it anew: in Milvus by seconds."""
    await store.ensure_index(index, dim=dim)
    while found := await store.scan(index):
        for document in {record.document_id for record, _ in found}:
            if not await store.delete_document(index, document):
                await store.drop_index(index)  # it does not do what it should; another test says so
                await store.ensure_index(index, dim=dim)
                return index
    return index


class StoreContract:
    """Inherit from `store_spec.StoreSpec`, and supply the fixture `subject`."""

    pytestmark = pytest.mark.asyncio(loop_scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Subject:
        raise NotImplementedError

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def store(cls, subject: Subject) -> AsyncIterator[VectorStore]:
        """Open; shared by the tests of the class."""
        store = subject.new()
        await store.open()
        yield store
        if not subject.slow:
            for index in (INDEX, OTHER, SUMMARIES, SHAPED):
                await store.drop_index(index)
        await store.close()

    @pytest_asyncio.fixture(loop_scope="class")
    async def index(self, store: VectorStore) -> IndexName:
        """An empty index for vectors of `DIM` numbers."""
        return await emptied(store, INDEX)

    @pytest_asyncio.fixture(loop_scope="class")
    async def absent(self, store: VectorStore) -> AsyncIterator[IndexName]:
        """An index that does not exist, and is dropped afterwards if it does."""
        name = IndexName(f"{KB}{uuid.uuid4().hex[:8]}", 1, IndexKind.CHUNKS)
        yield name
        await store.drop_index(name)

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def shaped(cls, store: VectorStore) -> IndexName:
        """An index that holds `shaped_records`; tests only read it."""
        await emptied(store, SHAPED)
        await store.upsert(SHAPED, shaped_records())
        return SHAPED

    # --- indexes

    async def test_ensuring_an_index_twice_keeps_its_records(
        self, store: VectorStore, index: IndexName
    ) -> None:
        await store.upsert(index, [make("a")])
        await store.ensure_index(index, dim=DIM)
        assert await store.count(index) == 1

    async def test_an_index_can_be_ensured_by_many_at_once(
        self, store: VectorStore, absent: IndexName
    ) -> None:
        await asyncio.gather(*(store.ping() for _ in range(9)))
        for _ in range(2):
            await asyncio.gather(*(store.ensure_index(absent, dim=DIM) for _ in range(4)))
            assert await store.count(absent) == 0
            await store.drop_index(absent)

    async def test_an_index_keeps_its_dimension(self, store: VectorStore, index: IndexName) -> None:
        with pytest.raises(DimensionMismatch):
            await store.ensure_index(index, dim=DIM + 1)
        await store.upsert(index, [make("a")])
        assert await store.count(index) == 1

    @pytest.mark.parametrize("excess", [0, 1])
    async def test_dimensions_out_of_range_are_refused(
        self, store: VectorStore, absent: IndexName, excess: int
    ) -> None:
        dim = store.capabilities.max_dimensions + 1 if excess else 0
        with pytest.raises(UnsupportedByStore):
            await store.ensure_index(absent, dim=dim)

    async def test_the_longest_declared_vector_fits(self, store: VectorStore, absent: IndexName) -> None:
        dim = min(store.capabilities.max_dimensions, 5000)
        vector = np.zeros(dim, dtype=np.float32)
        vector[-1] = 1
        await store.ensure_index(absent, dim=dim)
        await store.upsert(absent, [make("a", vector=vector)])
        assert ids(await store.search_dense(absent, vector, k=1)) == ["a"]

    async def test_a_dropped_index_is_gone_and_can_be_made_anew(
        self, store: VectorStore, absent: IndexName
    ) -> None:
        index = absent
        await store.ensure_index(index, dim=DIM)
        await store.upsert(index, [make("a")])
        await store.drop_index(index)
        with pytest.raises(NotFound):
            await store.count(index)
        await store.ensure_index(index, dim=DIM + 1)
        assert await store.count(index) == 0
        await store.upsert(index, [make("a", vector=unit(*[1] * (DIM + 1)))])
        assert await store.count(index) == 1

    async def test_an_index_dropped_by_another_process_is_not_written_into(
        self, subject: Subject, store: VectorStore, absent: IndexName
    ) -> None:
        if not store.capabilities.remote:
            return  # there are no others
        other = subject.new()
        await other.open()
        await store.ensure_index(absent, dim=DIM)
        await store.upsert(absent, [make("a")])
        await other.drop_index(absent)
        with pytest.raises(NotFound):
            await store.upsert(absent, [make("b")])
        await other.ensure_index(absent, dim=DIM + 1)
        with pytest.raises(DimensionMismatch):
            await store.upsert(absent, [make("b")])
        assert await other.count(absent) == 0
        await other.close()

    async def test_the_indexes_are_listed_as_they_come_and_go(
        self, store: VectorStore, absent: IndexName
    ) -> None:
        twin = IndexName(f"{absent.kb_id}_g1", 12, IndexKind.SUMMARIES)
        assert not {absent, twin} & set(await store.indexes())
        await store.ensure_index(absent, dim=DIM)
        await store.ensure_index(twin, dim=DIM)
        await store.upsert(absent, [make("a")])
        listed = await store.indexes()
        assert [listed.count(each) for each in (absent, twin)] == [1, 1]
        await store.drop_index(twin)
        assert set(await store.indexes()) == set(listed) - {twin}

    async def test_dropping_an_absent_index_is_fine(self, store: VectorStore, absent: IndexName) -> None:
        await store.drop_index(absent)

    async def test_every_use_of_an_absent_index_raises_not_found(
        self, store: VectorStore, absent: IndexName
    ) -> None:
        uses = [
            store.upsert(absent, [make("a")]),
            store.delete_document(absent, "d1"),
            store.get(absent, ["a"]),
            store.count(absent),
            store.count(absent, where=Eq("id", "a")),
            store.scan(absent),
            store.search_dense(absent, AXES[0], k=1),
        ]
        if store.capabilities.full_text:
            uses += [
                store.search_text(absent, ["common"], k=1),
                store.search_text(absent, [], k=1),
                store.term_stats(absent, ["common"]),
            ]
        for use in uses:
            with pytest.raises(NotFound):
                await use

    async def test_indexes_do_not_see_each_other(self, store: VectorStore) -> None:
        lookalikes = [
            INDEX,
            OTHER,
            SUMMARIES,
            IndexName(KB.capitalize(), 1, IndexKind.CHUNKS),
            IndexName(f"{KB}_g1", 1, IndexKind.CHUNKS),
            IndexName(KB + "x" * 80 + "1", 1, IndexKind.CHUNKS),
            IndexName(KB + "x" * 80 + "2", 1, IndexKind.CHUNKS),
        ]
        for name in lookalikes:
            await emptied(store, name)
        for name in lookalikes:
            await store.upsert(name, [make("a", text=str(name)), make(str(name), document="d2")])
        await store.delete_document(OTHER, "d1")
        await store.drop_index(SUMMARIES)
        for name in lookalikes:
            if name in (OTHER, SUMMARIES):
                continue
            assert await store.count(name) == 2
            assert [record.text for record in await store.get(name, ["a"])] == [str(name)]
            assert set(ids(await store.search_dense(name, AXES[0], k=9))) == {"a", str(name)}
        assert await store.count(OTHER) == 1
        for name in lookalikes:
            await store.drop_index(name)

    # --- writing

    async def test_a_record_comes_back_as_it_went_in(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [FULL])
        assert await store.get(index, ["full"]) == [FULL.record]
        assert [hit.record for hit in await store.search_dense(index, AXES[0], k=1)] == [FULL.record]
        found = (await store.get(index, ["full"]))[0]
        assert type(found.metadata["ok"]) is bool
        assert type(found.metadata["n"]) is int

    async def test_empty_fields_survive(self, store: VectorStore, index: IndexName) -> None:
        bare = EmbeddedRecord(Record("bare", "d", "", ""), AXES[1], ())
        await store.upsert(index, [bare])
        assert await store.get(index, ["bare"]) == [bare.record]

    async def test_writing_nothing_is_fine(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [])
        assert await store.count(index) == 0

    async def test_a_record_with_the_same_id_is_replaced_in_every_respect(
        self, store: VectorStore, index: IndexName
    ) -> None:
        await store.upsert(index, [make("a", terms=["old"], metadata={"v": 1, "gone": "x"})])
        newer = make(
            "a", document="d2", revision="r2", vector=AXES[1], terms=["new"], metadata={"v": 2}, text="new"
        )
        await store.upsert(index, [newer])
        assert await store.get(index, ["a"]) == [newer.record]
        assert await store.count(index) == 1
        assert await store.count(index, where=Exists("gone")) == 0
        assert (await store.search_dense(index, AXES[1], k=1))[0].score == pytest.approx(1)
        if store.capabilities.full_text:
            assert await store.search_text(index, ["old"], k=1) == []
            assert ids(await store.search_text(index, ["new"], k=1)) == ["a"]

    async def test_of_the_same_id_twice_in_one_call_the_last_wins(
        self, store: VectorStore, index: IndexName
    ) -> None:
        await store.upsert(index, [make("a", text="first"), make("b"), make("a", text="last")])
        assert [record.text for record in await store.get(index, ["a"])] == ["last"]
        assert await store.count(index) == 2

    async def test_a_large_write_is_complete(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [make(f"{i:04}") for i in range(1203)])
        assert await store.count(index) == 1203
        assert ids(await store.get(index, ["0000", "0600", "1202"])) == ["0000", "0600", "1202"]

    async def test_a_vector_of_another_dimension_writes_nothing(
        self, store: VectorStore, index: IndexName
    ) -> None:
        wrong = make("b", vector=unit(1, 0, 0))
        with pytest.raises(DimensionMismatch):
            await store.upsert(index, [make("a"), wrong])
        assert await store.count(index) == 0

    @pytest.mark.parametrize("bad", ["\x00", "\ud800"])
    @pytest.mark.parametrize("place", ["id", "text", "header", "document_id", "metadata", "key", "list"])
    async def test_text_that_cannot_be_stored_is_refused_and_nothing_is_written(
        self, store: VectorStore, index: IndexName, place: str, bad: str
    ) -> None:
        text = f"x{bad}y"
        changes: dict[str, Any] = {
            "metadata": {"metadata": {"k": text}},
            "key": {"metadata": {text: "v"}},
            "list": {"metadata": {"k": ["fine", text]}},
        }.get(place, {place: text})
        wrong = replace(make("b"), record=replace(make("b").record, **changes))
        with pytest.raises(InvalidValue):
            await store.upsert(index, [make("a"), wrong])
        assert await store.count(index) == 0

    @pytest.mark.parametrize(
        "vector", [[0, 0, 0, 0], [2, 0, 0, 0], [float("nan"), 0, 0, 0], [float("inf"), 0, 0, 0]]
    )
    async def test_vectors_that_are_not_of_unit_length_are_refused(
        self, store: VectorStore, index: IndexName, vector: list[float]
    ) -> None:
        wrong = np.asarray(vector, dtype=np.float32)
        with pytest.raises(InvalidValue):
            await store.upsert(index, [make("a", vector=wrong)])
        with pytest.raises(InvalidValue):
            await store.search_dense(index, wrong, k=1)
        assert await store.count(index) == 0

    async def test_numbers_that_are_not_finite_are_refused(
        self, store: VectorStore, index: IndexName
    ) -> None:
        with pytest.raises(InvalidValue):
            await store.upsert(index, [make("a", metadata={"n": float("nan")})])
        with pytest.raises(InvalidValue):
            await store.count(index, where=Lt("n", float("inf")))

    async def test_inputs_are_not_mutated_and_not_shared(self, store: VectorStore, index: IndexName) -> None:
        tags = ["a"]
        metadata: dict[str, Any] = {"tags": tags, "n": 1}
        embedded = make("a", vector=AXES[0].copy(), metadata=metadata)
        before = copy.deepcopy(embedded)
        records = [embedded]
        await store.upsert(index, records)
        query = AXES[0].copy()
        await store.search_dense(index, query, k=1)
        assert records == [embedded]
        assert embedded.record == before.record
        assert np.array_equal(embedded.vector, before.vector)
        assert np.array_equal(query, AXES[0])
        tags.append("later")
        metadata["n"] = 2
        embedded.vector[:] = AXES[1]
        (await store.get(index, ["a"]))[0].metadata["tags"].append("by a reader")  # type: ignore[union-attr]
        assert await store.get(index, ["a"]) == [before.record]
        assert (await store.search_dense(index, query, k=1))[0].score == pytest.approx(1)

    async def test_writers_of_the_same_records_do_not_disturb_each_other(
        self, store: VectorStore, index: IndexName
    ) -> None:
        records = [make(f"{i:03}", terms=[f"t{i % 7}"]) for i in range(120)]
        orders = [records, records[::-1], records[60:] + records[:60]]
        await asyncio.gather(*(store.upsert(index, order) for order in orders))
        assert await store.count(index) == 120

    # --- deleting

    async def test_deleting_a_document_takes_its_records_and_no_others(
        self, store: VectorStore, index: IndexName
    ) -> None:
        await store.upsert(index, [make("a"), make("b"), make("c", document="d2")])
        assert await store.delete_document(index, "d1") == 2
        assert await store.count(index) == 1
        assert ids(await store.get(index, ["a", "b", "c"])) == ["c"]
        assert ids(await store.search_dense(index, AXES[0], k=9)) == ["c"]

    async def test_deleting_can_keep_one_revision(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(
            index,
            [
                make("a", revision="r1"),
                make("b", revision="r2"),
                make("c", revision=""),
                make("d", document="d2"),
            ],
        )
        assert await store.delete_document(index, "d1", keep_revision="r2") == 2
        assert ids(await store.get(index, ["a", "b", "c", "d"])) == ["b", "d"]

    @pytest.mark.parametrize("document", ["absent", NASTY, "d%", "*", ""])
    async def test_deleting_an_absent_document_gives_0(
        self, store: VectorStore, index: IndexName, document: str
    ) -> None:
        await store.upsert(index, [make("a")])
        assert await store.delete_document(index, document) == 0
        assert await store.count(index) == 1

    async def test_a_large_document_is_deleted_whole(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [make(f"{i:04}", document=NASTY) for i in range(1100)])
        assert await store.delete_document(index, NASTY) == 1100
        assert await store.count(index) == 0

    # --- reading

    async def test_get_answers_in_the_order_asked_and_leaves_out_the_absent(
        self, store: VectorStore, index: IndexName
    ) -> None:
        await store.upsert(index, [make(i) for i in "abcd"])
        assert ids(await store.get(index, ["d", "absent", "a", "c"])) == ["d", "a", "c"]
        assert await store.get(index, []) == []

    async def test_ids_are_data(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [make(NASTY, document=NASTY), make("员工🙂")])
        assert ids(await store.get(index, [NASTY, "员工🙂", "%", "*"])) == [NASTY, "员工🙂"]

    @pytest.mark.parametrize("bad", ["x\x00y", "x\ud800y", "x" * 501])
    async def test_ids_that_no_record_can_have_are_refused(
        self, store: VectorStore, index: IndexName, bad: str
    ) -> None:
        uses = [
            store.upsert(index, [make(bad)]),
            store.upsert(index, [make("")]),
            store.upsert(index, [make("a", document=bad)]),
            store.upsert(index, [make("a", revision=bad)]),
            store.delete_document(index, bad),
            store.delete_document(index, "d1", keep_revision=bad),
            store.get(index, ["a", bad]),
            store.scan(index, after=bad),
        ]
        for use in uses:
            with pytest.raises(InvalidValue):
                await use
        assert await store.count(index) == 0

    # --- scan

    async def test_a_scan_in_pieces_reads_every_record_once_in_the_order_of_ids(
        self, store: VectorStore, index: IndexName
    ) -> None:
        written = [make(i) for i in ("b", "a", "员工🙂", NASTY, "ab", "B", "10", "9")]
        await store.upsert(index, written)
        seen: list[str] = []
        while piece := await store.scan(index, after=seen[-1] if seen else "", limit=3):
            assert len(piece) <= 3
            seen += [record.id for record, _ in piece]
        assert seen == sorted(e.record.id for e in written)

    async def test_a_scan_gives_records_and_vectors_as_they_were_written(
        self, store: VectorStore, index: IndexName
    ) -> None:
        written = {i: make(i) for i in ("a", "b", "员工🙂")}
        await store.upsert(index, list(written.values()))
        found = await store.scan(index)
        assert len(found) == 3
        for record, vector in found:
            assert record == written[record.id].record
            assert vector.dtype == np.float32
            assert float(vector @ written[record.id].vector) >= 0.999

    # --- dense search

    async def test_dense_scores_are_half_of_one_plus_the_cosine(
        self, store: VectorStore, index: IndexName
    ) -> None:
        await store.upsert(
            index,
            [
                make("opposite", vector=-AXES[0]),
                make("right angle", vector=AXES[1]),
                make("same", vector=AXES[0]),
                make("near", vector=unit(1, 1, 0, 0)),
            ],
        )
        hits = await store.search_dense(index, AXES[0], k=9)
        assert ids(hits) == ["same", "near", "right angle", "opposite"]
        assert [hit.score for hit in hits] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, 0], abs=1e-5)
        assert all(0 <= hit.score <= 1 for hit in hits)

    async def test_dense_scores_stay_in_range_for_vectors_of_almost_unit_length(
        self, store: VectorStore, index: IndexName
    ) -> None:
        long = AXES[0] * np.float32(1.004)
        await store.upsert(index, [make("a", vector=long), make("b", vector=-long)])
        assert [hit.score for hit in await store.search_dense(index, long, k=2)] == [1, 0]

    async def test_dense_search_gives_at_most_k(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [make(i) for i in "abc"])
        for k in (0, 1, 2):
            assert len(await store.search_dense(index, AXES[0], k=k)) == k
        assert len(await store.search_dense(index, AXES[0], k=500)) == 3

    async def test_dense_ties_are_ordered_by_id(self, store: VectorStore, index: IndexName) -> None:
        for record_id in "dbacé":
            await store.upsert(index, [make(record_id)])
        assert ids(await store.search_dense(index, AXES[0], k=5)) == ["a", "b", "c", "d", "é"]
        assert ids(await store.search_dense(index, AXES[0], k=2)) == ["a", "b"]

    async def test_text_ties_are_ordered_by_id(self, store: VectorStore, index: IndexName) -> None:
        if await refuses_text(store, index):
            return
        for record_id in "dbacé":
            await store.upsert(index, [make(record_id)])
        assert ids(await store.search_text(index, ["common"], k=5)) == ["a", "b", "c", "d", "é"]
        assert ids(await store.search_text(index, ["common"], k=2)) == ["a", "b"]

    async def test_ids_are_ordered_by_code_point(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [make(i) for i in ("a", "B", "_", "é", "中", "-", "ab", "a b")])
        expected = sorted(("a", "B", "_", "é", "中", "-", "ab", "a b"))
        assert ids(await store.search_dense(index, AXES[0], k=9)) == expected
        if store.capabilities.full_text:
            assert ids(await store.search_text(index, ["common"], k=9)) == expected

    async def test_dense_search_obeys_the_filter(self, store: VectorStore, index: IndexName) -> None:
        near = [make(f"near{i}", metadata={"lang": "en"}) for i in range(20)]
        await store.upsert(index, [*near, make("far", vector=AXES[1], metadata={"lang": "zh"})])
        assert ids(await store.search_dense(index, AXES[0], k=3, where=Eq("lang", "zh"))) == ["far"]
        assert await store.search_dense(index, AXES[0], k=3, where=Eq("lang", "fr")) == []

    async def test_a_query_vector_of_another_dimension_is_refused(
        self, store: VectorStore, index: IndexName
    ) -> None:
        with pytest.raises(DimensionMismatch):
            await store.search_dense(index, unit(1, 1), k=1)

    async def test_searching_an_empty_index_finds_nothing(self, store: VectorStore, index: IndexName) -> None:
        assert await store.search_dense(index, AXES[0], k=3) == []
        if store.capabilities.full_text:
            assert await store.search_text(index, ["common"], k=3) == []

    # --- text search

    async def test_an_undeclared_text_search_raises_and_a_declared_one_answers(
        self, store: VectorStore, index: IndexName
    ) -> None:
        await store.upsert(index, [make("a")])
        if await refuses_text(store, index):
            return
        assert ids(await store.search_text(index, ["common"], k=1)) == ["a"]
        assert (await store.term_stats(index, ["common"])).total == 1

    async def test_rare_terms_repeats_and_short_records_rank_higher(
        self, store: VectorStore, index: IndexName
    ) -> None:
        if await refuses_text(store, index):
            return
        filler = ["x"] * 6
        await store.upsert(
            index,
            [
                make("rare", terms=["rare", *filler]),
                make("once", terms=["often", *filler]),
                make("thrice", terms=["often"] * 3 + filler[2:]),
                make("short", terms=["often"]),
                make("none", terms=filler),
            ],
        )
        assert ids(await store.search_text(index, ["often"], k=9)) == ["short", "thrice", "once"]
        assert ids(await store.search_text(index, ["often", "rare"], k=1)) == ["rare"]

    async def test_text_ranks_and_scores_are_those_of_the_oracle(
        self, store: VectorStore, index: IndexName
    ) -> None:
        if await refuses_text(store, index):
            return
        records = zipf_records(150, seed=1)
        oracle = await oracle_of(records)
        await store.upsert(index, records)
        for query in zipf_queries(30, seed=2):
            ours = await store.search_text(index, query, k=10)
            best = await oracle.search_text(INDEX, query, k=10)
            assert_same_ranking(ours, best)

    async def test_text_search_needs_one_of_the_terms(self, store: VectorStore, index: IndexName) -> None:
        if await refuses_text(store, index):
            return
        await store.upsert(index, [make("a", terms=["年假", "vacation"]), make("b", terms=["病假"])])
        assert ids(await store.search_text(index, ["年假"], k=9)) == ["a"]
        assert ids(await store.search_text(index, ["年假", "nowhere"], k=9)) == ["a"]
        assert await store.search_text(index, ["nowhere"], k=9) == []
        assert await store.search_text(index, ["vac"], k=9) == []
        assert await store.search_text(index, ["年假"], k=9, where=Eq("id", "b")) == []
        assert await store.search_text(index, [], k=9) == []

    async def test_repeating_a_term_of_the_question_changes_nothing(
        self, store: VectorStore, index: IndexName
    ) -> None:
        if await refuses_text(store, index):
            return
        await store.upsert(
            index, [make("a", terms=["p", "q"]), make("b", terms=["q"]), make("c", terms=["r"])]
        )
        once = await store.search_text(index, ["p", "q"], k=9)
        assert await store.search_text(index, ["q", "p", "q", "q"], k=9) == once

    async def test_terms_are_data(self, store: VectorStore, index: IndexName) -> None:
        if await refuses_text(store, index):
            return
        strange = [NASTY, "a:*", "a | b", "!x", "x'", "\\", "'", "a & !b", "x<->y", "", " ", "🙂", "t" * 3000]
        await store.upsert(index, [make(f"r{i:02}", terms=[term, "other"]) for i, term in enumerate(strange)])
        await store.upsert(index, [make("plain", terms=["a", "b", "x", "ab"])])
        for i, term in enumerate(strange):
            assert ids(await store.search_text(index, [term], k=9)) == [f"r{i:02}"]
        frequencies = (await store.term_stats(index, strange)).document_frequency
        assert frequencies == dict.fromkeys(strange, 1)

    async def test_a_long_question_is_answered(self, store: VectorStore, index: IndexName) -> None:
        if await refuses_text(store, index):
            return
        await store.upsert(index, [make("a", terms=["needle", "hay"]), make("b", terms=["hay"])])
        question = [f"word{i}" for i in range(300)] + ["needle"]
        assert ids(await store.search_text(index, question, k=9)) == ["a"]

    async def test_text_search_obeys_the_filter_and_k(self, store: VectorStore, index: IndexName) -> None:
        if await refuses_text(store, index):
            return
        await store.upsert(index, [make(f"en{i}", metadata={"lang": "en"}) for i in range(5)])
        await store.upsert(index, [make("zh", terms=["common", *"longer"], metadata={"lang": "zh"})])
        assert ids(await store.search_text(index, ["common"], k=9, where=Eq("lang", "zh"))) == ["zh"]
        assert ids(await store.search_text(index, ["common"], k=2)) == ["en0", "en1"]
        assert await store.search_text(index, ["common"], k=0) == []
        assert await store.search_text(index, ["common"], k=9, where=Or(())) == []

    async def test_term_stats_count_records_not_occurrences(
        self, store: VectorStore, index: IndexName
    ) -> None:
        if await refuses_text(store, index):
            return
        await store.upsert(
            index, [make("a", terms=["p", "p", "q"]), make("b", terms=["p"]), make("c", terms=[])]
        )
        stats = await store.term_stats(index, ["p", "q", "nowhere", "p"])
        assert stats.total == 3
        assert stats.document_frequency == {"p": 2, "q": 1, "nowhere": 0}

    async def test_what_was_written_or_deleted_is_so_for_the_next_search(
        self, store: VectorStore, index: IndexName
    ) -> None:
        if await refuses_text(store, index):
            return
        assert await store.search_text(index, ["term"], k=9) == []
        await store.upsert(index, [make("a", terms=["term"])])
        assert ids(await store.search_text(index, ["term"], k=9)) == ["a"]
        assert ids(await store.search_dense(index, AXES[0], k=9)) == ["a"]
        await store.delete_document(index, "d1")
        assert await store.search_text(index, ["term"], k=9) == []
        assert await store.search_dense(index, AXES[0], k=9) == []

    # --- filters

    @pytest.mark.parametrize(("where", "expected"), FILTERS, ids=FILTER_NAMES)
    async def test_a_filter_means_what_its_definition_says(
        self, store: VectorStore, shaped: IndexName, where: Filter, expected: set[str]
    ) -> None:
        assert await store.count(shaped, where=where) == len(expected)
        assert set(ids(await store.search_dense(shaped, AXES[0], k=99, where=where))) == expected
        if not await refuses_text(store, shaped):
            assert set(ids(await store.search_text(shaped, ["common"], k=99, where=where))) == expected

    # --- the server

    async def test_an_answering_store_pings(self, store: VectorStore) -> None:
        await store.ping()

    async def test_closing_twice_is_fine(self, subject: Subject) -> None:
        store = subject.new()
        await store.open()
        await store.close()
        await store.close()

    async def test_without_its_server_a_remote_store_says_so_and_may_be_tried_again(
        self, subject: Subject
    ) -> None:
        store = subject.unreachable()
        if not store.capabilities.remote:
            await store.open()
            await store.ping()
            return
        with pytest.raises(StoreUnavailable) as raised:
            await store.open()
        await store.close()
        assert raised.value.retryable
        assert raised.value.hint

    async def test_many_tasks_may_use_a_store_at_once(self, store: VectorStore, index: IndexName) -> None:
        await store.upsert(index, [make(f"{i}") for i in range(5)])
        found = await asyncio.gather(*(store.search_dense(index, AXES[0], k=3) for _ in range(40)))
        assert all(ids(hits) == ["0", "1", "2"] for hits in found)


async def refuses_text(store: VectorStore, index: IndexName) -> bool:
    """Whether the store declares no text search; then it must refuse it."""
    if store.capabilities.full_text:
        return False
    with pytest.raises(UnsupportedByStore):
        await store.search_text(index, ["common"], k=1)
    with pytest.raises(UnsupportedByStore):
        await store.term_stats(index, ["common"])
    return True


def zipf_records(number: int, *, seed: int, dim: int = DIM, words: int = 300) -> list[EmbeddedRecord]:
    """Records whose words are as unevenly common as those of a language."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(3, words + 3)
    vectors = random.normal(size=(number, dim)).astype(np.float32)
    return [
        make(
            f"{i:05}",
            document=f"d{i % 25}",
            vector=unit(*vectors[i]),
            terms=[f"w{w}" for w in random.choice(words, size=random.integers(5, 60), p=share / share.sum())],
            metadata={"percent": i % 100},
        )
        for i in range(number)
    ]


def zipf_queries(number: int, *, seed: int, words: int = 300) -> list[list[str]]:
    random = np.random.default_rng(seed)
    share = 1 / np.arange(3, words + 3)
    return [
        [f"w{w}" for w in random.choice(words, size=random.integers(1, 9), p=share / share.sum())]
        for _ in range(number)
    ]


async def oracle_of(records: Sequence[EmbeddedRecord]) -> MemoryStore:
    oracle = MemoryStore()
    await oracle.ensure_index(INDEX, dim=len(records[0].vector))
    await oracle.upsert(INDEX, records)
    return oracle


def assert_same_ranking(ours: Sequence[Hit], best: Sequence[Hit]) -> None:
    assert same_ranking(ours, best), (
        f"{[(h.record.id, h.score) for h in ours]} != {[(h.record.id, h.score) for h in best]}"
    )
