"""Prometheus metrics of the collector, in a registry of its own.

The identity to watch: received = stored + duplicate + rejected + in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from jaga_server.adapters import clock
from jaga_server.core.model import Condition
from jaga_server.ingest.reflector import DROPPED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from jaga_server.ingest.counters import Counters
    from jaga_server.ingest.reflector import Reflector
    from jaga_server.web.board import Board

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """What /metrics shows."""

    def __init__(
        self, counters: Counters, board: Board, reflector: Reflector | None = None
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Live(counters, board))
        if reflector is not None:
            self._registry.register(_Echo(reflector))
        self._commit = Histogram(
            "jaga_commit_seconds",
            "From a batch's first attempt to its commit.",
            registry=self._registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
        )

    def commit_seconds(self, seconds: float) -> None:
        """Count one committed batch."""
        self._commit.observe(seconds)

    def render(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self._registry)


class _Live(Collector):
    """Reads the counters at the moment of a scrape; nothing is counted twice."""

    def __init__(self, counters: Counters, board: Board) -> None:
        self._counters = counters
        self._board = board

    def collect(self) -> Iterable[Metric]:
        counters, board = self._counters, self._board
        stored, rejected = counters.stored.copy(), counters.rejected.copy()
        duplicate, received = counters.duplicate, counters.received
        settled = stored.total() + rejected.total() + duplicate
        yield _count("received", "Messages from the broker.", received)
        yield _counts("stored", "Messages stored.", "leaf", stored)
        yield _count("duplicate", "Repeats of stored records.", duplicate)
        yield _counts(
            "rejected", "Messages that can never be stored.", "reason", rejected
        )
        yield _gauge(
            "in_flight", "Received, neither stored nor refused yet.", received - settled
        )
        yield _count(
            "unknown_site", "Stored, of sites not on the list.", counters.unknown_site
        )
        yield _count(
            "late_acknowledgements",
            "Not sent, because their connection was gone.",
            counters.late_acknowledgements,
        )
        yield from _evidence(counters)
        yield _count("batches", "Batches committed.", counters.batches)
        yield _count("store_retries", "Refusals of the database.", counters.retries)
        yield _count("connections", "Connections that worked.", counters.connections)
        yield _count(
            "connection_failures",
            "Attempts to connect that failed.",
            counters.connection_failures,
        )
        yield _gauge("broker_connected", "1 if the broker is heard.", board.connected)
        if board.last_message_ms is not None:
            yield _gauge(
                "last_message_age_seconds",
                "Since anything was heard.",
                max(0.0, (clock.wall_ms() - board.last_message_ms) / 1000),
            )
        yield _gauge("pages", "Open event streams.", len(board.listeners))
        yield _count("pages_dropped", "Streams that did not keep up.", board.dropped)
        sites = GaugeMetricFamily(
            "jaga_sites", "Sites by condition.", labels=["condition"]
        )
        views = board.site_list().sites
        for condition in Condition:
            number = sum(view.condition == condition.value for view in views)
            sites.add_metric([condition.value], number)
        yield sites


def _evidence(counters: Counters) -> Iterable[Metric]:
    """Yield what tells whether the sites' records are complete."""
    yield _counts(
        "history_items",
        "New records out of histories.",
        "leaf",
        counters.history_items.copy(),
    )
    yield _count(
        "history_duplicate",
        "Records in histories that were stored already.",
        counters.history_duplicate,
    )
    yield _counts(
        "history_rejected",
        "Items of histories that can never be stored.",
        "reason",
        counters.history_rejected.copy(),
    )
    yield _count(
        "records_lost",
        "Records that sites said they will never send.",
        counters.lost,
    )
    yield _gauge(
        "gaps_open",
        "Gaps in the boots that each site's last watermark named.",
        counters.gaps_open,
    )
    yield _count("watermarks", "Watermarks that the broker took.", counters.watermarks)
    yield _count(
        "watermarks_refused",
        "Watermarks that the broker refused.",
        counters.watermarks_refused,
    )


class _Echo(Collector):
    """The reflector's counters."""

    def __init__(self, reflector: Reflector) -> None:
        self._reflector = reflector

    def collect(self) -> Iterable[Metric]:
        counters = self._reflector.counters
        yield _count("echo_received", "Datagrams to the reflector.", counters.received)
        yield _count("echo_counted", "Authentic and fresh, answered.", counters.counted)
        yield _count(
            "echo_uncounted",
            "Authentic, of a flow not known yet: answered with a token.",
            counters.uncounted,
        )
        yield _counts(
            "echo_dropped",
            "Datagrams met with silence.",
            "reason",
            {reason: counters.dropped[reason] for reason in DROPPED},
        )
        yield _count(
            "echo_unanswered", "The kernel sent no answer.", counters.unanswered
        )
        yield _gauge("echo_flows", "Flows known.", len(self._reflector.flows))
        yield _count(
            "echo_flows_evicted",
            "Flows given up for newer ones of their site.",
            self._reflector.flows.evicted,
        )


def _count(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"jaga_{name}", text, value=value)


def _counts(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"jaga_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"jaga_{name}", text, value=value)
