"""Records: stamped, numbered and spooled before anything is sent of them.

A record gets its number and its place in the spool first, so that a kill at any moment
loses nothing; what becomes of it then is `delivery`'s. It knows nothing of the broker.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from jaga_agent.errors import SpoolError
from jaga_agent.report import Stamp
from jaga_agent.wire import evidence
from jaga_agent.wire import messages as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.ports import Clock, Spool, SpooledRecord

    Record = wire.Heartbeat | wire.Event | evidence.Histogram | evidence.Digest
    Build = Callable[[Stamp], Record]

_log = logging.getLogger(__name__)

LEAVES: Final[dict[type, str]] = {
    wire.Heartbeat: "heartbeat",
    wire.Event: "event",
    evidence.Histogram: "histogram",
    evidence.Digest: "digest",
}


class Recorder:
    """The one door for records; used on the event loop only."""

    def __init__(
        self, spool: Spool, clock: Clock, recorded: Callable[[SpooledRecord], None]
    ) -> None:
        """Tell `recorded` of each record, once it is kept."""
        self._spool = spool
        self._clock = clock
        self._recorded = recorded
        self._failing = False
        self.last_seq = 0
        """Of this run's records; 0: none yet."""
        self.unspooled = 0
        """Records lost because the spool refused them: shown, never hidden."""

    def record(self, build: Build) -> bool:
        """Stamp, keep and hand on one record; False if the spool would not have it."""
        try:
            seq = self._spool.next_seq()
            stamp = Stamp(
                boot=self._spool.boot,
                seq=seq,
                at_ms=round(self._clock.now() * 1000),
                wall_ms=self._clock.wall_ms(),
                clock_age_s=self._clock.age_s(),
            )
            message = build(stamp)
            kept = self._spool.append(seq, LEAVES[type(message)], wire.encode(message))
            self.last_seq = seq
        except SpoolError as error:
            # The site must be guarded with a full or broken card too.
            self.unspooled += 1
            if not self._failing:
                _log.error("spool: %s; records are lost until it takes them", error)
            self._failing = True
            return False
        if self._failing:
            _log.warning("spool: takes records again; %s were lost", self.unspooled)
        self._failing = False
        self._recorded(kept)
        return True
