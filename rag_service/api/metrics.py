"""`/metrics`: what an operator watches, in Prometheus' text format.

What the database knows (jobs, sizes, the last check) is the same from every API process; requests, answers under way
and what the process uses are this process's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.db import checks, jobs, kbs
from core.db.kbs import Size
from core.db.models import UNFINISHED, Check, DocumentStatus, JobKind
from ingest.fsck import Trouble
from models.llm.limits import LimitedLLM
from rag_service.api.deps import AnyKey, Services
from rag_service.api.traffic import Traffic
from rag_service.wiring import ApiServices

router = APIRouter(tags=["metrics"])
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_KBS = 200  # that have series of their own: each is five
OTHERS = "(others)"  # the smaller ones together; no knowledge base can have this name


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, services: Services, _: AnyKey) -> Response:
    """Numbers for Prometheus: jobs, documents and chunks, the last check, requests, answers under way."""
    traffic: Traffic = request.app.state.traffic
    everything = _Everything(await _snapshot(services), _answers(services), traffic)
    return Response(generate_latest(everything), media_type=MEDIA_TYPE)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What the database said."""

    jobs: dict[tuple[str, str], int]
    oldest_waiting_s: float
    sizes: Sequence[Size]
    check: Check | None


async def _snapshot(services: ApiServices) -> _Snapshot:
    async with services.database.transaction() as session:
        return _Snapshot(
            await jobs.counts(session),
            await jobs.oldest_waiting_s(session) or 0.0,
            _bounded(await kbs.sizes(session)),
            await checks.last_report(session),
        )


def _bounded(sizes: Sequence[Size]) -> Sequence[Size]:
    """The largest, and the others as one, so that sums stay right."""
    rest = sizes[MOST_KBS:]
    if not rest:
        return sizes
    documents = sum((Counter(size.documents) for size in rest), Counter[str]())
    return [*sizes[:MOST_KBS], Size(OTHERS, documents, sum(size.chunks for size in rest))]


def _answers(services: ApiServices) -> dict[tuple[str, str], int]:
    """Answers of each language model that are being written, and that wait for their turn."""
    limited = {name: llm for name, llm in services.llms.items() if isinstance(llm, LimitedLLM)}
    running = {(name, "running"): llm.running for name, llm in limited.items()}
    return running | {(name, "waiting"): llm.waiting for name, llm in limited.items()}


@dataclass(frozen=True, slots=True)
class _Everything(Collector):
    """All series of one reading."""

    snapshot: _Snapshot
    answers: dict[tuple[str, str], int]
    traffic: Traffic

    def collect(self) -> Iterator[Metric]:
        yield from _of_jobs(self.snapshot)
        yield from _of_kbs(self.snapshot.sizes)
        if self.snapshot.check is not None:
            yield from _of_check(self.snapshot.check)
        yield _gauge(
            "rag_llm_answers",
            "Answers of each language model that are being written (running) or wait for their turn.",
            ("model", "state"),
            self.answers.items(),
        )
        yield from self.traffic.registry.collect()


def _of_jobs(snapshot: _Snapshot) -> Iterator[Metric]:
    none = {(kind.value, status.value): 0 for kind in JobKind for status in UNFINISHED}
    yield _gauge(
        "rag_jobs",
        "Jobs that wait, run, or failed and wait for somebody to look.",
        ("kind", "status"),
        (none | snapshot.jobs).items(),
    )
    yield _gauge(
        "rag_jobs_oldest_waiting_seconds",
        "How long the oldest job that could begin has waited; 0 if none waits.",
        (),
        [((), snapshot.oldest_waiting_s)],
    )


def _of_kbs(sizes: Sequence[Size]) -> Iterator[Metric]:
    documents = {
        (size.name, status.value): size.documents.get(status, 0)
        for size in sizes
        for status in DocumentStatus
    }
    yield _gauge(
        "rag_documents", "Documents of each knowledge base by status.", ("kb", "status"), documents.items()
    )
    yield _gauge(
        "rag_chunks",
        "Chunks of each knowledge base that readers can find.",
        ("kb",),
        [((size.name,), size.chunks) for size in sizes],
    )


def _of_check(check: Check) -> Iterator[Metric]:
    report = check.report or {}
    mended = report.get("mended", {})
    found = {trouble.value: report.get("found", {}).get(trouble.value, 0) for trouble in Trouble}
    yield _gauge(
        "rag_fsck_problems",
        "What the last check of rows, files and stores found and did not mend.",
        ("kind",),
        [((kind,), number - mended.get(kind, 0)) for kind, number in found.items()],
    )
    yield _gauge(
        "rag_fsck_unchecked",
        "What the last check could not look at, such as a store that was away.",
        (),
        [((), len(report.get("unchecked", ())))],
    )
    if check.finished_at is not None:
        yield _gauge(
            "rag_fsck_last_end_timestamp_seconds",
            "When the last check came to its end.",
            (),
            [((), check.finished_at.timestamp())],
        )


def _gauge(
    name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family
