"""How is something read from the web, and nothing else reached by it?

Only addresses that the settings allow (`Allowed`) are asked, at every redirect anew. A host's name is looked up once,
the addresses it has are checked, and the connection goes to the very address that was checked: a name that resolves to
another one a moment later (DNS rebinding) gains nothing. No proxies, no cookies, no credentials.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from core.errors import InvalidValue, RagError
from ingest.files import FileStore, Incoming

MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
GONE = (404, 410)
NOT_MODIFIED = 304
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
AGENT = "rag-service"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRefused(InvalidValue):
    """The service may not fetch this address."""

    code = "address-refused"


class FetchFailed(RagError):
    """An address of the web could not be read."""

    status = 502
    code = "fetch-failed"
    retryable = True  # by the job that reads it; no client waits for this error


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be fetched: `hosts` such as `docs.example.com`, `*.example.com` (also with a port), and `networks`
    of private addresses, of which there are none unless they are named."""

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    def check(self, address: str) -> httpx.URL:
        """The address, in its normal form and without a fragment. Raises `AddressRefused`."""
        try:
            url = httpx.URL(address).copy_with(fragment=None)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise AddressRefused(f"{address[:200]!r} is no address: {error}.") from None
        if url.scheme not in PORTS or not url.host:
            raise AddressRefused(f"{address[:200]} is no address of the web (http or https).")
        if url.userinfo:
            raise AddressRefused("Addresses with a user or password are not fetched.")
        if not any(_fits(url, host) for host in self.hosts):
            raise AddressRefused(
                f"{url.host} is not among the hosts that may be fetched.",
                hint="RAG_SOURCES__HOSTS names them.",
            )
        return url

    def permits(self, address: str) -> bool:
        """Whether a connection to this IP address may be made."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        inner = _embedded(ip)
        if inner is not None:
            return self.permits(str(inner))
        return any(ip in network for network in self.networks) or (ip.is_global and not ip.is_multicast)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of it: a file (use it up), nothing new (`unchanged`), or nothing any more (`gone`)."""

    incoming: Incoming | None = None
    unchanged: bool = False
    gone: bool = False
    media_type: str = ""
    etag: str | None = None
    last_modified: str | None = None


class Fetcher:
    """Fetches what `allowed` allows, at most `max_bytes` in at most `timeout_s` seconds, redirects included."""

    def __init__(self, files: FileStore, allowed: Allowed, *, max_bytes: int, timeout_s: float) -> None:
        self.allowed = allowed
        self._files = files
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def fetch(
        self, address: str, *, etag: str | None = None, last_modified: str | None = None
    ) -> Fetched:
        """GET the address, unless it is as `etag` and `last_modified` say.

        Raises `AddressRefused`, `FetchFailed`, `TooLarge`.
        """
        conditions = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
        headers |= {name: value for name, value in conditions.items() if value}
        try:
            async with asyncio.timeout(self._timeout_s), self._pool() as pool:
                return await self._follow(pool, address, headers)
        except TimeoutError:
            raise FetchFailed(f"{address} took longer than {self._timeout_s:g} s.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise FetchFailed(f"{address} cannot be read: {error or type(error).__name__}.") from error

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[httpcore.AsyncConnectionPool]:
        backend = _CheckedConnections(self.allowed)
        async with httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(), network_backend=backend, max_connections=1
        ) as pool:
            yield pool

    async def _follow(
        self, pool: httpcore.AsyncConnectionPool, address: str, headers: dict[str, str]
    ) -> Fetched:
        url = self.allowed.check(address)
        for _ in range(MOST_REDIRECTS + 1):
            sent = [("Host", url.netloc.decode("ascii")), *headers.items()]
            async with pool.stream("GET", _for_httpcore(url), headers=sent) as response:
                if response.status not in REDIRECTS:
                    return await self._receive(url, response)
                target = _header(response, b"location") or ""
            following = self.allowed.check(str(url.join(_location(target))))
            if url.scheme == "https" and following.scheme == "http":
                raise AddressRefused(f"{url} leads to {following}, which is not encrypted.")
            url = following
        raise FetchFailed(f"{address} leads on more than {MOST_REDIRECTS} times.")

    async def _receive(self, url: httpx.URL, response: httpcore.Response) -> Fetched:
        if response.status == NOT_MODIFIED:
            return Fetched(unchanged=True)
        if response.status in GONE:
            return Fetched(gone=True)
        if response.status != 200:
            raise FetchFailed(f"{url} answers {response.status}.")
        if (_header(response, b"content-encoding") or "identity").lower() != "identity":
            raise FetchFailed(f"{url} answers in a packed form that was not asked for.")
        incoming = await self._files.receive(response.aiter_stream(), max_bytes=self._max_bytes)
        return Fetched(
            incoming,
            media_type=(_header(response, b"content-type") or "").partition(";")[0].strip().lower(),
            etag=_header(response, b"etag"),
            last_modified=_header(response, b"last-modified"),
        )


class _CheckedConnections(httpcore.AsyncNetworkBackend):
    """Looks a name up, checks all its addresses, and connects to the first of them, not to the name."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await lookup(host, port)
        for address in addresses:
            if not self._allowed.permits(address):
                raise AddressRefused(
                    f"{host} is at {address}, which is no public address.",
                    hint="RAG_SOURCES__PRIVATE_NETWORKS names the private ones that may be reached.",
                )
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)


async def lookup(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a host. Raises `FetchFailed`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise FetchFailed(f"{host} is not known ({error.strerror}).") from error
    return [str(each[4][0]) for each in found]


def _embedded(ip: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _fits(url: httpx.URL, pattern: str) -> bool:
    host, _, port = pattern.partition(":")
    if (url.port or PORTS[url.scheme]) not in ((int(port),) if port else PORTS.values()):
        return False
    if host.startswith("*."):
        return url.host.endswith(host[1:])
    return url.host == host


def _for_httpcore(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path or b"/")


def _header(response: httpcore.Response, name: bytes) -> str | None:
    """The last value of a header; what is not Latin letters is no header of ours."""
    for key, value in reversed(response.headers):
        if key.lower() == name:
            return value.decode("latin-1")[:1000]
    return None


def _location(target: str) -> httpx.URL:
    try:
        return httpx.URL(target)
    except httpx.InvalidURL as error:
        raise AddressRefused(f"A redirect leads to {target[:200]!r}, which is no address: {error}.") from None
