"""How many requests come, and how long do they take? Counted around the whole application."""

from __future__ import annotations

import time
from collections.abc import Mapping

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Seconds. A search takes some 30 ms, a model's answer many seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
NO_ROUTE = "none"  # what no endpoint answered, and files of the page: clients must not make labels
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traffic:
    """The requests of one application since it started, in a registry of their own, and what the process uses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "rag_http_requests",
            "Requests that were answered, by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "rag_http_request_duration_seconds",
            "From a request's arrival to the last byte of its answer, streams included.",
            ("route", "method"),
            buckets=BUCKETS,
            registry=self.registry,
        )

    def add(self, route: str, method: str, status: int, seconds: float) -> None:
        method = method if method in METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)


class CountTraffic:
    """Adds each request of `app` to `traffic`. `paths` names its endpoints."""

    def __init__(self, app: ASGIApp, traffic: Traffic, paths: Mapping[object, str]) -> None:
        self._app = app
        self._traffic = traffic
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # unless an answer begins: what is raised here is answered outside
        start = time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = self._paths.get(scope.get("endpoint"), NO_ROUTE)
            self._traffic.add(route, scope["method"], status, time.perf_counter() - start)


def paths(app: FastAPI) -> dict[object, str]:
    """The whole path of each endpoint; its route does not know the prefix that the router was given."""
    return {
        context.original_route.endpoint: str(context.path)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
    }
