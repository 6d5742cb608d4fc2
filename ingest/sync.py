"""How does a knowledge base follow addresses of the web? A page, or the pages of a sitemap, become documents.

Each page is asked for with what is known of it (ETag, Last-Modified), so one that has not changed costs one short
answer; one with the same bytes does no work. What the sitemap lists no more, and what answers 404 or 410, is removed; a
page that only fails stays as it is.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path, PurePath
from urllib.parse import unquote

import httpx
from lxml import etree

from core.db import documents, sources
from core.db.models import DocumentStatus, KnowledgeBase, Source, SourceKind, SourcePage
from core.db.session import Database
from core.errors import NotFound, RagError, Unavailable
from ingest.fetch import Fetched, Fetcher, FetchFailed
from ingest.files import Incoming
from ingest.intake import Intake, clean_name
from ingest.parsers import FORMATS

MOST_SITEMAPS = 100  # that an index of sitemaps may list
MOST_SITEMAP_BYTES = 10 * 2**20  # unpacked; https://www.sitemaps.org/protocol.html allows five times as much
MOST_ERRORS = 20  # that a result describes; all are counted
PAGE = "url"  # the attribute of a document that says which page it is
GZIP = b"\x1f\x8b"
EXTENSIONS = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/pdf": ".pdf",
}

Report = Callable[[int, int], Awaitable[None]]  # pages done, pages in all


@dataclass(slots=True)
class Result:
    """What became of the pages of a source."""

    read: int = 0  # new, or changed: their jobs are queued
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)

    def add_error(self, url: str, error: RagError) -> None:
        self.failed += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append({"url": url, "code": error.code, "message": error.message})


class Syncer:
    """Synchronises sources. Safe to repeat at any point."""

    def __init__(self, *, database: Database, intake: Intake, fetcher: Fetcher, max_pages: int) -> None:
        self._database = database
        self._intake = intake
        self._fetcher = fetcher
        self._max_pages = max_pages

    async def queue_due(self) -> None:
        """Queue the synchronisation of the sources for which it is time."""
        async with self._database.transaction() as session:
            await sources.queue_due(session)

    async def run(self, kb: KnowledgeBase, source_id: str, report: Report) -> Result:
        """Bring the documents of the source up to date, and write down what came of it.

        Raises `FetchFailed` and the like if a sitemap cannot be read: then nothing is removed.
        """
        async with self._database.transaction() as session:
            source = await sources.get(session, kb.id, source_id)
            known = await sources.pages(session, source_id)
        result = Result()
        try:
            urls = [source.url] if source.kind == SourceKind.URL else await self._listed(source.url)
        except RagError as error:
            result.add_error(source.url, error)
            await self._write_down(kb, source_id, result)
            raise
        kept: set[str | None] = set()
        failed: set[str] = set()
        for number, url in enumerate(urls):
            await report(number, len(urls))
            try:
                kept.add(await self._page(source, url, known.get(url), result))
            except Unavailable:
                raise  # the service's trouble, not this page's
            except RagError as error:
                result.add_error(url, error)
                failed.add(url)
        await self._remove_others(source, kept, failed, result)
        for url in known.keys() - set(urls):
            async with self._database.transaction() as session:
                await sources.forget_page(session, source_id, url)
        await self._write_down(kb, source_id, result)
        return result

    async def _page(self, source: Source, url: str, known: SourcePage | None, result: Result) -> str | None:
        """The id of the page's document, which is to be kept; None if there is none."""
        if known is not None and not await self._is_there(known.document_id):
            known = None  # it was deleted: fetch it whole
        fetched = await self._fetcher.fetch(
            url,
            etag=known.etag if known else None,
            last_modified=known.last_modified if known else None,
        )
        if fetched.gone:
            return None
        if fetched.incoming is None:
            result.unchanged += 1
            return known.document_id if known else None
        return await self._accept(source, url, fetched, fetched.incoming, result)

    async def _is_there(self, document_id: str) -> bool:
        async with self._database.transaction() as session:
            document = await documents.find(session, document_id)
        return document is not None and document.status != DocumentStatus.DELETING

    async def _accept(
        self, source: Source, url: str, fetched: Fetched, incoming: Incoming, result: Result
    ) -> str:
        try:
            name = document_name(url, fetched.media_type)
        except RagError:
            incoming.drop()
            raise
        owner = sources.owner_of(source.id)
        accepted = await self._intake.accept(
            source.kb_id, name, incoming, {PAGE: url}, uploader=owner, source=owner
        )
        if accepted.job is None or accepted.same_as is not None:
            result.unchanged += 1
        else:
            result.read += 1
        async with self._database.transaction() as session:
            await session.merge(
                SourcePage(
                    source_id=source.id,
                    url=url,
                    document_id=accepted.document_id,
                    etag=fetched.etag,
                    last_modified=fetched.last_modified,
                )
            )
        return accepted.document_id

    async def _remove_others(
        self, source: Source, kept: set[str | None], failed: set[str], result: Result
    ) -> None:
        async with self._database.transaction() as session:
            own = await sources.documents_of(session, source.id)
        for document in own:
            if document.id in kept or document.attributes.get(PAGE) in failed:
                continue
            try:
                await self._intake.delete(source.kb_id, document.id)
                result.removed += 1
            except NotFound:
                continue  # somebody else did

    async def _write_down(self, kb: KnowledgeBase, source_id: str, result: Result) -> None:
        async with self._database.transaction() as session:
            source = await sources.get(session, kb.id, source_id)
            source.synced_at = datetime.now(UTC)
            source.result = asdict(result)

    async def _listed(self, url: str) -> list[str]:
        """The pages of a sitemap, or of the sitemaps of an index, in order, each once."""
        pages, maps = await self._sitemap(url)
        if len(maps) > MOST_SITEMAPS:
            raise FetchFailed(f"{url} lists {len(maps)} sitemaps, more than {MOST_SITEMAPS}.")
        for each in maps:
            pages += (await self._sitemap(each))[0]
            if len(pages) > self._max_pages:
                break
        if len(pages) > self._max_pages:
            raise FetchFailed(
                f"{url} lists more than {self._max_pages} pages.",
                hint="RAG_SOURCES__MAX_PAGES sets the limit.",
            )
        if not pages:
            raise FetchFailed(f"{url} lists no pages, so nothing was removed.")
        return list(dict.fromkeys(page.partition("#")[0] for page in pages))

    async def _sitemap(self, url: str) -> tuple[list[str], list[str]]:
        fetched = await self._fetcher.fetch(url)
        if fetched.incoming is None:
            raise FetchFailed(f"The sitemap {url} is gone.")
        try:
            return await asyncio.to_thread(read_sitemap, fetched.incoming.path, url)
        finally:
            fetched.incoming.drop()


