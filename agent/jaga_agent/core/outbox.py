"""Which records go when: live at once, or as history at a limited rate. Pure.

* Heartbeats and events go live, each on its topic, as soon as they are made, while there
  is a connection. Histograms and digests never do: they go in histories, by the cadence
  of the site's stage.
* On a new connection the newest state goes first, then the events of the last ten
  minutes that no broker acknowledged, in order. Everything else that is not covered goes
  as history: oldest first, in batches, one in flight at a time, each at most a second's
  worth of the rate, so that no live record waits longer than that behind one in a slow
  uplink's queue. No batch goes while a live record waits for room in the window.
* What was handed on and is lost on its way (`core.handed`) goes again, as history.

The shell asks what to do (`next_live`, `history_after`), does it, and tells (`sent_live`,
`sent_history`, `acknowledged` …). Tokens are places in the spool; a sending's number,
from `number`, is what the broker acknowledges.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from jaga_agent.core.coverage import covers, of_boot, went_back
from jaga_agent.core.handed import OVERDUE_S, PATIENCE_S, Handed
from jaga_agent.core.model import Instant, Mode
from jaga_agent.core.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_agent.core.coverage import Mark

CADENCE_S: Final = {Mode.POLLING_DAY: 300.0, Mode.READY: 900.0, Mode.DORMANT: 3600.0}
"""Between the histories that carry what is never live."""
LIVE: Final = frozenset({"heartbeat", "event"})
EVENT_LIVE_S: Final = 600.0
"""An event this old is no news: it goes as history."""
EVENTS_LIVE: Final = 100
PAGE: Final = 200
"""Records in one batch at most, and looked at together."""
RAW_BYTES: Final = 256 * 1024
"""Of a batch before it is packed; the receiver refuses what unpacks to more than twice
that."""
BATCH_S: Final = 1.0
BATCH_BYTES: Final = (1024, 48 * 1024)
"""Of a packed batch: at least worth its overhead; the wire's bound."""
OVERHEAD_BYTES: Final = 215
"""TLS, TCP, MQTT and the acknowledgement of one message, measured."""
BUSY_SHARE: Final = 0.25
"""Of the rate, while the uplink carries the site's own traffic at its limit."""
MARK_WAIT_S: Final = 2.0
"""A new connection's retained watermark is waited for: it may cover what waits."""
ROOM: Final = 5
"""With more live messages unacknowledged no history is added: the uplink is slow."""
REFUSED_S: Final = 600.0
"""After the broker refused a history."""


