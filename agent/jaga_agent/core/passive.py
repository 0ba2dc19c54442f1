"""Evidence that costs no data: what a device's packet counters and flows show.

Totals come in, at whatever times they were read; unanswered packets, rates, and lost
connection attempts come out. Values only; what they mean is for `race` and `checks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from jaga_agent.core.model import Instant

if TYPE_CHECKING:
    from jaga_agent.core.events import FlowsSeen, TrafficSeen

RATE_TAU_S: Final = 2.0
"""Time constant of the rates: a photo's upload is seconds long."""
DAY_S: Final = 86_400.0
PROVEN_HALF_LIFE_S: Final = 600.0
"""A rate carried without a queue is proof for about as long as a cell's load lasts."""
PROVEN_MARGIN: Final = 1.2
OWN_RATE: Final = 4000.0
"""Bytes a second below which a queue is nobody's here: probes alone are 640."""
CARRIES_WELL: Final = 80_000.0
"""Bytes a second (0.64 Mbit/s) at which a queue is the site's own even where more was
once carried without one: a cell that got slower still carries an upload, and the next
uplink's queue would be filled by the same upload."""
EMPTY_MORE_S: Final = 0.02
EMPTY_RATIO, EMPTY_RATIO_S = 0.5, 0.05
"""A round trip so little above the lowest one met no queue: a radio's jitter grows with
its distance, but a satellite's by no half."""
SUSTAINED_S: Final = 3.0
"""A queue takes a while to fill: a rate is proven when it has been carried so long."""
BASE_RISE_S: Final = 600.0
"""How long until a path that has become longer is believed to be so."""
WINDOW_S: Final = 0.5
"""Longer than any answer to a SYN but a satellite's: then it overlaps, and waits."""
LOST_TAU_S: Final = 2.0
NEVER: Final = Instant(0.0)


@dataclass(frozen=True, slots=True)
class Traffic:
    """One device's counters, and what is unanswered."""

    rx_packets: int | None = None
    tx_packets: int | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    at: Instant = NEVER
    unanswered_since: Instant | None = None
    """When the first packet went out that nothing came back for."""
    unanswered_packets: int = 0
    rx_rate: float = 0.0
    tx_rate: float = 0.0
    """Bytes a second, exponentially weighted over `RATE_TAU_S`, as of `at`."""
    proven_rate: float = 0.0
    """Highest rate either way that was carried without a queue, as of `proven_at`."""
    proven_at: Instant = NEVER
    carried_day: float = 0.0
    """Bytes both ways, exponentially weighted over a day."""
    empty_at: Instant | None = None
    empty_rate: float = 0.0
    """Since when round trips have met no queue, and the lowest rate since then."""
    base_at: Instant = NEVER
    base_s: float | None = None
    """The lowest round trip, slow to rise: the path without a queue."""

    def after(self, seen: TrafficSeen, now: Instant) -> tuple[Traffic, bool]:
        """Return the counters after one more sample, and whether a packet came in."""
        known = self.rx_packets is not None and self.tx_packets is not None
        rx = seen.rx_packets - (self.rx_packets or 0)
        tx = seen.tx_packets - (self.tx_packets or 0)
        if not known or rx < 0 or tx < 0:
            # First sample, or the device was re-created and counts from 0 again.
            return (
                Traffic(
                    seen.rx_packets,
                    seen.tx_packets,
                    seen.rx_bytes,
                    seen.tx_bytes,
                    now,
                    proven_rate=self.proven_rate,
                    proven_at=self.proven_at,
                    carried_day=self.carried_day,
                    base_at=self.base_at,
                    base_s=self.base_s,
                ),
                False,
            )
        since, packets = self.unanswered_since, self.unanswered_packets
        if rx > 0:
            since, packets = None, 0
        elif tx > 0:
            since, packets = since or now, packets + tx
        kept = self._kept(now)
        return (
            Traffic(
                seen.rx_packets,
                seen.tx_packets,
                seen.rx_bytes,
                seen.tx_bytes,
                now,
                since,
                packets,
                self.rx_rate * kept + (seen.rx_bytes - self.rx_bytes) / RATE_TAU_S,
                self.tx_rate * kept + (seen.tx_bytes - self.tx_bytes) / RATE_TAU_S,
                self.proven_rate,
                self.proven_at,
                self.carried_day * max(0.0, 1 - (now - self.at) / DAY_S)
                + (seen.rx_bytes - self.rx_bytes)
                + (seen.tx_bytes - self.tx_bytes),
                self.empty_at,
                self.empty_rate,
                self.base_at,
                self.base_s,
            ),
            rx > 0,
        )

    def answered(self) -> Traffic:
        """Return the counters after a sign of life that they did not see."""
        if self.unanswered_since is None:
            return self
        return replace(self, unanswered_since=None, unanswered_packets=0)

    def rate(self, now: Instant) -> float:
        """Return the greater rate of both directions, bytes a second."""
        return max(self.rx_rate, self.tx_rate) * self._kept(now)

    def timed(self, rtt_s: float, now: Instant) -> Traffic:
        """Return the counters after a round trip: without a queue it proves the rate."""
        base_s = rtt_s
        if self.base_s is not None and rtt_s > self.base_s:
            rise = min(1.0, (now - self.base_at) / BASE_RISE_S)
            base_s = self.base_s + rise * (rtt_s - self.base_s)
        spread_s = EMPTY_MORE_S + min(EMPTY_RATIO * base_s, EMPTY_RATIO_S)
        if rtt_s > base_s + spread_s:
            return replace(self, base_at=now, base_s=base_s, empty_at=None)
        rate = self.rate(now)
        if self.empty_at is None or now - self.empty_at < SUSTAINED_S:
            at = now if self.empty_at is None else self.empty_at
            lowest = rate if self.empty_at is None else min(rate, self.empty_rate)
            return replace(
                self, base_at=now, base_s=base_s, empty_at=at, empty_rate=lowest
            )
        carried = min(rate, self.empty_rate)
        timed = replace(self, base_at=now, base_s=base_s, empty_at=now, empty_rate=rate)
        if carried <= self._proven(now):
            return timed
        return replace(timed, proven_rate=carried, proven_at=now)

    def fills_queue(self, now: Instant) -> bool:
        """Whether a queue is the site's own: more is carried than went without one."""
        proven = min(CARRIES_WELL, PROVEN_MARGIN * self._proven(now))
        return self.rate(now) > max(OWN_RATE, proven)

    def _kept(self, now: Instant) -> float:
        return math.exp(-max(0.0, now - self.at) / RATE_TAU_S)

    def _proven(self, now: Instant) -> float:
        halves = (now - self.proven_at) / PROVEN_HALF_LIFE_S
        return self.proven_rate * math.pow(0.5, halves)


