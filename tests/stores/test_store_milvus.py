"""Does Milvus do everything that a store must, and what only it must promise?

With Milvus Lite (everything) and with the real Milvus 2.3.5 (which must refuse text search), as
`tests/servers/milvus_server.py` starts them. `RAG_TEST_MILVUS_URL` names a server to test instead of Lite.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from store_contract import AXES, DIM, INDEX, assert_same_ranking, ids, make, oracle_of
from store_spec import StoreSpec, Subject
from subjects import GIVEN, MILVUS_23, build, opened, subject

from core.errors import InvalidValue, StoreError, UnsupportedByStore
from core.types import Metadata
from stores import milvus
from stores.base import VectorStore
from stores.filters import Contains, Eq, Gt, Lt, Ne, Not
from stores.milvus import MilvusStore

KIND = "milvus"

pytestmark = pytest.mark.timeout(900)  # the first run installs the servers


class TestMilvusLite(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, server_url: Callable[[str], str]) -> Subject:
        return subject(KIND, server_url(KIND), slow=KIND not in GIVEN)


class TestMilvus23(StoreSpec):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, server_url: Callable[[str], str]) -> Subject:
        return subject(KIND, server_url(MILVUS_23))


# --- what only this store has to promise


async def test_a_server_without_sparse_vectors_declares_no_text_search(
    store: VectorStore, server_url: Callable[[str], str]
) -> None:
    assert store.capabilities.full_text
    async with opened(build(KIND, server_url(MILVUS_23))) as old:
        assert not old.capabilities.full_text
        await old.ensure_index(INDEX, dim=DIM)
        with pytest.raises(UnsupportedByStore, match="sparse"):
            await old.search_text(INDEX, ["a"], k=1)


async def test_an_index_whose_creation_was_cut_off_is_completed(store: MilvusStore) -> None:
    await store._create(INDEX, DIM)
    await store.ensure_index(INDEX, dim=DIM)
    await store.upsert(INDEX, [make("a")])
    assert ids(await store.search_dense(INDEX, AXES[0], k=1)) == ["a"]
    assert ids(await store.search_text(INDEX, ["common"], k=1)) == ["a"]


async def test_text_rankings_agree_after_lengths_have_changed(store: VectorStore) -> None:
    """Candidates are chosen by the average length at the time of writing."""
    short = [make(f"s{i:03}", document="short", terms=["a", f"s{i}"] * (1 + i % 3)) for i in range(100)]
    long = [make(f"l{i:03}", document="long", terms=["a", "b", *["x"] * (i % 90)]) for i in range(200)]
    oracle = await oracle_of([*short, *long])
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, short)
    await store.upsert(INDEX, long)
    for terms in (["a"], ["a", "b"], ["b", "s7"], ["x", "a"]):
        ours = await store.search_text(INDEX, terms, k=10)
        assert_same_ranking(ours, await oracle.search_text(INDEX, terms, k=10))


async def test_what_milvus_cannot_keep_is_refused_in_words_and_nothing_is_written(store: VectorStore) -> None:
    metadata: Metadata = {"f": ["x" * 70_000]}
    wrong = [
        make("b", text="字" * 30_000),
        make("b", metadata=metadata),
        make("b", metadata={"f": [f"{i}" for i in range(5000)]}),
        make("b", metadata={f"f{i}": "x" * 400 for i in range(100)}),
        make("b", terms=[f"t{i}" for i in range(5000)]),
    ]
    await store.ensure_index(INDEX, dim=4)
    for record in wrong:
        with pytest.raises(InvalidValue, match="most"):
            await store.upsert(INDEX, [make("a"), record])
    assert await store.count(INDEX) == 0


async def test_long_texts_and_names_in_metadata_are_filtered_by(store: VectorStore) -> None:
    long = "字" * 5000
    await store.ensure_index(INDEX, dim=4)
    metadatas: list[Metadata] = [{"f": long}, {"f": long + "!"}, {long: "x"}, {"f": [long]}]
    await store.upsert(INDEX, [make(f"{i}", metadata=m) for i, m in enumerate(metadatas)])
    filters = [
        (Eq("f", long), ["0"]),
        (Ne("f", long), ["1", "2", "3"]),
        (Eq(long, "x"), ["2"]),
        (Contains("f", long), ["3"]),
        (Gt("f", "字"), ["0", "1"]),
        (Not(Gt("f", "字")), ["2", "3"]),
        (Lt("f", "字"), []),
    ]
    for where, expected in filters:
        assert ids(await store.search_dense(INDEX, AXES[0], k=9, where=where)) == expected


async def test_a_scan_of_more_ids_than_one_answer_has_is_in_order_and_complete(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "SCAN_IDS", 20)
    written = [make(f"{i * 7919 % 1009:04}") for i in range(300)]
    await store.ensure_index(INDEX, dim=4)
    await store.upsert(INDEX, written)
    seen: list[str] = []
    while piece := await store.scan(INDEX, after=seen[-1] if seen else "", limit=9):
        seen += [record.id for record, _ in piece]
    assert seen == sorted(embedded.record.id for embedded in written)


async def test_a_file_of_milvus_lite_is_refused() -> None:
    store = MilvusStore("./milvus.db")
    with pytest.raises(StoreError, match="not the address"):
        await store.open()
    await store.close()
