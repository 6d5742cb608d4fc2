"""`/metrics` as Prometheus reads it: the text is parsed by its own parser, and the numbers are what was done."""

from __future__ import annotations

import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_service import Running

from core.db.kbs import Size
from rag_service.api import metrics

LEAVE_MD = "# Leave\n\nParental leave is 16 weeks. The company pays for all of it.\n"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(service: Running) -> Samples:
    response = service.client.get(service.url + "/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_jobs_are_counted_by_kind_and_status_while_they_wait_fail_and_are_done(service: Running) -> None:
    service.new_kb("jobs")
    service.upload("jobs", {"leave.md": LEAVE_MD, "broken.docx": b"PK\x03\x04 not an archive"})
    time.sleep(0.1)
    waiting = read(service)
    queued = value(waiting, "rag_jobs", kind="ingest", status="queued")
    assert queued >= 1
    assert value(waiting, "rag_jobs_oldest_waiting_seconds") >= 0.1
    service.work()
    done = read(service)
    assert value(done, "rag_jobs", kind="ingest", status="queued") == 0
    assert value(done, "rag_jobs", kind="ingest", status="failed") == queued - 1
    assert value(done, "rag_jobs", kind="move-kb", status="running") == 0
    assert value(done, "rag_jobs_oldest_waiting_seconds") == 0


def test_documents_and_chunks_are_counted_for_each_knowledge_base(service: Running) -> None:
    service.new_kb("员工")
    service.new_kb("empty")
    service.upload("员工", {f"{n}.md": f"# Rule {n}\n\nRule {n} is about {n} things.\n" for n in range(3)})
    before = read(service)
    assert value(before, "rag_documents", kb="员工", status="queued") == 3
    assert value(before, "rag_chunks", kb="员工") == 0
    service.work()
    after = read(service)
    assert value(after, "rag_documents", kb="员工", status="ready") == 3
    assert value(after, "rag_documents", kb="员工", status="queued") == 0
    assert value(after, "rag_chunks", kb="员工") == 3
    assert (
        value(after, "rag_chunks", kb="empty")
        == value(after, "rag_documents", kb="empty", status="ready")
        == 0
    )


def test_beyond_so_many_knowledge_bases_the_small_ones_are_one(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert metrics._bounded([Size("a", {"ready": 1}, 9)] * metrics.MOST_KBS)[-1].name == "a"
    for n in range(3):
        service.new_kb(f"small-{n}")
    whole = read(service)
    monkeypatch.setattr(metrics, "MOST_KBS", 1)
    bounded = read(service)
    assert sum(name == "rag_chunks" for name, _ in bounded) == 2
    assert ("rag_chunks", frozenset({("kb", metrics.OTHERS)})) in bounded
    for name in ("rag_chunks", "rag_documents"):
        totals = [sum(v for (n, _), v in samples.items() if n == name) for samples in (whole, bounded)]
        assert totals[0] == totals[1] > 0


def test_the_last_checks_counts_are_there_once_there_was_one(service: Running) -> None:
    assert not any(name.startswith("rag_fsck") for name, _ in read(service))
    (service.settings.files_dir / "ab").mkdir(exist_ok=True)
    (service.settings.files_dir / "ab" / ("ab" + "0" * 62)).write_text("nobody's")
    service.client.post("/fsck", json={})
    while service.loop.run(service.worker.checker.run_due()):
        pass
    found = read(service)
    assert value(found, "rag_fsck_problems", kind="orphan-file") == 1
    assert value(found, "rag_fsck_problems", kind="missing-records") == 0
    assert value(found, "rag_fsck_unchecked") == 1  # redis: nobody answers there
    assert abs(value(found, "rag_fsck_last_end_timestamp_seconds") - time.time()) < 60
    service.client.post("/fsck", json={"mend": True})
    while service.loop.run(service.worker.checker.run_due()):
        pass
    assert value(read(service), "rag_fsck_problems", kind="orphan-file") == 0


def test_requests_are_counted_by_route_method_and_status_and_timed(service: Running) -> None:
    def count(samples: Samples, route: str, status: str, method: str = "GET") -> float:
        labels = frozenset({("route", route), ("method", method), ("status", status)})
        return samples.get(("rag_http_requests_total", labels), 0.0)

    before = read(service)
    service.new_kb("counted")
    service.client.get("/kbs/counted")
    service.client.get("/kbs/absent-1")
    service.client.get("/kbs/absent-2")
    service.client.put("/kbs")
    service.client.get("/no/such/thing")
    service.client.request("BREW", "/kbs")
    after = read(service)
    added = {
        key: count(after, *key) - count(before, *key)
        for key in [
            ("/api/v1/kbs", "201", "POST"),
            ("/api/v1/kbs/{kb}", "200", "GET"),
            ("/api/v1/kbs/{kb}", "404", "GET"),
            ("/api/v1/kbs", "405", "PUT"),
            ("/api/v1/kbs", "405", "other"),
            ("none", "404", "GET"),
            ("/metrics", "200", "GET"),
        ]
    }
    assert added == dict(zip(added, (1, 1, 2, 1, 1, 1, 1), strict=True))
    timed = {"route": "/api/v1/kbs/{kb}", "method": "GET"}
    assert value(after, "rag_http_request_duration_seconds_count", **timed) >= 3
    assert 0 < value(after, "rag_http_request_duration_seconds_sum", **timed) < 60
    assert value(after, "rag_http_request_duration_seconds_bucket", **timed, le="120.0") >= 3
    assert not any("absent" in text for _, labels in after for _, text in labels)
    assert value(after, "process_resident_memory_bytes") > 0


def test_metrics_need_a_key_and_a_readers_is_enough(service: Running) -> None:
    assert httpx.get(service.url + "/metrics").status_code == 401
    made = service.client.post("/keys", json={"name": "prometheus", "role": "reader"}).json()
    with service.as_(made["key"]) as reader:
        assert reader.get(service.url + "/metrics").status_code == 200
        assert made["key"] not in reader.get(service.url + "/metrics").text
    service.client.delete(f"/keys/{made['id']}")
