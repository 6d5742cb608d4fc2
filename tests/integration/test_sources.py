"""Does a knowledge base follow the web: what changed is read, what is gone goes, what only fails stays?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from running_service import Running, running_service
from web_site import Page, Site, web_site


@pytest.fixture(scope="module")
def started() -> Iterator[Site]:
    with web_site() as site:
        yield site


@pytest.fixture(scope="module")
def service(
    started: Site,
    new_database: Callable[[], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    settings = {
        "RAG_SOURCES__HOSTS": f"127.0.0.1:{started.port}",
        "RAG_SOURCES__PRIVATE_NETWORKS": "127.0.0.0/8",
        "RAG_SOURCES__MAX_PAGES": "10",
        "RAG_WORKER__MAX_ATTEMPTS": "1",
    }
    with new_database() as url, running_service(url, tmp_path_factory.mktemp("data"), **settings) as running:
        yield running


@pytest.fixture
def site(started: Site) -> Site:
    started.pages.clear()
    started.asked.clear()
    return started


@pytest.fixture
def kb(service: Running, request: pytest.FixtureRequest) -> str:
    return service.new_kb(re.sub(r"\W", "-", request.node.name.removeprefix("test_"))[:60])


def page(text: str, version: int = 1) -> Page:
    html = f"<html><head><title>{text}</title></head><body><p>{text}, says the page.</p></body></html>"
    return Page(html.encode(), etag=f'"{text} {version}"')


def listing(site: Site, *paths: str) -> Page:
    entries = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in paths)
    return Page(f"<urlset>{entries}</urlset>".encode(), media_type="application/xml")


def three_pages(site: Site) -> None:
    site.pages["/a"], site.pages["/b"] = page("Apples are red"), page("Pears are green")
    site.pages["/c/"] = page("Plums are blue")
    site.pages["/sitemap.xml"] = listing(site, "/a", "/b", "/c/")


def add(service: Running, kb: str, url: str, **options: Any) -> str:
    response = service.client.post(f"/kbs/{kb}/sources", json={"url": url, **options})
    assert response.status_code == 201, response.text
    service.work()
    source_id: str = response.json()["id"]
    return source_id


def sync(service: Running, kb: str, source: str) -> dict[str, Any]:
    """The result's counts."""
    response = service.client.post(f"/kbs/{kb}/sources/{source}/sync")
    assert response.status_code == 202, response.text
    service.work()
    return counts(service, kb, source)


def counts(service: Running, kb: str, source: str) -> dict[str, Any]:
    items = service.client.get(f"/kbs/{kb}/sources").json()["items"]
    (result,) = (item["result"] for item in items if item["id"] == source)
    return {name: count for name, count in result.items() if name != "errors" and count}


def names(service: Running, kb: str) -> list[str]:
    items = service.client.get(f"/kbs/{kb}/documents").json()["items"]
    return [item["name"].partition("/")[2] for item in items]


def test_the_pages_of_a_sitemap_become_documents_and_stay_in_step(
    service: Running, kb: str, site: Site
) -> None:
    three_pages(site)
    source = add(service, kb, f"{site.url}/sitemap.xml", kind="sitemap")
    assert counts(service, kb, source) == {"read": 3}
    assert names(service, kb) == ["a.html", "b.html", "c/index.html"]
    (found, *_) = service.search(kb, "plums")
    assert "blue" in found["text"]
    site.asked.clear()
    assert sync(service, kb, source) == {"unchanged": 3}
    assert [status for path, status in site.asked if path != "/sitemap.xml"] == [304, 304, 304]
    site.pages["/b"] = page("Pears are yellow", 2)
    site.pages["/d"] = page("Cherries are sweet")
    site.pages["/sitemap.xml"] = listing(site, "/b", "/c/", "/d")
    assert sync(service, kb, source) == {"read": 2, "unchanged": 1, "removed": 1}
    assert names(service, kb) == ["b.html", "c/index.html", "d.html"]
    assert "yellow" in service.search(kb, "pears")[0]["text"]


def test_what_only_fails_stays_and_what_is_gone_goes(service: Running, kb: str, site: Site) -> None:
    three_pages(site)
    source = add(service, kb, f"{site.url}/sitemap.xml", kind="sitemap")
    site.pages["/a"] = Page(status=500)
    site.pages["/b"] = Page(status=302, headers={"Location": "http://169.254.169.254/"})
    site.pages["/c/"] = Page(status=410)
    assert sync(service, kb, source) == {"failed": 2, "removed": 1}
    assert names(service, kb) == ["a.html", "b.html"]
    (item,) = service.client.get(f"/kbs/{kb}/sources").json()["items"]
    assert [error["code"] for error in item["result"]["errors"]] == ["fetch-failed", "address-refused"]


@pytest.mark.parametrize("trouble", ["away", "gone", "empty", "no-sitemap", "too-many"])
def test_a_sitemap_that_cannot_be_read_removes_nothing(
    service: Running, kb: str, site: Site, trouble: str
) -> None:
    three_pages(site)
    source = add(service, kb, f"{site.url}/sitemap.xml", kind="sitemap")
    site.pages["/sitemap.xml"] = {
        "away": Page(status=503),
        "gone": Page(status=404),
        "empty": listing(site),
        "no-sitemap": Page(b"<html>Welcome"),
        "too-many": listing(site, *(f"/{number}" for number in range(11))),
    }[trouble]
    assert sync(service, kb, source) == {"failed": 1}
    assert names(service, kb) == ["a.html", "b.html", "c/index.html"]
    (job, *_) = service.client.get(f"/kbs/{kb}/jobs").json()["items"]
    assert (job["kind"], job["status"]) == ("sync-source", "failed")


