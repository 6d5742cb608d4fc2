"""The service beside one store's server, which is told apart from the service's own database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from books import SETTINGS
from folders import short_folder
from running import StoreProcess, running
from up_service import UpService


@dataclass(frozen=True, slots=True)
class Target:
    """The service, a store's kind and address, and its server unless that is the service's database."""

    service: UpService
    kind: str
    url: str
    server: StoreProcess | None


@contextmanager
def service_beside(kind: str) -> Iterator[Target]:
    """The service runs, and knows the store."""
    with ExitStack() as stack:
        server = None if kind == "pgvector" else stack.enter_context(running(kind))
        where = {} if server is None else {f"RAG_STORES__{kind.upper()}__URL": server.url}
        service = UpService(stack.enter_context(short_folder()), **SETTINGS, **where)
        stack.callback(service.stop)
        service.start()
        yield Target(service, kind, server.url if server else service.database_url, server)
