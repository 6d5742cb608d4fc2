"""What does a MongoDB with vector search answer? A proxy that adds it to a server without, as it is documented.

No real one can be had here, so this holds our requests to the documented rules: index definitions, fields and
operators of filters, limits, the type of the query vector. What breaks one is answered with an error. Like
the real one it lags behind: new indexes are not queryable at once, and searches see the records of a moment
ago. Sources: MongoDB's manual on `createSearchIndexes`, `$listSearchIndexes` and `$vectorSearch`, and its
wire protocol (OP_MSG).
"""

from __future__ import annotations

import itertools
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson
import numpy as np
import pymongo
from bson.binary import VECTOR_SUBTYPE, Binary

Document = dict[str, Any]

OP_MSG = 2013
LAG_S = 0.2


class Refused(Exception):
    """The request breaks a documented rule."""


class SearchNode:
    """Keeps the search indexes and what they have seen of the collections."""

    def __init__(self, url: str) -> None:
        self._client: pymongo.MongoClient[Document] = pymongo.MongoClient(url)
        self._lock = threading.Lock()
        self._indexes: dict[tuple[str, str], tuple[float, Document]] = {}  # (time made, definition)
        self._seen: dict[tuple[str, str], tuple[float, list[Document]]] = {}  # (time seen, records)
        self.searches = 0

    def close(self) -> None:
        self._client.close()

    def answer(self, command: Document) -> Document | None:
        """The reply, or None for what is no matter of search."""
        stage = (command.get("pipeline") or [{}])[0] if "aggregate" in command else {}
        try:
            with self._lock:
                if "createSearchIndexes" in command:
                    return self._create(command)
                if "$listSearchIndexes" in stage:
                    return self._list(command, stage["$listSearchIndexes"])
                if "$vectorSearch" in stage:
                    return self._search(command)
        except Refused as error:
            return {"ok": 0.0, "errmsg": str(error), "code": 2, "codeName": "BadValue"}
        return None

    def _create(self, command: Document) -> Document:
        (index,) = command["indexes"]
        _require(index["type"] == "vectorSearch", "type")
        fields = index["definition"]["fields"]
        vectors = [each for each in fields if each["type"] == "vector"]
        _require(len(vectors) == 1, "one vector field")
        _require(1 <= vectors[0]["numDimensions"] <= 8192, "numDimensions")
        _require(vectors[0]["similarity"] in ("cosine", "dotProduct", "euclidean"), "similarity")
        _require(all(each["type"] in ("vector", "filter") for each in fields), "field types")
        place = (command["$db"], command["createSearchIndexes"])
        self._indexes[place] = (time.monotonic(), index)
        return {"ok": 1.0, "indexesCreated": [{"id": "1", "name": index["name"]}]}

    def _list(self, command: Document, options: Document) -> Document:
        made = self._indexes.get((command["$db"], command["aggregate"]))
        if made is None or options.get("name", made[1]["name"]) != made[1]["name"]:
            return _cursor(command, [])
        ready = time.monotonic() - made[0] > LAG_S
        state = {"status": "READY" if ready else "BUILDING", "queryable": ready}
        return _cursor(command, [{"id": "1", "name": made[1]["name"], "type": "vectorSearch", **state}])

    def _search(self, command: Document) -> Document:
        place = (command["$db"], command["aggregate"])
        search, *rest = (next(iter(stage.items())) for stage in command["pipeline"])
        options = search[1]
        _require(place in self._indexes and self._indexes[place][1]["name"] == options["index"], "index")
        fields = self._indexes[place][1]["definition"]["fields"]
        (vector,) = (each for each in fields if each["type"] == "vector")
        _require(options["path"] == vector["path"], "path")
        _require(options.get("exact", False) != ("numCandidates" in options), "exact or numCandidates")
        _require(1 <= options["limit"] <= options.get("numCandidates", 10_000) <= 10_000, "limit")
        query = _numbers(options["queryVector"])
        _require(len(query) == vector["numDimensions"], "dimension of queryVector")
        where = options.get("filter", {})
        _check_filter(where, {each["path"] for each in fields if each["type"] == "filter"})
        self.searches += 1
        found = [each for each in self._records(place) if _matches(where, each)]
        for each in found:
            stored = _numbers(each["vector"])
            cosine = query @ stored / (np.linalg.norm(query) * np.linalg.norm(stored))
            each["score"] = float((1 + cosine) / 2)
        found = sorted(found, key=lambda each: -float(each["score"]))[: options["limit"]]
        collection = self._client[place[0]][place[1]]
        alive = {
            each["_id"] for each in collection.find({"_id": {"$in": [e["_id"] for e in found]}}, {"_id": 1})
        }
        return _cursor(command, _finished([each for each in found if each["_id"] in alive], rest))

    def _records(self, place: tuple[str, str]) -> list[Document]:
        seen, records = self._seen.get(place, (0.0, []))
        if time.monotonic() - seen > LAG_S:
            fields = {"vector": 1, "facts": 1, "write": 1}
            fresh = list(self._client[place[0]][place[1]].find({}, fields))
            self._seen[place] = (time.monotonic(), fresh)
        return [dict(each) for each in records]  # of the time before: behind, as the real one


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise Refused(f"the request breaks the rule on: {rule}")


