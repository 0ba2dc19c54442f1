"""Makes the watermarks that are due out of what is committed. On the writer's thread.

`core.marking` says which sites are due; this reads what the database holds of them, gives
each its revision (committed before it is sent: none is ever given out twice), and hands
topic and payload over to be published.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jaga_agent.wire.evidence import BOOTS, GAPS, BootMark, Watermark
from jaga_agent.wire.messages import encode
from jaga_agent.wire.topics import Topic
from jaga_server.core.marking import RECENT_MS, Marking
from jaga_server.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jaga_server.core.coverage import Coverage
    from jaga_server.ingest.counters import Counters
    from jaga_server.store.sqlite import Store

log = logging.getLogger(__name__)


def watermark(
    store: bytes, revision: int, boots: list[tuple[bytes, Coverage]]
) -> Watermark:
    """Return what to tell a site. Fewer than BOOTS boots: nothing is held of any other."""
    marks = []
    for boot, coverage in boots[:BOOTS]:
        mark = coverage.mark(GAPS)
        marks.append(BootMark(boot, mark.through, mark.highest, mark.gaps))
    return Watermark(store, revision, tuple(marks))


class Watermarks:
    """Tells the sites what is committed."""

    def __init__(
        self,
        store: Store,
        region: str,
        counters: Counters,
        tell: Callable[[str, bytes], None],
    ) -> None:
        """`tell(topic, payload)` publishes, retained; it must not block."""
        self._store = store
        self._region = region
        self._counters = counters
        self._tell = tell
        self._marking = Marking()
        self._connection = 0
        self._gaps: dict[str, int] = {}

    def touch(self, touched: Mapping[str, bool]) -> None:
        """Take the sites that a commit has records of; True: they wait to hear of it."""
        for site, pressing in touched.items():
            self._marking.touch(site, pressing=pressing)

    def tell(self, connection: int, now_ms: int, wall_ms: int) -> None:
        """Tell the sites that are due; `now_ms` is a clock that is never set.

        `connection` counts those to the broker: a new one may be to a broker that has
        lost the retained messages, and what an old one had not sent yet is gone.
        """
        try:
            if connection != self._connection:
                recent = self._store.sites_touched(wall_ms - RECENT_MS)
                self._marking.begin_again(recent)
                self._connection = connection
            due = self._marking.due(now_ms)
            if due:
                self._say(due, wall_ms)
                self._marking.said(due, now_ms)
        except StoreError as error:
            # They stay due; the next batch tells the operator what is wrong.
            log.debug("watermarks wait reason=%s", error)

    def _say(self, sites: list[str], wall_ms: int) -> None:
        with self._store.transaction():
            revisions = self._store.next_revisions(len(sites), wall_ms)
            boots = {site: self._store.recent_boots(site, BOOTS) for site in sites}
        for site, revision in zip(sites, revisions, strict=True):
            mark = watermark(self._store.identity, revision, boots[site])
            topic = Topic(self._region, site, "watermark")
            self._tell(str(topic), encode(mark))
            self._gaps[site] = sum(len(each.gaps) for _, each in boots[site])
        self._counters.gaps_open = sum(self._gaps.values())
