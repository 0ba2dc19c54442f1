"""What the probes showed since the last heartbeat: counts and round trips per uplink.

RTT is undefined for a lost probe (RFC 2681), never 0. A probe is lost when nothing came
within `lost_after_s` (RFC 2680); failing to send is "not sent", not loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaga_agent.core.histogram import Buckets, microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaga_agent.core.model import Instant, UplinkName


@dataclass(slots=True)
class Measured:
    """One uplink's probes whose fate became known in the period."""

    answered: int = 0
    lost: int = 0
    not_sent: int = 0
    rtt_min_s: float | None = None
    rtt_max_s: float | None = None
    rtt_sum_s: float = 0.0
    rtt: Buckets = field(default_factory=Buckets)

    @property
    def sent(self) -> int:
        """Probes on the wire whose fate is known."""
        return self.answered + self.lost

    @property
    def rtt_mean_s(self) -> float | None:
        """Mean round trip; None when nothing was answered."""
        return self.rtt_sum_s / self.answered if self.answered else None


@dataclass(slots=True)
class Tally:
    """Counts probes between heartbeats."""

    uplinks: tuple[UplinkName, ...]
    lost_after_s: float
    _pending: dict[int, tuple[UplinkName, Instant]] = field(default_factory=dict)
    _measured: dict[UplinkName, Measured] = field(default_factory=dict)

    def sent(self, probe_id: int, uplink: UplinkName, now: Instant) -> None:
        """Take note of a probe that was asked for."""
        self._pending[probe_id] = (uplink, now)

    def answered(self, probe_id: int, rtt_s: float) -> None:
        """Take note of a reply; one that comes after the loss interval stays lost."""
        if (pending := self._pending.pop(probe_id, None)) is None:
            return
        of = self._of(pending[0])
        of.answered += 1
        of.rtt_sum_s += rtt_s
        of.rtt.add(microseconds(rtt_s))
        of.rtt_min_s = rtt_s if of.rtt_min_s is None else min(of.rtt_min_s, rtt_s)
        of.rtt_max_s = rtt_s if of.rtt_max_s is None else max(of.rtt_max_s, rtt_s)

    def refused(self, probe_id: int) -> None:
        """Take note of an ICMP error: it was sent, and lost."""
        if (pending := self._pending.pop(probe_id, None)) is not None:
            self._of(pending[0]).lost += 1

    def not_sent(self, probe_id: int) -> None:
        """Take note that the kernel would not send it."""
        if (pending := self._pending.pop(probe_id, None)) is not None:
            self._of(pending[0]).not_sent += 1

    def collect(self, now: Instant) -> dict[UplinkName, Measured]:
        """Return what became known since the last call, for every uplink."""
        for probe_id in list(self._expired(now)):
            self._of(self._pending.pop(probe_id)[0]).lost += 1
        measured = {name: self._of(name) for name in self.uplinks}
        self._measured = {}
        return measured

    def _expired(self, now: Instant) -> Iterable[int]:
        return (
            probe_id
            for probe_id, (_, sent_at) in self._pending.items()
            if sent_at + self.lost_after_s <= now
        )

    def _of(self, uplink: UplinkName) -> Measured:
        return self._measured.setdefault(uplink, Measured())