class Kept(Protocol):
    """A record as the spool shows it (`ports.SpooledRecord`)."""

    @property
    def token(self) -> int: ...
    @property
    def boot(self) -> bytes: ...
    @property
    def seq(self) -> int: ...
    @property
    def leaf(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Lost(Protocol):
    """Records that are gone for good (`wire.evidence.LostRange`)."""

    @property
    def boot(self) -> bytes: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...


R = TypeVar("R", bound=Kept)
L = TypeVar("L", bound=Lost)


@dataclass(frozen=True, slots=True)
class Batch(Generic[R, L]):
    """One history to send."""

    records: tuple[R, ...]
    lost: tuple[L, ...]
    after: int
    """The place in the spool that is reached with it."""

    def halved(self) -> Batch[R, L]:
        """Return its older half: the whole would not fit."""
        records = self.records[: len(self.records) // 2]
        return Batch(records, self.lost, records[-1].token)


@dataclass(slots=True)
class _Told:
    """A lost range that was told of."""

    order: int
    sent_at: Instant
    acked: bool = False


class Outbox(Generic[R]):
    """What is to be sent, of one run of the agent."""

    def __init__(
        self, *, rate_bytes_per_s: float, cadence_s: float, phase_s: float = 0.0
    ) -> None:
        """`phase_s` shifts the cadence, so that not all sites send at once."""
        self._rate_bytes_per_s = rate_bytes_per_s
        self._throttle = Throttle(rate_bytes_per_s)
        self._cadence_s = cadence_s
        self._phase_s = phase_s
        self._handed = Handed()
        self._mark: Mark | None = None
        self.mark_at: Instant | None = None
        """When the last watermark came."""
        self._live: deque[R] = deque()
        """Waiting for room in the broker's window."""
        self._news: dict[int, tuple[R, Instant]] = {}
        """Events no broker has acknowledged, by token: made within `EVENT_LIVE_S`."""
        self._flying_live: dict[int, int] = {}
        """Token of the live record in each sending."""
        self._told_lost: dict[tuple[bytes, int, int], _Told] = {}
        self._lost_tries: dict[tuple[bytes, int, int], int] = {}
        self._number = 0
        self._connected_at: Instant | None = None
        self._mark_came = False
        self._history: int | None = None
        """The batch in flight."""
        self._refused_until = Instant(0.0)
        self._after = 0
        """All up to here is handed on, or waits to go live."""
        self._looking = True
        """Something may wait above it that is due."""
        self._tick_at = Instant(0.0)
        self._ratio = 0.5
        """Packed over raw, of the last batches."""

    @property
    def is_sending_history(self) -> bool:
        """Whether a backlog is on its way."""
        return self._connected_at is not None and (
            self._history is not None or self._looking
        )

    def number(self) -> int:
        """Return a number for the next sending."""
        self._number += 1
        return self._number

    # ---- what happened

    def recorded(self, record: R, now: Instant) -> None:
        """Take note of a new record of ours."""
        if record.leaf == "event":
            self._news[record.token] = (record, now)
            self._forget_old_news(now)
        if self._connected_at is None or record.leaf not in LIVE:
            return
        if record.leaf == "event":
            self._live.append(record)
            if len(self._live) > EVENTS_LIVE:
                self._demote(next(r for r in self._live if r.leaf == "event"))
            return
        # The newest state stands for the one that still waits.
        for waiting in [r for r in self._live if r.leaf == "heartbeat"]:
            self._demote(waiting)
        self._live.appendleft(record)

    def connected(self, now: Instant) -> None:
        """Take note of a new connection; nothing is in flight on it."""
        self.disconnected()
        self._connected_at = now
        self._mark_came = False
        self._forget_old_news(now)
        self._live.extend(record for record, _ in self._news.values())
        self._look_from(0)

    def disconnected(self) -> None:
        """Take note of a connection's end."""
        self._connected_at = None
        self._handed.connection_ended()
        self._live.clear()
        self._flying_live.clear()
        self._history = None
        self._told_lost = {k: t for k, t in self._told_lost.items() if t.acked}

    def acknowledged(self, number: int, now: Instant) -> None:
        """Take a PUBACK."""
        self._handed.acknowledged(number, now)
        self._news.pop(self._flying_live.pop(number, -1), None)
        if number == self._history:
            self._history = None
        for told in self._told_lost.values():
            if told.order == number:
                told.acked = True

    def rejected(self, number: int, now: Instant) -> None:
        """Take a refusal: it goes again with the next connection."""
        if number == self._history:
            self._history = None
            self._refused_until = Instant(now + REFUSED_S)

    def watermark(self, mark: Mark, now: Instant) -> None:
        """Take a watermark, which the spool has been told of before."""
        old, self._mark = self._mark, mark
        self.mark_at = now
        self._mark_came = True
        for token, (record, _) in list(self._news.items()):
            if covers(of_boot(mark, record.boot), record.seq, record.seq):
                del self._news[token]
        if went_back(old, mark):
            self._handed.begin_anew()
            self._told_lost.clear()
            self._look_from(0)
        elif old is None or old.revision != mark.revision:
            # The same one comes with each connection, and says nothing new.
            if (above := self._handed.review(mark, now)) is not None:
                self._look_from(above)
            self._review_lost(mark, now)

    # ---- what to do

    def next_live(self) -> R | None:
        """Return what is to be published now, on its own topic."""
        return self._live[0] if self._live else None

    def sent_live(self, record: R, number: int, now: Instant) -> None:
        """Take note that `next_live` is with the broker's adapter."""
        self._live.remove(record)
        self._flying_live[number] = record.token
        where = (record.boot, record.seq, record.token)
        self._handed.sent(number, [where], now, history=False)

    def pace(self, now: Instant, *, busy: bool) -> None:
        """Take note whether the active uplink is filled by the site's own traffic."""
        share = BUSY_SHARE if busy else 1.0
        self._throttle.set_rate(self._rate_bytes_per_s * share, now)

    def history_after(self, now: Instant) -> int | None:
        """Return the token after which to look for a history's records; None: not now."""
        due_at = self.due_at(now)
        if due_at is None or due_at > now:
            return None
        self._looking = True
        return self._after

    def due_at(self, now: Instant) -> Instant | None:
        """Return when to ask `history_after` again; None: after what happens next."""
        if (
            self._connected_at is None
            or self._history is not None
            or self._live
            or self._handed.flying > ROOM
        ):
            return None
        heard_at = 0.0 if self._mark_came else self._connected_at + MARK_WAIT_S
        wanted_at = 0.0 if self._looking else self._tick_at
        ready_at = self._throttle.ready_at(now)
        return Instant(max(ready_at, self._refused_until, heard_at, wanted_at))

    def choose(
        self, page: Sequence[R], lost: Sequence[L], now: Instant
    ) -> Batch[R, L] | None:
        """Return the next history out of the spool's page after `history_after`.

        `page`: at most `PAGE` records not covered; `lost`: what is gone for good. None:
        there is nothing to send in this page; ask `history_after` again.
        """
        least, most = BATCH_BYTES
        allowed = self._throttle.bytes_per_s * BATCH_S - OVERHEAD_BYTES
        room = min(RAW_BYTES, max(least, min(allowed, most)) / self._ratio)
        waiting = {record.token for record in self._live}
        chosen: list[R] = []
        after = self._after
        for record in page:
            if record.token not in waiting and not self._handed.has(
                record.boot, record.seq
            ):
                room -= len(record.payload)
                if chosen and room < 0:
                    break
                chosen.append(record)
            after = record.token
        untold = tuple(r for r in lost if _key(r) not in self._told_lost)
        if chosen or untold:
            return Batch(tuple(chosen), untold, after)
        self._after = after
        if len(page) < PAGE:
            self._looking = False
            beats = math.floor((now - self._phase_s) / self._cadence_s) + 1
            self._tick_at = Instant(beats * self._cadence_s + self._phase_s)
        return None

    def sent_history(
        self, batch: Batch[R, L], number: int, packed_bytes: int, now: Instant
    ) -> None:
        """Take note that a batch is with the broker's adapter."""
        self._history = number
        self._after = batch.after
        self._throttle.spend(packed_bytes + OVERHEAD_BYTES, now)
        raw = sum(len(record.payload) for record in batch.records)
        if raw:
            self._ratio += (min(1.0, packed_bytes / raw) - self._ratio) / 2
        where = [(record.boot, record.seq, record.token) for record in batch.records]
        self._handed.sent(number, where, now, history=True)
        for each in batch.lost:
            self._told_lost[_key(each)] = _Told(number, now)

    # ----

    def _demote(self, record: R) -> None:
        """Let a record that waits to go live go as history."""
        self._live.remove(record)
        self._look_from(record.token - 1)

    def _look_from(self, token: int) -> None:
        self._after = min(self._after, token)
        self._looking = True

    def _forget_old_news(self, now: Instant) -> None:
        for token, (_, at) in list(self._news.items()):
            if now - at <= EVENT_LIVE_S and len(self._news) <= EVENTS_LIVE:
                break
            del self._news[token]

    def _review_lost(self, mark: Mark, now: Instant) -> None:
        for key, told in list(self._told_lost.items()):
            boot, first, last = key
            if covers(of_boot(mark, boot), first, last):
                del self._told_lost[key]
                self._lost_tries.pop(key, None)
                continue
            tries = self._lost_tries.get(key, 0)
            wait_s = min(OVERDUE_S * 2.0 ** min(tries, 16), PATIENCE_S)
            if now - told.sent_at >= wait_s and self._handed.committed > told.order:
                del self._told_lost[key]
                self._lost_tries[key] = tries + 1
                self._looking = True


def _key(lost: Lost) -> tuple[bytes, int, int]:
    return lost.boot, lost.first, lost.last