def test_only_a_sources_own_documents_are_removed(service: Running, kb: str, site: Site) -> None:
    three_pages(site)
    service.upload(kb, {"by-hand.md": "# By hand\n\nNo page has this.\n"})
    single = add(service, kb, f"{site.url}/a")
    source = add(service, kb, f"{site.url}/sitemap.xml", kind="sitemap")
    assert counts(service, kb, source) == {"read": 2, "failed": 1}  # that page is the other source's
    site.pages["/sitemap.xml"] = listing(site, "/b")
    assert sync(service, kb, source) == {"unchanged": 1, "removed": 1}
    assert service.client.delete(f"/kbs/{kb}/sources/{source}").status_code == 204
    service.work()
    assert names(service, kb) == ["a.html", ""]
    assert service.client.delete(f"/kbs/{kb}/sources/{single}", params={"keep": True}).status_code == 204
    service.work()
    assert names(service, kb) == ["a.html", ""]
    assert service.client.get(f"/kbs/{kb}/sources").json()["items"] == []


def test_a_page_whose_document_was_deleted_is_fetched_again(service: Running, kb: str, site: Site) -> None:
    three_pages(site)
    source = add(service, kb, f"{site.url}/a")
    (document,) = service.client.get(f"/kbs/{kb}/documents").json()["items"]
    assert document["attributes"] == {"url": f"{site.url}/a"}
    service.client.delete(f"/kbs/{kb}/documents/{document['id']}")
    service.work()
    assert sync(service, kb, source) == {"read": 1}
    assert names(service, kb) == ["a.html"]


def test_two_pages_with_the_same_bytes_are_one_document_until_one_goes(
    service: Running, kb: str, site: Site
) -> None:
    site.pages["/a"] = site.pages["/b"] = page("Apples are red")
    site.pages["/sitemap.xml"] = listing(site, "/a", "/b")
    source = add(service, kb, f"{site.url}/sitemap.xml", kind="sitemap")
    assert names(service, kb) == ["a.html"]
    site.pages["/sitemap.xml"] = listing(site, "/b")
    sync(service, kb, source)
    assert "red" in service.search(kb, "apples")[0]["text"]


@pytest.mark.parametrize("next_at", ["now()", "now() + interval '1 day'"], ids=["now", "the clock went back"])
def test_a_source_with_an_interval_is_synchronised_when_it_is_time(
    service: Running, kb: str, site: Site, next_at: str
) -> None:
    three_pages(site)
    source = add(service, kb, f"{site.url}/a", interval_s=3600)
    queued = "SELECT count(*) FROM jobs WHERE kind = 'sync-source' AND status = 'queued' AND detail->>'source' = %s"
    service.loop.run(service.worker.syncer.queue_due())
    assert service.rows(queued, source) == [(0,)]
    due = f"UPDATE sources SET next_at = {next_at} WHERE id = %s RETURNING id"
    service.rows(due, source)
    for _ in range(3):
        service.loop.run(service.worker.syncer.queue_due())
    assert service.rows(queued, source) == [(1,)]
    assert service.client.post(f"/kbs/{kb}/sources/{source}/sync").status_code == 409
    service.work()
    changed = service.client.patch(f"/kbs/{kb}/sources/{source}", json={"interval_s": None}).json()
    assert (changed["interval_s"], changed["next_at"]) == (None, None)


def test_only_allowed_addresses_can_be_added_and_only_by_admins(
    service: Running, kb: str, site: Site
) -> None:
    three_pages(site)
    for url in (
        "https://example.com/",
        "http://127.0.0.1:1/",
        "file:///etc/passwd",
        f"http://localhost:{site.port}/",
    ):
        response = service.client.post(f"/kbs/{kb}/sources", json={"url": url})
        assert (response.status_code, response.json()["code"]) == (422, "address-refused")
    body = {"url": f"{site.url}/a"}
    key = service.client.post("/keys", json={"name": "r", "role": "reader"}).json()["key"]
    with service.as_(key) as reader:
        assert reader.post(f"/kbs/{kb}/sources", json=body).status_code == 403
        assert reader.get(f"/kbs/{kb}/sources").status_code == 200
    add(service, kb, **body)
    assert service.client.post(f"/kbs/{kb}/sources", json=body).status_code == 409
    assert service.client.post(f"/kbs/{kb}/sources/no-such/sync").status_code == 404


def test_the_commands_add_list_synchronise_and_remove(service: Running, kb: str, site: Site) -> None:
    three_pages(site)
    added = service.command(
        "sources", "add", f"{site.url}/sitemap.xml", "--sitemap", "--kb", kb, "--every", "600"
    )
    assert added.exit_code == 0, added.output
    service.work()
    listed = service.command("sources", "list", "--kb", kb).output
    source = listed.splitlines()[1].split()[0]
    assert "600 s" in listed
    assert "3 read" in listed
    assert service.command("sources", "sync", source, "--kb", kb).output == "3 unchanged\n"
    site.pages["/a"] = Page(status=500)
    assert service.command("sources", "sync", source, "--kb", kb).exit_code == 1
    *_, reason = service.command("sources", "list", "--kb", kb).output.splitlines()
    assert reason.startswith(source)
    assert "500" in reason
    assert "only when asked for" in service.command("sources", "change", source, "--kb", kb).output
    assert service.command("sources", "remove", source, "--kb", kb).output == f"Removed {source}.\n"
    service.work()
    assert names(service, kb) == []