def read_sitemap(path: Path, url: str) -> tuple[list[str], list[str]]:
    """The pages and the further sitemaps that a sitemap (maybe packed by gzip) lists. Raises `FetchFailed`."""
    with path.open("rb") as file:
        content = file.read(MOST_SITEMAP_BYTES + 1)
    listed: dict[str, list[str]] = {"url": [], "sitemap": []}
    try:
        if content.startswith(GZIP):
            content = zlib.decompressobj(31).decompress(
                content, MOST_SITEMAP_BYTES + 1
            )  # 31: with gzip's head
        if len(content) > MOST_SITEMAP_BYTES:
            raise FetchFailed(f"The sitemap {url} has more than {MOST_SITEMAP_BYTES // 2**20} MiB.")
        parser = etree.iterparse(BytesIO(content), resolve_entities=False, no_network=True, load_dtd=False)
        for _, element in parser:
            entry = element.getparent()
            if etree.QName(element).localname == "loc" and entry is not None and element.text:
                listed.setdefault(etree.QName(entry).localname, []).append(element.text.strip())
            elif entry is not None and etree.QName(element).localname in ("url", "sitemap"):
                element.clear()
                while element.getprevious() is not None:  # what was read takes no memory
                    del entry[0]
    except (etree.LxmlError, zlib.error, ValueError) as error:
        raise FetchFailed(f"{url} is no sitemap: {error}.") from error
    return listed["url"], listed["sitemap"]


def document_name(url: str, media_type: str) -> str:
    """The name of a page's document: host and path, with an extension that says what it is.

    Raises `InvalidValue` if it is too long.
    """
    address = httpx.URL(url)
    path = unquote(address.path)
    name = f"{address.host}{path}" + ("index" if path.endswith("/") else "")
    if address.query:
        name += "?" + address.query.decode("ascii")
    known = {extension for each in FORMATS for extension in each.extensions}
    if PurePath(path).suffix.lower() not in known or address.query:
        name += EXTENSIONS.get(media_type, "")
    return clean_name(name)
