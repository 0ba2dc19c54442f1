"""What the district's page is told: the collector's stream, followed as it comes."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = dict[str, Any]


class View(threading.Thread):
    """Follows `/api/1/stream` and keeps the newest of everything."""

    def __init__(self, base: str, on_update: Callable[[Row], None]) -> None:
        super().__init__(name="view", daemon=True)
        self._base = base
        self._on_update = on_update
        self._changed = threading.Condition()
        self.sites: dict[str, Row] = {}
        self.events: list[Row] = []
        self.summary: Row = {}

    def run(self) -> None:
        """Follow until the collector goes; the demo ends it by ending the collector."""
        timeout = httpx.Timeout(10.0, read=60.0)
        with (
            httpx.Client(base_url=self._base, timeout=timeout, trust_env=False) as http,
            http.stream("GET", "/api/1/stream") as stream,
        ):
            try:
                for line in stream.iter_lines():
                    if line.startswith("data:"):
                        self._take(json.loads(line[5:]))
            except httpx.TransportError:
                return  # The collector was ended.

    def _take(self, update: Row) -> None:
        with self._changed:
            self.summary = update["summary"]
            self.sites.update({site["site"]: site for site in update["sites"]})
            self.events += update["events"]
            self._changed.notify_all()
        self._on_update(update)

    def all_online(self, total: int) -> bool:
        """Return whether so many sites are online, by a heartbeat, not by birth alone."""
        if not self.summary:
            return False
        sites = self.summary["sites"]
        return min(self.summary["online"], sites["total"] - sites["unknown"]) >= total

    def wait(self, seen: Callable[[View], Any], timeout_s: float) -> Any:
        """Return what `seen` returns as soon as that is true; None after the time."""
        with self._changed:
            self._changed.wait_for(lambda: seen(self), timeout_s)
            return seen(self) or None
