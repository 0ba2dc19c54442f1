"""Records on their way to the collector: spooled first, then published, then forgotten.

A record gets its number and its place on disk before anything is sent, so that a kill
at any moment loses nothing. It is forgotten only when the broker has acknowledged it;
after a reconnect everything still kept is sent again (the collector drops repeats by
site, boot and seq).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from jaga_agent.errors import SpoolError
from jaga_agent.report import Stamp
from jaga_agent.wire import messages as wire
from jaga_agent.wire.base import MalformedMessage, decode
from jaga_agent.wire.evidence import BootMark, Watermark
from jaga_agent.wire.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.ports import Broker, Clock, Spool, SpooledRecord

    Build = Callable[[Stamp], wire.Heartbeat | wire.Event]

_log = logging.getLogger(__name__)

BATCH: Final = 200
"""Records handed to the broker's window at a time."""


class Recorder:
    """The one door for records; used on the event loop only."""

    def __init__(self, spool: Spool, clock: Clock, region: str, site: str) -> None:
        self._spool = spool
        self._clock = clock
        self._region = region
        self._site = site
        self._broker: Broker | None = None
        self._sent_up_to = 0
        """Highest token handed over on this connection."""
        self._failing = False
        self._handed_over: dict[int, SpooledRecord] = {}
        self.last_seq = 0
        """Of this run's records; 0: none yet."""
        self.unspooled = 0
        """Records lost because the spool refused them: shown, never hidden."""

    @property
    def waiting(self) -> int:
        """How many records wait for the broker's acknowledgement."""
        return self._spool.depth()

    def topic(self, leaf: str) -> str:
        """Return the full topic of a leaf."""
        return str(Topic(self._region, self._site, leaf))

    def record(self, build: Build) -> None:
        """Stamp, keep and publish one record."""
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
            leaf = "heartbeat" if isinstance(message, wire.Heartbeat) else "event"
            self._spool.append(seq, leaf, wire.encode(message))
            self.last_seq = seq
        except SpoolError as error:
            # The site must be guarded with a full or broken card too.
            self.unspooled += 1
            if not self._failing:
                _log.error("spool: %s; records are lost until it takes them", error)
            self._failing = True
            return
        if self._failing:
            _log.warning("spool: takes records again; %s were lost", self.unspooled)
        self._failing = False
        self.pump()

    def connected(self, broker: Broker) -> None:
        """Begin to publish; nothing sent before is in flight any more."""
        self._broker = broker
        self._sent_up_to = 0
        self._handed_over.clear()
        self.pump()

    def disconnected(self) -> None:
        """Stop publishing; records stay where they are."""
        self._broker = None

    def acknowledged(self, token: int) -> None:
        """Take the broker's word for the collector's, as there is no watermark yet."""
        record = self._handed_over.pop(token, None)
        if record is None:
            return
        mark = BootMark(record.boot, record.seq, record.seq)
        try:
            self._spool.cover(Watermark(bytes(8), token, (mark,)))
        except SpoolError as error:
            _log.warning("spool: %s; the record will be sent again", error)
        self.pump()

    def watermark(self, payload: bytes) -> None:
        """Take what the collector says it has."""
        try:
            self._spool.cover(decode(payload, Watermark))
        except MalformedMessage as error:
            _log.warning("a watermark that cannot be read was dropped: %s", error)
        except SpoolError as error:
            _log.warning("spool: %s", error)

    def pump(self) -> None:
        """Hand over what is kept until the broker's window is full."""
        if self._broker is None:
            return
        try:
            kept = self._spool.pending(BATCH, after=self._sent_up_to)
        except SpoolError as error:
            _log.warning("spool: %s", error)
            return
        for record in kept:
            taken = self._broker.publish(
                self.topic(record.leaf), record.payload, token=record.token
            )
            if not taken:
                return
            self._sent_up_to = record.token
            self._handed_over[record.token] = record
