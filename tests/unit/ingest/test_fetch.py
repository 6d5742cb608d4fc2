"""Does fetching reach what it may, and nothing else, whatever the other side answers?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from web_site import Page, Site, web_site

from core.errors import TooLarge
from ingest.fetch import AddressRefused, Allowed, Fetcher, FetchFailed
from ingest.files import FileStore

HERE = (ip_network("127.0.0.0/8"),)


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    with web_site() as site:
        yield site


@pytest.fixture
def site(started: Site) -> Site:
    started.pages.clear()
    started.asked.clear()
    return started


def fetcher(
    folder: Path, *hosts: str, networks: Any = HERE, max_bytes: int = 1000, timeout_s: float = 10
) -> Fetcher:
    files = FileStore(folder)
    files.open()
    return Fetcher(files, Allowed(hosts, networks), max_bytes=max_bytes, timeout_s=timeout_s)


def here(site: Site) -> str:
    return f"127.0.0.1:{site.port}"


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "address",
    [
        "https://docs.example.com/a",
        "http://docs.example.com/?q=1",
        "https://DOCS.example.com:443/",
        "https://deep.down.example.org/",
        "http://wiki.internal:8080/x",
    ],
)
def test_hosts_that_are_named_may_be_fetched(address: str) -> None:
    Allowed(("docs.example.com", "*.example.org", "wiki.internal:8080")).check(address)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/",
        "https://docs.example.com.evil.net/",
        "https://evil-docs.example.com/",
        "https://example.org/",  # not one of those below it
        "https://evilexample.org/",
        "https://docs.example.com:8443/",
        "http://wiki.internal/",
        "https://user:secret@docs.example.com/",
        "https://docs.example.com@evil.net/",
        "ftp://docs.example.com/",
        "file:///etc/passwd",
        "gopher://docs.example.com/",
        "//docs.example.com/",
        "https:///x",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://2130706433/",
        "not an address",
        "",
        "http://docs.example.com:99999/",
        "http://docs.example.com\\@evil.net/",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        Allowed(("docs.example.com", "*.example.org", "wiki.internal:8080")).check(address)


def test_nothing_may_be_fetched_unless_it_is_named() -> None:
    with pytest.raises(AddressRefused, match="RAG_SOURCES__HOSTS"):
        Allowed().check("https://example.com/")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # where clouds keep credentials
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("198.18.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),  # 93.184.216.34
        ("2002:7f00:1::", False),
        ("2002:a9fe:a9fe::", False),
    ],
)
def test_private_addresses_are_told_from_public_ones(address: str, public: bool) -> None:
    assert Allowed().permits(address) is public
    assert Allowed(networks=(ip_network("0.0.0.0/0"), ip_network("::/0"))).permits(address)


async def test_a_page_becomes_a_file(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = Page(b"<p>hello</p>", headers={"Last-Modified": "Tue"}, etag='"1"')
    fetched = await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a")
    assert fetched.incoming is not None
    assert fetched.incoming.path.read_bytes() == b"<p>hello</p>"
    assert (fetched.media_type, fetched.etag, fetched.last_modified) == ("text/html", '"1"', "Tue")
    again = await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a", etag=fetched.etag)
    assert again.unchanged
    assert again.incoming is None


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_gone_is_told(site: Site, tmp_path: Path, status: int) -> None:
    site.pages["/a"] = Page(status=status)
    assert (await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a")).gone


@pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 418, 429, 500, 503])
async def test_other_answers_are_errors(site: Site, tmp_path: Path, status: int) -> None:
    site.pages["/a"] = Page(b"x" if status >= 400 else b"", status=status)
    with pytest.raises(FetchFailed, match=str(status)):
        await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a")
    assert left(tmp_path) == []


async def test_a_name_of_a_private_address_is_refused_though_its_host_is_allowed(
    site: Site, tmp_path: Path
) -> None:
    site.pages["/a"] = Page(b"secret")
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(AddressRefused, match="no public address"):
            reader = fetcher(tmp_path, f"{host}:{site.port}", networks=())
            await reader.fetch(f"http://{host}:{site.port}/a")
    assert site.asked == []


async def test_redirects_are_followed_to_allowed_addresses(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = Page(status=302, headers={"Location": "/deep/b"})
    site.pages["/deep/b"] = Page(status=308, headers={"Location": f"{site.url}/c"})
    site.pages["/c"] = Page(b"here")
    fetched = await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a")
    assert fetched.incoming is not None
    assert fetched.incoming.path.read_bytes() == b"here"


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost:{port}/secret",
        "http://127.0.0.1:1/secret",
        "//127.0.0.2:{port}/secret",
        "http://user:pw@127.0.0.1:{port}/secret",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/secret",
        "javascript:alert(1)",
        "http://[::1]:{port}/secret",
        "http://[bad",
    ],
)
@pytest.mark.parametrize("hops", [1, 3])
async def test_hostile_redirects_are_refused_at_every_hop(
    site: Site, tmp_path: Path, location: str, hops: int
) -> None:
    site.pages["/secret"] = Page(b"secret")
    for number in range(1, hops):
        site.pages[f"/{number}"] = Page(status=302, headers={"Location": f"/{number + 1}"})
    site.pages[f"/{hops}"] = Page(status=302, headers={"Location": location.format(port=site.port)})
    with pytest.raises(AddressRefused):
        await fetcher(tmp_path, here(site)).fetch(f"{site.url}/1")
    assert "/secret" not in [path for path, _ in site.asked]
    assert left(tmp_path) == []


async def test_a_redirect_to_an_allowed_name_of_a_private_address_is_refused(
    site: Site, tmp_path: Path
) -> None:
    site.pages["/secret"] = Page(b"secret")
    site.pages["/a"] = Page(status=302, headers={"Location": f"http://localhost:{site.port}/secret"})
    reader = fetcher(tmp_path, here(site), f"localhost:{site.port}", networks=(ip_network("127.0.0.0/32"),))
    with pytest.raises(AddressRefused):
        await reader.fetch(f"{site.url}/a")


async def test_redirects_in_a_circle_end(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = Page(status=302, headers={"Location": "/a"})
    with pytest.raises(FetchFailed, match="more than 5 times"):
        await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a")
    assert len(site.asked) == 6


async def test_a_redirect_that_leads_nowhere_is_an_error(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = Page(status=302)
    with pytest.raises(FetchFailed):
        await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a")


async def test_the_connection_goes_to_the_address_that_was_checked(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that changes its address between two look-ups: there is no second one."""
    site.pages["/a"] = Page(b"here")
    asked: list[str] = []

    def fake_rebinding(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.99"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", fake_rebinding)
    fetched = await fetcher(tmp_path, f"rebind.example:{site.port}").fetch(
        f"http://rebind.example:{site.port}/a"
    )
    assert fetched.incoming is not None
    assert asked == ["rebind.example"]