@dataclass(frozen=True, slots=True)
class Flows:
    """One uplink's TCP openings and resets.

    Each lost SYN or SYN-ACK leaves the difference of openings and answers one higher for
    good, for its repeat counts as another; openings under way raise it for a round trip.
    So the rise of its minimum from one window to the next counts the losses.
    """

    syn_out: int | None = None
    synack_in: int = 0
    rst_in: int = 0
    window_from: Instant = NEVER
    window_min: int = 0
    floor: int = 0
    """Minimum of the window before."""
    lost: float = 0.0
    resets: float = 0.0
    """Leaky counts over `LOST_TAU_S`, as of `at`."""
    at: Instant = NEVER
    asked_since: Instant | None = None
    asked: int = 0
    """Openings since the last answered one, and when the first of them was seen."""

    def after(self, seen: FlowsSeen, now: Instant) -> Flows:
        """Return the flows after one more sample."""
        # A refused opening is an answered one.
        pending = seen.syn_out - seen.synack_in - seen.rst_in
        if (
            self.syn_out is None
            or seen.syn_out < self.syn_out
            or seen.synack_in < self.synack_in
            or seen.rst_in < self.rst_in
        ):
            # First sample, or the table was loaded anew and counts from 0.
            return Flows(
                seen.syn_out,
                seen.synack_in,
                seen.rst_in,
                now,
                pending,
                pending,
                at=now,
            )
        kept = math.exp(-(now - self.at) / LOST_TAU_S)
        lost = self.lost * kept
        window_from, window_min = self.window_from, min(self.window_min, pending)
        floor = self.floor
        if now - window_from >= WINDOW_S:
            lost += max(0, window_min - floor)
            window_from, window_min, floor = now, pending, window_min
        asked, since = self.asked, self.asked_since
        if seen.synack_in > self.synack_in or seen.rst_in > self.rst_in:
            asked, since = 0, None
        elif seen.syn_out > self.syn_out:
            asked, since = asked + seen.syn_out - self.syn_out, since or now
        return Flows(
            seen.syn_out,
            seen.synack_in,
            seen.rst_in,
            window_from,
            window_min,
            floor,
            lost,
            self.resets * kept + seen.rst_in - self.rst_in,
            now,
            since,
            asked,
        )

    def looked_into(self) -> Flows:
        """Return the flows after what went wrong so far was looked into."""
        return replace(self, resets=0.0, lost=0.0)

    def asked_again(self) -> Flows:
        """Return the flows after the uplink answered otherwise: dead hosts, it seems."""
        if not self.asked:
            return self
        return replace(self, asked=0, asked_since=None)

    def without_losses(self) -> Flows:
        """Return the flows after the losses so far were looked into."""
        return replace(self, lost=0.0)
