"""What may not go into any store, whichever it is: checked before a driver sees it.

Every store calls these first, so that the same input is refused with the same words everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from core.errors import DimensionMismatch, InvalidValue
from core.types import EmbeddedRecord, Record, Vector
from stores.filters import And, Exists, Filter, In, Not, Or

# PostgreSQL keeps no NUL, and UTF-8 has no lone surrogates.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
LONGEST_ID = 500  # characters: PostgreSQL indexes at most 2,704 bytes, Milvus compares less
_UNIT_TOLERANCE = 1e-2  # embedders that compute in half precision are off by about 1e-3


def check_records(records: Sequence[EmbeddedRecord], dim: int) -> None:
    """Raise `DimensionMismatch` or `InvalidValue` naming the first record that cannot be stored."""
    for embedded in records:
        check_vector(embedded.vector, dim, f"the vector of record {embedded.record.id!r}")
    for embedded in records:
        _check_record(embedded.record)


def check_vector(vector: Vector, dim: int, name: str = "the query vector") -> None:
    """A vector must have shape (dim,), finite numbers and length 1 (within 1 %)."""
    if vector.shape != (dim,):
        raise DimensionMismatch(
            f"The index holds vectors of {dim} numbers, but {name} has shape {vector.shape}.",
            hint="Use the embedder the knowledge base was built with, or rebuild it with the new one.",
        )
    length = math.sqrt(vector.dot(vector))  # without importing numpy: the command line loads this file, too
    if not abs(length - 1) <= _UNIT_TOLERANCE:  # also true of NaN
        raise InvalidValue(f"The length of {name} is {length:.3g}.", hint="Scale vectors to length 1.")


def check_filter(where: Filter | None) -> None:
    """Raise `InvalidValue` if a field name or a value in the filter is something no store can compare."""
    for value in _values(where) if where else ():
        _check_value(value, "A filter")


def check_ids(*ids: str) -> None:
    """Raise `InvalidValue` for an id (of a record, document or revision) that no record can have."""
    for each in ids:
        check_text(each, f"The id {each[:100]!r}")
        if len(each) > LONGEST_ID:
            raise InvalidValue(
                f"The id {each[:20]!r}… has {len(each)} characters; {LONGEST_ID} are the most.",
                hint="Use shorter ids.",
            )


def check_text(text: str, owner: str) -> None:
    if found := _UNSTORABLE.search(text):
        raise InvalidValue(
            f"{owner} holds the character U+{ord(found.group()):04X} at offset {found.start()}.",
            hint="Remove NUL characters and lone surrogates.",
        )


def _values(where: Filter) -> Iterator[object]:
    match where:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _values(part)
        case Not(part):
            yield from _values(part)
        case Exists(name):
            yield name
        case In(name, values):
            yield from (name, *values)
        case _:
            yield from (where.field, where.value)


def _check_record(record: Record) -> None:
    owner = f"Record {record.id!r}"
    check_ids(record.id, record.document_id, record.revision)
    if not record.id:
        raise InvalidValue(
            "A record has an empty id.", hint="Give it one: a scan begins behind the empty id."
        )
    for name in ("text", "header", "section"):
        check_text(getattr(record, name), f"{owner}, {name},")
    for key, value in record.metadata.items():
        _check_value(key, f"{owner}, a metadata key,")
        if isinstance(value, Sequence) and not isinstance(value, str):
            for item in value:
                check_text(item, f"{owner}, metadata {key!r},")
        else:
            _check_value(value, f"{owner}, metadata {key!r},")


def _check_value(value: object, owner: str) -> None:
    if isinstance(value, str):
        check_text(value, owner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidValue(f"{owner} holds the number {value}.", hint="Only finite numbers compare.")


def plain_metadata(metadata: Mapping[str, object]) -> dict[str, object]:
    """A copy that shares nothing with its source; lists and tuples become lists."""
    return {key: list(v) if isinstance(v, list | tuple) else v for key, v in metadata.items()}
