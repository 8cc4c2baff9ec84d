"""What the server counts, as Prometheus reads it. The only file that imports prometheus-client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Bounds of the histograms of times."""


class Counts:
    """Counters of one server.

    Args:
        active: gives the answers that are being written.
        waiting: gives the requests that wait.
    """

    def __init__(self, active: Callable[[], float], waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("sartor_requests", "Requests", ("route", "model", "status"), registry=self._registry)
        self._tokens = Counter("sartor_tokens", "Tokens", ("model", "kind"), registry=self._registry)
        self._ended = Counter(
            "sartor_answers", "Answers by why they ended", ("model", "ended"), registry=self._registry
        )
        self._seconds = Histogram(
            "sartor_seconds", "Seconds to the end", ("model",), buckets=SECONDS, registry=self._registry
        )
        self._first = Histogram(
            "sartor_first_token_seconds",
            "Seconds to the first piece",
            ("model",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._shadows = Counter(
            "sartor_shadows", "Answers of the shadow, made or dropped", ("model", "outcome"), registry=self._registry
        )
        self._unlogged = Counter(
            "sartor_unlogged", "Answers that the request log could not take", registry=self._registry
        )
        Gauge("sartor_active", "Answers being written", registry=self._registry).set_function(active)
        Gauge("sartor_waiting", "Requests waiting", registry=self._registry).set_function(waiting)

    def request(self, route: str, model: str, status: int) -> None:
        """A request has been answered."""
        self._requests.labels(route, model, str(status)).inc()

    def first(self, model: str, seconds: float) -> None:
        """The first piece of an answer has come."""
        self._first.labels(model).observe(seconds)

    def answer(self, model: str, ended: str, *, prompt: int, made: int, seconds: float) -> None:
        """An answer is over."""
        self._ended.labels(model, ended).inc()
        self._tokens.labels(model, "prompt").inc(prompt)
        self._tokens.labels(model, "completion").inc(made)
        self._seconds.labels(model).observe(seconds)

    def shadow(self, model: str, outcome: str) -> None:
        """An answer of the shadow was made, or dropped."""
        self._shadows.labels(model, outcome).inc()

    def unlogged(self) -> None:
        """The request log could not take an answer."""
        self._unlogged.inc()

    def shares(self, ab: str, shares: Callable[[], Mapping[str, float]]) -> None:
        """Tell the arms of a test with what they get now."""
        told = Gauge("sartor_share", "Share of the test's requests", ("ab", "arm"), registry=self._registry)
        for arm in shares():
            told.labels(ab, arm).set_function(partial(lambda name: shares()[name], arm))

    def text(self) -> bytes:
        """Everything in Prometheus' format."""
        return generate_latest(self._registry)