async def test_a_name_with_one_private_address_among_public_ones_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake_mixed(host: str, port: int, *_: object, **__: object) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("93.184.216.34", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", fake_mixed)
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1, which is no public address"):
        await fetcher(tmp_path, f"mixed.example:{site.port}", networks=()).fetch(
            f"http://mixed.example:{site.port}/a"
        )


async def test_too_much_and_too_slow_end_and_leave_nothing(site: Site, tmp_path: Path) -> None:
    site.pages["/large"] = Page(b"x" * 500, pieces=3)
    with pytest.raises(TooLarge):
        await fetcher(tmp_path, here(site)).fetch(f"{site.url}/large")
    site.pages["/slow"] = Page(b"x", pieces=100, pause_s=0.1)
    with pytest.raises(FetchFailed, match="longer than"):
        await fetcher(tmp_path, here(site), timeout_s=0.5).fetch(f"{site.url}/slow")
    assert left(tmp_path) == []


async def test_packed_answers_that_were_not_asked_for_are_refused(site: Site, tmp_path: Path) -> None:
    site.pages["/a"] = Page(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchFailed, match="packed"):
        await fetcher(tmp_path, here(site)).fetch(f"{site.url}/a")


async def test_a_server_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="cannot be read"):
        await fetcher(tmp_path, "127.0.0.1:1").fetch("http://127.0.0.1:1/a")
    with pytest.raises(FetchFailed, match="is not known"):
        await fetcher(tmp_path, "no-such-host.invalid").fetch("http://no-such-host.invalid/")
