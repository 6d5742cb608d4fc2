"""What does a sitemap list, and what are its pages called?"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ingest.fetch import FetchFailed
from ingest.sync import document_name, read_sitemap

NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
URL = "https://example.com/sitemap.xml"


def read(folder: Path, content: bytes) -> tuple[list[str], list[str]]:
    (folder / "map").write_bytes(content)
    return read_sitemap(folder / "map", URL)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_sitemap_lists_pages_and_an_index_sitemaps(tmp_path: Path, pack: object) -> None:
    pages = (
        f"<urlset {NAMESPACE} xmlns:image='i'><url><loc> https://example.com/a </loc><image:image>"
        "<image:loc>https://example.com/a.png</image:loc></image:image></url>"
        "<!-- comment --><url><loc>https://example.com/b?x=1&amp;y=2</loc><lastmod>2026-01-01</lastmod></url></urlset>"
    )
    assert callable(pack)
    assert read(tmp_path, pack(pages.encode())) == (
        ["https://example.com/a", "https://example.com/b?x=1&y=2"],
        [],
    )
    index = (
        f"<sitemapindex {NAMESPACE}><sitemap><loc>https://example.com/1.xml</loc></sitemap></sitemapindex>"
    )
    assert read(tmp_path, pack(index.encode())) == ([], ["https://example.com/1.xml"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>Not found",
        b"just text",
        b"\x1f\x8b broken",
        gzip.compress(b"<urlset>" + b" " * 11 * 2**20),
        b"<urlset>" + b" " * 11 * 2**20,
        b'<!DOCTYPE u [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (c, b"&%c;" % (c - 1) * 100) for c in b"bcdefghi")
        + b"]><urlset><url><loc>&i;</loc></url></urlset>",
    ],
    ids=["empty", "a page", "text", "broken gzip", "gzip bomb", "too long", "entity bomb"],
)
def test_what_is_no_sitemap_is_refused_in_words_or_lists_nothing(tmp_path: Path, content: bytes) -> None:
    try:
        assert read(tmp_path, content) == ([], [])
    except FetchFailed as error:
        assert URL in error.message


def test_entities_do_not_read_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("https://example.com/secret")
    content = (
        f'<!DOCTYPE u [<!ENTITY s SYSTEM "{secret.as_uri()}">]><urlset><url><loc>&s;</loc></url></urlset>'
    )
    assert read(tmp_path, content.encode()) == ([], [])


@pytest.mark.parametrize(
    ("url", "media_type", "name"),
    [
        ("https://example.com/", "text/html", "example.com/index.html"),
        ("https://example.com/docs/", "text/html", "example.com/docs/index.html"),
        ("https://example.com/docs/leave", "text/html", "example.com/docs/leave.html"),
        ("https://example.com/leave.html", "text/html", "example.com/leave.html"),
        ("https://example.com/a.pdf", "application/octet-stream", "example.com/a.pdf"),
        ("https://example.com/show?id=3", "text/html", "example.com/show?id=3.html"),
        ("https://example.com/v1.2", "text/html", "example.com/v1.2.html"),
        ("https://example.com/%E5%81%87", "text/html", "example.com/假.html"),
        ("https://example.com/a/../../b", "text/plain", "example.com/b.txt"),
        ("https://example.com/%2e%2e/%2e%2e/b", "text/plain", "example.com/b.txt"),
    ],
)
def test_a_page_is_named_by_its_address(url: str, media_type: str, name: str) -> None:
    assert document_name(url, media_type) == name
