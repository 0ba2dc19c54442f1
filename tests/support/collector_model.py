"""A broker and a collector as values, behind a real `runtime.delivery`: no network.

The broker acknowledges and may then drop; the collector commits what reaches it, tells
what it has, and may be set back. Time is the test's: `World.run` lets it pass.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from jaga_agent import report
from jaga_agent.adapters.fakes import FakeClock, MemorySpool
from jaga_agent.core.histogram import Period
from jaga_agent.core.model import Health, UplinkName
from jaga_agent.runtime.delivery import Delivery
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.wire import evidence
from jaga_agent.wire import messages as wire

HOST = wire.HostBeat(1, 100, 100, 100, 400)
UPLINKS = tuple(
    wire.UplinkBeat(name, wire.HealthCode.UP, 5, 0, 0, 20_000, 25_000, 90_000, 12, 34)
    for name in ("telkomsel", "indosat", "telkom-fibre")
)
PERIOD = Period.of(0, {UplinkName("telkomsel"): Health.UP})
WINDOW = 20


def beat(stamp):
    """Return a heartbeat, all of whose numbers differ from the one before's."""
    uplinks = tuple(
        wire.UplinkBeat(
            u.name, u.health, 5, 0, 0, 20_000 + stamp.seq % 977,
            25_000 + stamp.seq * 7 % 9973, 90_000 + stamp.seq * 31 % 99_991,
            stamp.seq * 101 % 65_521, stamp.seq * 57 % 65_521,
        )
        for u in UPLINKS
    )  # fmt: skip
    return wire.Heartbeat(
        stamp.boot, stamp.seq, stamp.at_ms, stamp.wall_ms, stamp.clock_age_s,
        wire.ModeCode.POLLING_DAY, "telkomsel", uplinks, HOST,
    )  # fmt: skip


def event(stamp):
    return report.lifecycle(stamp, "started", f"event {stamp.seq}")


def histogram(stamp):
    return report.histogram(stamp, PERIOD)


MAKE = {"heartbeat": beat, "event": event, "histogram": histogram}


def ranges(seqs):
    """Return ascending numbers as ranges, first and last."""
    out = []
    for seq in seqs:
        if out and out[-1][1] == seq - 1:
            out[-1] = (out[-1][0], seq)
        else:
            out.append((seq, seq))
    return out


@dataclass
class Collector:
    """Commits what it is given, and says what it has."""

    store: bytes = b"store--1"
    revision: int = 0
    committed: dict[bytes, set[int]] = field(default_factory=dict)
    received: list[tuple[str, bytes, int, int]] = field(default_factory=list)
    """Topic leaf, boot, seq, at_ms of each record, also of repeats."""
    lost: list[evidence.LostRange] = field(default_factory=list)
    refuses: set[int] = field(default_factory=set)
    """Seqs that it can never commit."""

    def take(self, topic, payload):
        leaf = topic.rpartition("/")[2]
        if leaf == "history":
            history = wire.decode(payload, evidence.History)
            records = [evidence.open_item(i) for i in evidence.unpack(history.packed)]
            for lost in history.lost:
                self.lost.append(lost)
                self._commit(lost.boot, range(lost.first, lost.last + 1))
        elif leaf in {"heartbeat", "event"}:
            kind = wire.Heartbeat if leaf == "heartbeat" else wire.Event
            records = [wire.decode(payload, kind)]
        else:
            return
        for record in records:
            self.received.append((leaf, record.boot, record.seq, record.at_ms))
            if record.seq not in self.refuses:
                self._commit(record.boot, [record.seq])

    def _commit(self, boot, seqs):
        self.committed.setdefault(boot, set()).update(seqs)

    def watermark(self):
        """Return what it says now, with a new revision."""
        self.revision += 1
        marks = []
        for boot, seqs in list(self.committed.items())[-evidence.BOOTS :]:
            have = ranges(sorted(seqs))
            through = have[0][1] if have and have[0][0] == 1 else 0
            above = [r for r in have if r[0] > through + 1]
            gaps, highest = [], through
            for first, last in above:
                if len(gaps) == evidence.GAPS:
                    break
                gaps.append((highest + 1, first - 1))
                highest = last
            marks.append(evidence.BootMark(boot, through, highest, tuple(gaps)))
        return evidence.Watermark(self.store, self.revision, tuple(marks))