def _numbers(value: object) -> Any:
    _require(isinstance(value, Binary) and value.subtype == VECTOR_SUBTYPE, "vectors are BSON vectors")
    assert isinstance(value, Binary)
    return np.array(value.as_vector().data, dtype=np.float32)


def _check_filter(where: Document, fields: set[str]) -> None:
    for name, value in where.items():
        if name in ("$and", "$or", "$nor"):
            _require(len(value) > 0, f"{name} needs parts")
            for part in value:
                _check_filter(part, fields)
            continue
        _require(name in fields, f"{name} is no filter field")
        for operator, operand in value.items():
            _require(operator in ("$eq", "$in"), f"operator {operator}")
            _require(operator != "$in" or len(operand) > 0, "$in needs values")


def _matches(where: Document, record: Document) -> bool:
    return all(_holds(name, value, record) for name, value in where.items())


def _holds(name: str, value: Any, record: Document) -> bool:
    if name == "$and":
        return all(_matches(part, record) for part in value)
    if name == "$or":
        return any(_matches(part, record) for part in value)
    if name == "$nor":
        return not any(_matches(part, record) for part in value)
    stored = record[name] if isinstance(record[name], list) else [record[name]]
    wanted = value["$in"] if "$in" in value else [value["$eq"]]
    return any(each in stored for each in wanted)


def _finished(found: list[Document], stages: list[tuple[str, Any]]) -> list[Document]:
    """What the stages behind the search make of it; only those that the store uses are known."""
    for name, value in stages:
        if name == "$project":
            _require(
                value.get("score", {"$meta": "vectorSearchScore"}) == {"$meta": "vectorSearchScore"}, "$meta"
            )
            found = [{key: each[key] for key in ("_id", *value)} for each in found]
        elif name == "$sort":
            _require(list(value.items()) == [("score", -1), ("_id", 1)], "$sort")
            found = sorted(found, key=lambda each: (-each["score"], each["_id"].encode()))
        else:
            _require(name == "$limit", name)
            found = found[:value]
    return found


def _cursor(command: Document, documents: list[Document]) -> Document:
    name = f"{command['$db']}.{command['aggregate']}"
    return {"ok": 1.0, "cursor": {"id": bson.Int64(0), "ns": name, "firstBatch": documents}}


@contextmanager
def searching(url: str) -> Iterator[tuple[str, SearchNode]]:
    """The URL of a proxy before the server at `url` (without options), and its search node."""
    node = SearchNode(url)
    upstream = pymongo.uri_parser.parse_uri(url)["nodelist"][0]
    numbers = itertools.count(1)

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(upstream) as server:
                back = threading.Thread(target=_relay, args=(server, self.request), daemon=True)
                back.start()
                while message := _message(self.request):
                    reply = node.answer(command) if (command := _command(message)) else None
                    if reply is None:
                        server.sendall(message)
                    else:
                        self.request.sendall(_reply(message, reply, next(numbers)))
                server.shutdown(socket.SHUT_RDWR)
                back.join()

    class Proxy(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Proxy(("127.0.0.1", 0), Connection) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            # Otherwise the driver would go on to the server that the proxy's answers name.
            yield f"mongodb://127.0.0.1:{proxy.server_address[1]}/?directConnection=true", node
        finally:
            proxy.shutdown()
            node.close()


def _relay(source: socket.socket, target: socket.socket) -> None:
    while message := _message(source):
        target.sendall(message)


def _message(source: socket.socket) -> bytes:
    """The next whole message; nothing at the end."""
    try:
        head = _exactly(source, 4)
        return head + _exactly(source, struct.unpack("<i", head)[0] - 4) if head else b""
    except OSError:
        return b""


def _exactly(source: socket.socket, number: int) -> bytes:
    received = b""
    while len(received) < number:
        piece = source.recv(number - len(received))
        if not piece:
            return b""
        received += piece
    return received


def _command(message: bytes) -> Document | None:
    if struct.unpack_from("<i", message, 12)[0] != OP_MSG or message[20] != 0:
        return None
    length = struct.unpack_from("<i", message, 21)[0]
    return bson.decode(message[21 : 21 + length])


def _reply(request: bytes, document: Document, number: int) -> bytes:
    body = struct.pack("<ib", 0, 0) + bson.encode(document)
    asked = struct.unpack_from("<i", request, 4)[0]
    return struct.pack("<iiii", 16 + len(body), number, asked, OP_MSG) + body
