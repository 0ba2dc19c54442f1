"""What the page shows now, and who is to be told. Lives on the event loop.

The writer posts updates; they are gathered and sent to every listener at most four times
a second, encoded once for all. A listener that does not keep up is dropped: it comes back
by itself (EventSource) and gets everything anew, which costs less than a queue that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import msgspec

from jaga_server.adapters import clock
from jaga_server.core import district
from jaga_server.web import schema, views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_server.core.model import Site, SiteState
    from jaga_server.ingest.update import Update

log = logging.getLogger(__name__)

PERIOD_S = 0.25
SUMMARY_S = 5.0
"""Without any change the summary is sent this often, so that its age shows."""
BACKLOG = 40
"""Updates a listener may lag behind: ten seconds."""

_JSON = msgspec.json.Encoder()


class Listener:
    """One open stream."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG)
        self.dropped = asyncio.Event()


class Board:
    """Site views, the summary, the stream. Every method on the event loop."""

    def __init__(self, district_name: str, sites: Sequence[Site]) -> None:
        self._district = district_name
        self.sites: dict[str, Site] = {site.site: site for site in sites}
        self.states: dict[str, SiteState] = {}
        self._views = {site.site: views.site_view(site, views.NEVER) for site in sites}
        self.revision = 1
        self.connected = False
        self.last_message_ms: int | None = None
        self.listeners: set[Listener] = set()
        self.dropped = 0
        """Listeners that did not keep up, since the start."""
        self._changed: set[str] = set()
        self._events: list[schema.EventView] = []
        self._due = asyncio.Event()

    def post(self, update: Update) -> None:
        """Take what the writer has committed."""
        for site, state in update.states.items():
            if site not in self.sites:
                self.sites[site] = district.unlisted(site)
            self.states[site] = state
            self._views[site] = views.site_view(self.sites[site], state)
            self._changed.add(site)
        self._events += [views.event_view(event) for event in update.events]
        flipped = update.connected != self.connected
        self.connected = update.connected
        self.last_message_ms = update.last_message_ms
        if self._changed or self._events or flipped:
            self._due.set()

    def summary(self) -> schema.Summary:
        """Return the first screen's numbers."""
        return views.summary_view(
            self._district,
            clock.wall_ms(),
            (
                (self.states.get(site, views.NEVER), view)
                for site, view in self._views.items()
            ),
            broker_connected=self.connected,
            last_message_ms=self.last_message_ms,
        )

    def site_list(self) -> schema.SiteList:
        """Return every row."""
        return schema.SiteList(self.revision, tuple(self._views.values()))

    def view(self, site: str) -> schema.SiteView:
        """Return one row; raises KeyError."""
        return self._views[site]

    def listen(self) -> Listener:
        """Return a stream whose first update holds everything."""
        listener = Listener()
        listener.queue.put_nowait(self._frame(tuple(self._views.values()), ()))
        self.listeners.add(listener)
        return listener

    def _frame(
        self, sites: tuple[schema.SiteView, ...], events: tuple[schema.EventView, ...]
    ) -> bytes:
        update = schema.StreamUpdate(self.revision, self.summary(), sites, events)
        body = _JSON.encode(update)
        return b"id: %d\nevent: update\ndata: %b\n\n" % (self.revision, body)

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), SUMMARY_S)
            self._due.clear()
            self._send()
            await asyncio.sleep(PERIOD_S)

    def _send(self) -> None:
        changed = tuple(self._views[site] for site in sorted(self._changed))
        events = tuple(self._events)
        self._changed.clear()
        self._events.clear()
        if changed or events:
            self.revision += 1
        if not self.listeners:
            return
        frame = self._frame(changed, events)
        for listener in list(self.listeners):
            try:
                listener.queue.put_nowait(frame)
            except asyncio.QueueFull:
                self.drop(listener)
                self.dropped += 1
                log.info(
                    "page dropped: it did not keep up; it will come back by itself"
                )

    def drop(self, listener: Listener) -> None:
        """End a stream."""
        self.listeners.discard(listener)
        listener.dropped.set()

    def close(self) -> None:
        """End every stream."""
        for listener in list(self.listeners):
            self.drop(listener)