class HandDelivery(Delivery):
    """Its timer is the test's."""

    due = None

    def _arm(self, wait_s):
        self.due = self._clock.now() + max(0.0, wait_s)

    def _disarm(self):
        self.due = None


class World:
    """One site, its broker and its collector."""

    def __init__(self, config, *, spool=None, clock=None, busy=False):
        self.clock = clock or FakeClock()
        self.spool = spool or MemorySpool(max_records=1_000_000)
        self.busy = busy
        self.config = config
        self.collector = Collector()
        self.inflight = deque()
        self.queue = deque()
        self.online = False
        self.sent = []
        """When, topic leaf, size of each message ever handed to the broker."""
        self.waiting_live = []
        """How many live records waited when a history was handed over."""
        self.start()

    def start(self):
        """Let a new process begin on the same spool."""
        self.delivery = HandDelivery(
            self.config,
            spool=self.spool,
            clock=self.clock,
            is_busy=lambda: self.busy,
        )
        self.recorder = Recorder(self.spool, self.clock, self.delivery.recorded)

    # The broker's port.

    def publish(self, topic, payload, *, token, retain=False, correlation=None):
        if not self.online or len(self.inflight) >= WINDOW:
            return False
        leaf = topic.rpartition("/")[2]
        self.inflight.append((token, topic, payload))
        self.sent.append((self.clock.now(), leaf, len(payload)))
        if leaf == "history":
            self.waiting_live.append(len(self.delivery._outbox._live))
        return True

    # What happens.

    def record(self, leaf):
        assert self.recorder.record(MAKE[leaf])

    def connect(self, *, beat=True):
        self.online = True
        self.delivery.connected(self)
        if beat:
            self.record("heartbeat")
        self.delivery.pump()

    def cut(self, *, arrived=False):
        """End the connection; what had no PUBACK arrived at the broker, or did not."""
        if arrived:
            self.queue.extend(self.inflight)
        self.inflight.clear()
        if self.online:
            self.online = False
            self.delivery.disconnected()

    def acknowledge(self, count=None, *, drop=False):
        """Acknowledge the oldest; `drop`: and do not keep them."""
        for _ in range(len(self.inflight) if count is None else count):
            if not self.inflight:
                return
            message = self.inflight.popleft()
            if not drop:
                self.queue.append(message)
            self.delivery.acknowledged(message[0])

    def commit(self):
        while self.queue:
            _, topic, payload = self.queue.popleft()
            self.collector.take(topic, payload)

    def tell(self):
        """Let the collector's watermark come."""
        if self.online:
            mark = self.collector.watermark()
            self.delivery.watermark(wire.encode(mark))

    def settle(self):
        """An honest broker and collector: everything handed over is committed."""
        while self.inflight:
            self.acknowledge()
        self.commit()

    def run(self, seconds, *, honest=False):
        """Let time pass, with the delivery's timer in between."""
        until = self.clock.now() + seconds
        while self.delivery.due is not None and self.delivery.due <= until:
            self.clock.advance(max(0.0, self.delivery.due - self.clock.now()))
            self.delivery.pump()
            if honest:
                self.settle()
        self.clock.advance(until - self.clock.now())

    # What is seen.

    def of(self, leaf):
        return [s for s in self.sent if s[1] == leaf]

    def assert_within_rate(self, bytes_per_s):
        """Histories of any span of time fit the rate, but for the last one of it."""
        histories = self.of("history")
        for n, (begin, _, _) in enumerate(histories):
            total = 0
            for at, _, size in histories[n:]:
                assert total <= bytes_per_s * (at - begin) + 1, (begin, at)
                total += size
