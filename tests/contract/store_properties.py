"""Do names, values and texts do nothing but match, and do filters mean the same, whatever they hold?

Hypothesis makes records and filters that nobody thought of; the exact store says what is right. Few examples,
each with much in it: a request costs more than making up what it asks.
"""

from __future__ import annotations

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_contract import AXES, DIM, INDEX, NASTY, OTHER, emptied, ids, make, oracle_of

from core.types import EmbeddedRecord, IndexName, Metadata
from stores.base import VectorStore
from stores.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, Or

# --- filters over a few fields, where names and values meet often

FIELDS = ["f", "g", "", "a'b", "语", "id", "document_id", "position", "page_start"]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=3)
NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-(2**53), 2**53), st.floats(-(2.0**53), 2.0**53))
SCALARS = st.one_of(st.sampled_from(["a", "B", "1", "true", "null", "é"]), TEXT, NUMBERS, st.booleans())
NAMES = st.sampled_from(FIELDS)
ORDERED = st.one_of(TEXT, NUMBERS)
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Eq, NAMES, SCALARS),
    st.builds(Ne, NAMES, SCALARS),
    st.builds(In, NAMES, st.lists(SCALARS, max_size=3).map(tuple)),
    *(st.builds(kind, NAMES, ORDERED) for kind in (Lt, Lte, Gt, Gte)),
    st.builds(Exists, NAMES),
    st.builds(Contains, NAMES, TEXT),
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.builds(And, st.lists(part, max_size=3).map(tuple)),
        st.builds(Or, st.lists(part, max_size=3).map(tuple)),
        st.builds(Not, part),
    ),
    max_leaves=6,
)
METADATA = st.dictionaries(
    st.sampled_from(FIELDS), st.one_of(SCALARS, st.lists(TEXT, max_size=3)), max_size=4
)

# --- texts that are syntax somewhere: SQL, RediSearch, Milvus, JSON and Lucene queries, patterns, paths

SYNTAX = [
    *("'", '"', "\\", "''", "\\'", '\\"', "`", "--", "/*", "*/", ";", "#", "//"),
    *(
        "%",
        "_",
        "*",
        "?",
        ".*",
        "[a-z]",
        "^",
        "~",
        "|",
        "||",
        "&",
        "&&",
        "!",
        "-",
        "+",
        "=",
        "==",
        "!=",
        ">",
        "<",
    ),
    *(
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "<<",
        ">>",
        "@",
        "@terms:",
        "@tags:{a}",
        "=>",
        "=>[KNN 1 @v $v]",
        "{$weight: 0}",
    ),
    *(
        "$",
        "$ne",
        "$where",
        "{'$gt': ''}",
        "$$ROOT",
        "a.b",
        ".",
        "..",
        "/",
        ":",
        "::",
        ",",
        "\t",
        "\n",
        "\r\n",
        " ",
    ),
    *(
        " OR 1=1",
        " or true",
        " and ",
        " not in ",
        "NULL",
        "null",
        "true",
        "1",
        "0x27",
        "DROP TABLE x",
        "%s",
        "%(k)s",
    ),
    *(
        "{0}",
        "${x}",
        "{{x}}",
        "<b>",
        "&amp;",
        "AND",
        "NOT",
        "NEAR",
        "_id",
        "id",
        "key in []",
        "json_contains(",
    ),
    *(
        "🙂",
        "👩‍👩‍👧",
        "é",
        "e\u0301",
        "ß",
        "İ",
        "员工",
        "\u202e",
        "\ufeff",
        "\u2028",
        "\U0010ffff",
        "\x01",
        "\x7f",
        "\xa0",
    ),
]
PIECES = st.one_of(st.sampled_from(SYNTAX), TEXT)
HOSTILE = st.one_of(
    st.sampled_from([*SYNTAX, NASTY]),
    st.lists(PIECES, min_size=1, max_size=6).map("".join),
    st.lists(PIECES, min_size=1, max_size=3).map(lambda pieces: ("".join(pieces) * 500)[:500]),
)
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


class StoreProperties:
    """Part of `store_spec.StoreSpec`."""

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def another_index(cls, store: VectorStore) -> IndexName:
        """Examples empty it themselves: fixtures run once for all examples of a test."""
        await store.ensure_index(OTHER, dim=DIM)
        return OTHER

    @QUICK
    @given(
        metadatas=st.lists(METADATA, min_size=4, max_size=12),
        filters=st.lists(FILTERS, min_size=12, max_size=24),
        pages=st.integers(0, 3),
    )
    async def test_every_filter_finds_the_same_records(
        self,
        store: VectorStore,
        another_index: IndexName,
        metadatas: list[Metadata],
        filters: list[Filter],
        pages: int,
    ) -> None:
        records = [
            make(
                f"r{i:02}",
                document="aB1"[i % 3],
                position=i - 1,
                page_start=i if i > pages else None,
                metadata=metadata,
            )
            for i, metadata in enumerate(metadatas)
        ]
        await _same(store, another_index, records, filters)

    @QUICK
    @given(texts=st.lists(HOSTILE.filter(bool), min_size=4, max_size=10, unique=True))
    async def test_what_is_syntax_elsewhere_does_nothing_but_match(
        self, store: VectorStore, another_index: IndexName, texts: list[str]
    ) -> None:
        turned = [*texts[1:], texts[0]]
        records = [
            make(
                text,
                document=other,
                revision=text,
                text=other * 3,
                header=text,
                section=other,
                terms=[text, "common"],
                metadata={text: other, "list": [text, "x"], "f": text},
            )
            for text, other in zip(texts, turned, strict=True)
        ]
        filters: list[Filter] = []
        for text, other in zip(texts, turned, strict=True):
            filters += [
                Or((Eq("id", text), Eq("document_id", text))),
                And((Eq(text, other), Ne("f", other))),
                Or((Contains("list", text), In("f", (other, "x")))),
                And((Exists(text), Not(Gt("f", text)))),
                Or((Lt("id", text), Gte("revision", text))),
            ]
        oracle = await _same(store, another_index, records, filters)
        if store.capabilities.full_text:
            for text in texts:
                assert ids(await store.search_text(another_index, [text], k=99)) == [text]
        for text in texts[:2]:
            assert await store.delete_document(another_index, text, keep_revision=text) == 1
            await oracle.delete_document(INDEX, text)
        left = await store.scan(another_index)
        assert [record for record, _ in left] == [record for record, _ in await oracle.scan(INDEX)]


async def _same(
    store: VectorStore, index: IndexName, records: list[EmbeddedRecord], filters: list[Filter]
) -> VectorStore:
    """Write the records and nothing else, and compare; returns the exact store with them."""
    oracle = await oracle_of(records)
    await emptied(store, index)
    await store.upsert(index, records)
    everything = [embedded.record.id for embedded in records]
    assert await store.get(index, everything) == await oracle.get(INDEX, everything)
    for where in filters:
        expected = ids(await oracle.search_dense(INDEX, AXES[0], k=99, where=where))
        assert ids(await store.search_dense(index, AXES[0], k=99, where=where)) == expected, where
        assert await store.count(index, where=where) == len(expected), where
    return oracle
