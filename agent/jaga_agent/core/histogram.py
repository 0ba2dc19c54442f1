"""Round trips of some minutes as counts in buckets that merge exactly.

A base-2 exponential histogram of scale 3 (OpenTelemetry metrics data model,
"ExponentialHistogram"; Prometheus's native histograms of schema 3 are the same): bucket
i holds the round trips above 2^(i/8) and up to 2^((i+1)/8) microseconds, so that any
value told from a bucket is wrong by 4.4 % at most, and the histograms of any two periods
or machines add up without loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jaga_agent.core.model import Health

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.tally import Measured

SCALE: Final = 3
PER_OCTAVE: Final = 2**SCALE
PERIOD_S: Final = 300.0
EARLY_S: Final = 1.0
"""A heartbeat that comes so little before a period's end ends it."""
HEALTHS: Final = (Health.UNKNOWN, Health.UP, Health.DEGRADED, Health.DOWN)


def microseconds(rtt_s: float) -> int:
    """Return a round trip in whole microseconds; nothing takes none at all."""
    return max(1, round(rtt_s * 1e6))


def index_of(value: int) -> int:
    """Return the bucket of a whole number from 1 on, exactly.

    OpenTelemetry's formula is ceil(log2(value)·2^scale) − 1. As ceil(log2(n)) of a whole
    n is the bit length of n − 1, and log2(value)·8 = log2(value⁸), it is had here
    without a rounding error: powers of two lie in the bucket that they are the upper
    bound of.
    """
    return int((value**PER_OCTAVE - 1).bit_length()) - 1


def upper_bound(index: int) -> float:
    """Return the highest value of a bucket."""
    return float(2.0 ** ((index + 1) / PER_OCTAVE))


@dataclass(slots=True)
class Buckets:
    """Round trips, counted."""

    counts: dict[int, int] = field(default_factory=dict)
    """By bucket."""
    sum_us: int = 0

    def add(self, rtt_us: int) -> None:
        """Count one round trip, in microseconds."""
        index = index_of(rtt_us)
        self.counts[index] = self.counts.get(index, 0) + 1
        self.sum_us += rtt_us

    def merge(self, other: Buckets) -> None:
        """Add another period's or machine's."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.sum_us += other.sum_us

    @property
    def first(self) -> int | None:
        """The lowest bucket that holds one; None: no round trip."""
        return min(self.counts, default=None)

    def dense(self) -> tuple[int, ...]:
        """Return the counts of all buckets from the first to the last."""
        if not self.counts:
            return ()
        return tuple(
            self.counts.get(index, 0)
            for index in range(min(self.counts), max(self.counts) + 1)
        )


@dataclass(slots=True)
class UplinkPeriod:
    """What the heartbeats of a period said of one uplink, together."""

    health: Health
    """Now."""
    health_since_ms: int
    sent: int = 0
    lost: int = 0
    not_sent: int = 0
    rtt: Buckets = field(default_factory=Buckets)
    rx_bytes: int | None = None
    """None: the device was not there at any heartbeat."""
    tx_bytes: int | None = None
    healths_ms: dict[Health, int] = field(default_factory=dict)

    def turn(self, health: Health, at_ms: int) -> None:
        """Take note of its health from now on."""
        spent_ms = max(0, at_ms - self.health_since_ms)
        self.healths_ms[self.health] = self.healths_ms.get(self.health, 0) + spent_ms
        self.health, self.health_since_ms = health, self.health_since_ms + spent_ms

    def add(self, measured: Measured, traffic: tuple[int, int] | None) -> None:
        """Add what a heartbeat said; `traffic`: rx and tx bytes."""
        self.sent += measured.sent
        self.lost += measured.lost
        self.not_sent += measured.not_sent
        self.rtt.merge(measured.rtt)
        if traffic is not None:
            self.rx_bytes = (self.rx_bytes or 0) + traffic[0]
            self.tx_bytes = (self.tx_bytes or 0) + traffic[1]


@dataclass(slots=True)
class Period:
    """The time from one histogram to the next; ends with a heartbeat."""

    begin_ms: int
    """Milliseconds since boot."""
    uplinks: dict[UplinkName, UplinkPeriod]
    beats: int = 0

    @classmethod
    def of(cls, begin_ms: int, healths: Mapping[UplinkName, Health]) -> Period:
        """Begin one."""
        return cls(begin_ms, {n: UplinkPeriod(h, begin_ms) for n, h in healths.items()})

    def add(
        self,
        measured: Mapping[UplinkName, Measured],
        traffic: Mapping[UplinkName, tuple[int, int] | None],
    ) -> None:
        """Add a heartbeat."""
        self.beats += 1
        for name, uplink in self.uplinks.items():
            uplink.add(measured[name], traffic.get(name))

    def is_over(self, now_ms: int) -> bool:
        """Tell whether the heartbeat made now ends it: the first of the next 5 minutes.

        They are counted from boot.
        """
        early_ms, period_ms = round(EARLY_S * 1000), round(PERIOD_S * 1000)
        return (now_ms + early_ms) // period_ms > (
            self.begin_ms + early_ms
        ) // period_ms

    def close(self, at_ms: int) -> Period:
        """Count the healths up to its end; return the next one."""
        for uplink in self.uplinks.values():
            uplink.turn(uplink.health, at_ms)
        return Period.of(at_ms, {n: u.health for n, u in self.uplinks.items()})
