"""Small real classes beside the ports, for desks and tests: no kernel, no network.

They keep the same promises as the adapters; the contract tests run on both. They do
nothing by themselves: whoever drives them says what the outside world does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from jaga_agent.core.coverage import is_whole
from jaga_agent.core.model import Instant
from jaga_agent.errors import SpoolError
from jaga_agent.ports import Counters, Device, SpooledRecord, Stamp
from jaga_agent.wire.evidence import BootMark, LostRange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.timekeeping import CertificateTime, NtpState
    from jaga_agent.core.usage import Usage
    from jaga_agent.ports import BrokerListener, Flows, Message, Will
    from jaga_agent.wire.evidence import Watermark


class FakeClock:
    """A clock that moves when told to, or follows `source` (an event loop's time)."""

    def __init__(
        self,
        now: float = 1000.0,
        *,
        wall_ms: int = 1_795_000_000_000,
        age_s: int = 0,
        source: Callable[[], float] | None = None,
    ) -> None:
        self._now = now
        self._source = source
        self._wall_offset_ms = wall_ms - round(self.now() * 1000)
        self._age_s = age_s
        self.judged_by: CertificateTime | None = None
        """What certificates are to be judged by; None: this clock is right."""
        self.kernel_says: NtpState | None = None

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def step_wall(self, milliseconds: int, *, age_s: int | None = None) -> None:
        """Jump the wall clock, as NTP does once on a Pi."""
        self._wall_offset_ms += milliseconds
        self._age_s = self._age_s if age_s is None else age_s

    def now(self) -> Instant:
        return Instant(self._now + (self._source() if self._source else 0.0))

    def wall_ms(self) -> int:
        return round(self.now() * 1000) + self._wall_offset_ms

    def age_s(self) -> int:
        return self._age_s

    def stamp(self) -> Stamp:
        boot_ns = round(self.now() * 1e9)
        return Stamp(boot_ns + self._wall_offset_ms * 1_000_000, boot_ns)

    def ntp(self) -> NtpState | None:
        return self.kernel_says

    def certificate_time(self) -> CertificateTime | None:
        return self.judged_by


class MemorySpool:
    """A spool that does not outlive the process, of one boot."""

    def __init__(self, boot: bytes = b"fakeboot", *, max_records: int = 1000) -> None:
        self.boot = boot
        self.dropped = 0
        self._max_records = max_records
        self._records: dict[int, SpooledRecord] = {}
        """By token, which is the seq."""
        self._mark: Watermark | None = None
        self._covered = BootMark(boot, 0, 0)
        self._last_seq = self._last_connection = 0

    def next_seq(self) -> int:
        return self._last_seq + 1

    def next_connection(self) -> int:
        self._last_connection += 1
        return self._last_connection

    def append(self, seq: int, leaf: str, payload: bytes) -> SpooledRecord:
        if seq != self.next_seq():
            msg = f"the spool expects seq {self.next_seq()}, not {seq}"
            raise SpoolError(msg)
        if len(self._records) >= self._max_records:
            self._drop_one()
        self._last_seq = seq
        record = SpooledRecord(seq, self.boot, seq, leaf, payload)
        self._records[seq] = record
        return record

    def cover(self, mark: Watermark) -> None:
        old, self._mark = self._mark, mark
        back = old and (old.store != mark.store or old.revision > mark.revision)
        if back or is_whole(mark):
            self._covered = BootMark(self.boot, 0, 0)
        self._covered = next(
            (m for m in mark.boots if m.boot == self.boot), self._covered
        )

    def pending(self, limit: int, *, after: int = 0) -> Sequence[SpooledRecord]:
        return [r for r in self._pending() if r.token > after][:limit]

    def select(self, boot: bytes, first: int, last: int) -> Sequence[SpooledRecord]:
        return [
            r
            for r in self._records.values()
            if r.boot == boot and first <= r.seq <= last
        ]

    def depth(self) -> int:
        return len(self._pending())

    def lost(self) -> Sequence[LostRange]:
        ranges: list[LostRange] = []
        for seq in range(1, max(self._last_seq, self._covered.highest) + 1):
            if seq in self._records or self._is_covered(seq):
                continue
            if ranges and ranges[-1].last == seq - 1:
                ranges[-1] = LostRange(self.boot, ranges[-1].first, seq)
            else:
                ranges.append(LostRange(self.boot, seq, seq))
        return ranges[:64]

    def last_digest(self) -> SpooledRecord | None:
        digests = [r for r in self._records.values() if r.leaf == "digest"]
        return digests[-1] if digests else None

    def boots(self) -> Sequence[tuple[bytes, int]]:
        return [(self.boot, self._last_seq)]

    def close(self) -> None:
        pass

    def _pending(self) -> list[SpooledRecord]:
        return [r for r in self._records.values() if not self._is_covered(r.seq)]

    def _is_covered(self, seq: int) -> bool:
        mark = self._covered
        return seq <= mark.through or (
            seq <= mark.highest
            and not any(first <= seq <= last for first, last in mark.gaps)
        )

    def _drop_one(self) -> None:
        head = self.last_digest()
        kept = [r for r in self._records.values() if r is not head]
        victim = min(
            kept,
            key=lambda r: (not self._is_covered(r.seq), _WORTH.get(r.leaf, 2), r.seq),
        )
        self.dropped += not self._is_covered(victim.seq)
        del self._records[victim.token]


_WORTH: Final = {"heartbeat": 0, "histogram": 1}
"""What goes first when a spool is full; whatever is not here goes last."""


class FakeDevices:
    """Devices that carry what they are told to."""

    def __init__(self, *devices: str) -> None:
        self._next_index = 1
        self._devices: dict[str, Device] = {}
        for device in devices:
            self.plug(device)

    def plug(self, device: str) -> None:
        """Let it appear, as another one if it was there."""
        self._devices[device] = Device(self._next_index, True, Counters(0, 0, 0, 0))
        self._next_index += 1

    def unplug(self, device: str) -> None:
        del self._devices[device]

    def carry(self, device: str, *, rx: int = 0, tx: int = 0, size: int = 100) -> None:
        """Let it receive and send packets of this size."""
        old = self._devices[device]
        counters = Counters(
            rx_bytes=old.counters.rx_bytes + rx * size,
            tx_bytes=old.counters.tx_bytes + tx * size,
            rx_packets=old.counters.rx_packets + rx,
            tx_packets=old.counters.tx_packets + tx,
        )
        self._devices[device] = replace(old, counters=counters)

    def set_carrier(self, device: str, *, carrier: bool) -> None:
        self._devices[device] = replace(self._devices[device], carrier=carrier)

    def read(self) -> Mapping[str, Device]:
        return dict(self._devices)

    def close(self) -> None:
        pass


class FakeFlowCounters:
    """Flows as they are set; None: no table."""

    def __init__(self, flows: Mapping[UplinkName, Flows] | None = None) -> None:
        self.flows = flows

    def read(self) -> Mapping[UplinkName, Flows] | None:
        return self.flows

    def close(self) -> None:
        pass


class MemoryLedger:
    """A ledger that outlives nothing but those who share it."""

    def __init__(self, boot: str = "boot-1") -> None:
        self.boot = boot
        self.usages: dict[str, Usage] = {}
        self.clean = True
        self.saves = 0

    def load(self) -> tuple[Mapping[str, Usage], bool]:
        return dict(self.usages), self.clean

    def save(self, usages: Mapping[str, Usage], *, clean: bool) -> None:
        self.usages, self.clean = dict(usages), clean
        self.saves += 1


@dataclass(frozen=True, slots=True)
class Published:
    """What was handed to the fake broker."""

    topic: str
    payload: bytes
    token: int | None
    retain: bool
    correlation: bytes | None = None


class FakeBroker:
    """A broker that is there when told to; acknowledges when told to."""

    def __init__(
        self,
        listener: BrokerListener,
        next_will: Callable[[], Will],
        *,
        max_inflight: int = 20,
    ) -> None:
        self.published: list[Published] = []
        """Everything ever taken, in order."""
        self.retained: dict[str, bytes] = {}
        self.reconnects: list[str] = []
        self.will: Will | None = None
        self.started = self.closed = self.online = False
        self._listener = listener
        self._next_will = next_will
        self._max_inflight = max_inflight
        self._inflight: deque[Published] = deque()

    def start(self) -> None:
        self.started = True

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        token: int | None,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> bool:
        if not self.online or len(self._inflight) >= self._max_inflight:
            return False
        message = Published(topic, payload, token, retain, correlation)
        self._inflight.append(message)
        self.published.append(message)
        if retain:
            self.retained[topic] = payload
        return True

    def reconnect_now(self, reason: str) -> None:
        self.reconnects.append(reason)
        if self.online:
            self.go_offline(reason)

    async def close(self, *, last_topic: str, last_payload: bytes) -> None:
        if self.online:
            self.retained[last_topic] = last_payload
        self.online, self.closed = False, True

    def go_online(self, *, session_present: bool = False) -> None:
        """Accept the agent."""
        self.will = self._next_will()
        self.online = True
        self._listener.connected(session_present)

    def go_offline(self, reason: str = "the broker went away") -> None:
        """Cut the connection: what is in flight is forgotten, as on a real one."""
        self.online = False
        self._inflight.clear()
        self._listener.disconnected(reason)

    def bring(self, message: Message) -> None:
        """Let a message come."""
        if self.online:
            self._listener.message(message)

    def acknowledge(self, count: int = 1) -> None:
        """Acknowledge the oldest messages in flight."""
        for _ in range(min(count, len(self._inflight))):
            token = self._inflight.popleft().token
            if token is not None:
                self._listener.acknowledged(token)
