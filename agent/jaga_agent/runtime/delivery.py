"""Records on their way to the collector, and its word on what it has.

What goes when is `core.outbox`'s; here it is done: records are read from the spool,
packed, and handed to the broker; what came of them is told back. A spool that cannot be
read is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from jaga_agent.core.outbox import CADENCE_S, PAGE, Outbox
from jaga_agent.errors import SpoolError
from jaga_agent.wire.base import MalformedMessage, decode, encode
from jaga_agent.wire.evidence import (
    CODE_OF,
    PACKED_BYTES,
    History,
    HistoryItem,
    LostRange,
    Watermark,
    pack,
)
from jaga_agent.wire.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaga_agent.config import Config
    from jaga_agent.core.outbox import Batch
    from jaga_agent.ports import Broker, Clock, Spool, SpooledRecord

_log = logging.getLogger(__name__)

PAGES_A_TURN: Final = 5
"""Pages of the spool looked through before the loop has its turn again."""
AGAIN_S: Final = 0.05
SPOOL_AGAIN_S: Final = 5.0


class Delivery:
    """The recorder's and the broker's; used on the event loop only."""

    def __init__(
        self,
        config: Config,
        *,
        spool: Spool,
        clock: Clock,
        is_busy: Callable[[], bool],
    ) -> None:
        """`is_busy` tells whether the site's own traffic fills the active uplink."""
        self._site = config.site
        self._spool = spool
        self._clock = clock
        self._is_busy = is_busy
        cadence_s = CADENCE_S[config.site.mode]
        self._outbox: Outbox[SpooledRecord] = Outbox(
            rate_bytes_per_s=config.mqtt.history_kbit_s * 1000 / 8,
            cadence_s=cadence_s,
            # A fixed phase for each site, or a district sends at the same moment.
            phase_s=cadence_s * (sum(config.site.id.encode()) % 89) / 89,
        )
        self._broker: Broker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spool_failed = False

    def topic(self, leaf: str) -> str:
        """Return the full topic of a leaf."""
        return str(Topic(self._site.region, self._site.id, leaf))

    @property
    def waiting(self) -> int:
        """How many records the collector is not known to have."""
        return self._spool.depth()

    def snapshot(self) -> dict[str, Any]:
        """Return the records' row of the status answer, as far as it is known here."""
        mark_at = self._outbox.mark_at
        return {
            "waiting": self._spool.depth(),
            "lost": sum(r.last - r.first + 1 for r in self._lost()),
            "watermark_age_s": (
                None if mark_at is None else self._clock.now() - mark_at
            ),
            "sending_history": self._outbox.is_sending_history,
        }

    # ---- what happened

    def recorded(self, record: SpooledRecord) -> None:
        """Send a new record, if it is to go live."""
        self._outbox.recorded(record, self._clock.now())
        self.pump()

    def connected(self, broker: Broker) -> None:
        """Begin to publish; nothing sent before is in flight any more.

        Nothing goes before the next `recorded` or `pump`: the newest state is first.
        """
        self._broker = broker
        self._outbox.connected(self._clock.now())

    def disconnected(self) -> None:
        """Stop publishing; records stay where they are."""
        self._broker = None
        self._outbox.disconnected()
        self._disarm()

    def acknowledged(self, token: int) -> None:
        """Take note that the broker has a message."""
        self._outbox.acknowledged(token, self._clock.now())
        self.pump()

    def rejected(self, token: int) -> None:
        """Take note that the broker refused a message."""
        self._outbox.rejected(token, self._clock.now())
        self.pump()

    def watermark(self, payload: bytes) -> None:
        """Take what the collector says it has."""
        try:
            mark = decode(payload, Watermark)
        except MalformedMessage as error:
            _log.warning("a watermark that cannot be read was dropped: %s", error)
            return
        try:
            self._spool.cover(mark)
        except SpoolError as error:
            _log.warning("spool: %s; the watermark is not kept", error)
            return
        self._outbox.watermark(mark, self._clock.now())
        self.pump()

    # ---- what is done

    def pump(self) -> None:
        """Hand over what is due, as far as the broker's window takes it."""
        self._disarm()
        if self._broker is None:
            return
        self._send_live(self._broker)
        self._outbox.pace(self._clock.now(), busy=self._is_busy())
        for _ in range(PAGES_A_TURN):
            now = self._clock.now()
            after = self._outbox.history_after(now)
            if after is None:
                due_at = self._outbox.due_at(now)
                if due_at is not None:
                    self._arm(due_at - now)
                return
            try:
                page = self._spool.pending(PAGE, after=after)
            except SpoolError as error:
                self._tell(error)
                self._arm(SPOOL_AGAIN_S)
                return
            self._spool_failed = False
            batch = self._outbox.choose(page, self._lost(), now)
            if batch is not None and not self._send_history(self._broker, batch):
                return
        self._arm(AGAIN_S)

    def _send_live(self, broker: Broker) -> None:
        while (record := self._outbox.next_live()) is not None:
            number = self._outbox.number()
            topic = self.topic(record.leaf)
            if not broker.publish(topic, record.payload, token=number):
                return
            self._outbox.sent_live(record, number, self._clock.now())

    def _send_history(
        self, broker: Broker, batch: Batch[SpooledRecord, LostRange]
    ) -> bool:
        packed = _packed(batch)
        while len(packed) > PACKED_BYTES and len(batch.records) > 1:
            batch = batch.halved()
            packed = _packed(batch)
        payload = encode(History(packed, batch.lost))
        number = self._outbox.number()
        if not broker.publish(self.topic("history"), payload, token=number):
            # No room, or the connection is just ending: an acknowledgement or a new
            # connection comes.
            return False
        self._outbox.sent_history(batch, number, len(payload), self._clock.now())
        return True

    def _lost(self) -> Sequence[LostRange]:
        try:
            return self._spool.lost()
        except SpoolError as error:
            self._tell(error)
            return ()

    def _tell(self, error: SpoolError) -> None:
        if not self._spool_failed:
            _log.warning("spool: %s", error)
        self._spool_failed = True

    def _arm(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, wait_s), self.pump)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _packed(batch: Batch[SpooledRecord, LostRange]) -> bytes:
    if not batch.records:
        return b""
    return pack([HistoryItem(CODE_OF[r.leaf], r.payload) for r in batch.records])
