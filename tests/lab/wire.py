"""One direction of a carrier link as arithmetic: rate, queue, delay, loss, radio.

Pure: `now_s` is an argument, packets go in and come out, nothing is read or sent.

A packet waits in a drop-tail queue until the link is free, takes length/rate to be
sent, then travels for delay ± jitter. Order is kept: jitter never overtakes. A radio
that is in a gap or asleep is a link that is not free (or loses what comes).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random


@dataclass(frozen=True, slots=True)
class Shape:
    """How one direction of a link treats packets."""

    delay_ms: float = 0.0
    """One way."""
    jitter_ms: float = 0.0
    """Uniform, plus or minus."""
    loss_ratio: float = 0.0
    rate_bit_s: float | None = None
    """None: no limit."""
    queue_bytes: int = 256_000
    """What may wait for the rate limit; what comes on top is dropped."""
    blackhole: bool = False
    """Nothing passes, and what was under way is gone too."""
    gap_every_s: float = 0.0
    """A radio gap (handover, a satellite's new slot) begins this often; 0: never."""
    gap_min_s: float = 0.0
    gap_max_s: float = 0.0
    """How long a gap is: uniform between the two."""
    gap_spread: float = 0.0
    """0: gaps begin as a clock ticks; towards 1: anywhere within their period."""
    gap_keeps: bool = False
    """What comes in a gap waits for its end; otherwise it is lost."""
    gap_seed: int = 0
    """The same in both directions: one radio, the same gaps."""
    wake_idle_s: float = 0.0
    """After so long without a packet the radio sleeps; 0: never."""
    wake_min_s: float = 0.0
    wake_max_s: float = 0.0
    """How long it takes to wake, uniform; packets wait meanwhile."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss_ratio <= 1.0:
            msg = f"loss_ratio is a ratio from 0 to 1, not {self.loss_ratio}"
            raise ValueError(msg)
        if self.rate_bit_s is not None and self.rate_bit_s <= 0:
            msg = f"rate_bit_s is above 0, not {self.rate_bit_s}: use blackhole"
            raise ValueError(msg)
        if self.delay_ms < 0 or self.jitter_ms < 0 or self.queue_bytes < 0:
            msg = "delay_ms, jitter_ms and queue_bytes are not negative"
            raise ValueError(msg)
        if not 0 <= self.gap_min_s <= self.gap_max_s:
            msg = "gap_min_s and gap_max_s: not negative, the smaller first"
            raise ValueError(msg)
        if not 0 <= self.wake_min_s <= self.wake_max_s:
            msg = "wake_min_s and wake_max_s: not negative, the smaller first"
            raise ValueError(msg)
        if self.gap_every_s < 0 or self.wake_idle_s < 0 or not 0 <= self.gap_spread < 1:
            msg = "gap_every_s, wake_idle_s: not negative; gap_spread: 0 to below 1"
            raise ValueError(msg)

    def gap_end_s(self, now_s: float) -> float | None:
        """Return when the radio gap of this instant ends, None outside of gaps."""
        if not self.gap_every_s:
            return None
        period = math.floor(now_s / self.gap_every_s)
        ends = []
        # A gap that began late in the period before may last into this one.
        for number in (period - 1, period):
            where, length = _chance(self.gap_seed, number)
            begin_s = (number + self.gap_spread * where) * self.gap_every_s
            end_s = (
                begin_s + self.gap_min_s + length * (self.gap_max_s - self.gap_min_s)
            )
            if begin_s <= now_s < end_s:
                ends.append(end_s)
        return max(ends, default=None)


@lru_cache(maxsize=64)
def _chance(seed: int, number: int) -> tuple[float, float]:
    """Return where in its period a gap begins and how long it is, each 0 to 1."""
    rng = Random(f"{seed}/{number}")  # noqa: S311 - no secret
    return rng.random(), rng.random()


@dataclass(slots=True)
class Counters:
    """What became of the packets of one direction since the lab was built."""

    offered: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    lost: int = 0
    queue_dropped: int = 0
    blackholed: int = 0
    gap_lost: int = 0


@dataclass(slots=True)
class Wire:
    """One direction. Call `offer` for each packet and `due` when `next_s` has come."""

    shape: Shape
    rng: Random
    counters: Counters = field(default_factory=Counters)
    _waiting: deque[bytes] = field(default_factory=deque)
    _waiting_bytes: int = 0
    _free_s: float = 0.0
    """When the packet being sent has left."""
    _travelling: deque[tuple[float, bytes]] = field(default_factory=deque)
    _last_s: float = -math.inf
    """When the last packet came."""

    def reshape(self, shape: Shape) -> None:
        """Change the link; a blackhole also takes what is under way."""
        self.shape = shape
        if shape.blackhole:
            self.counters.blackholed += len(self._waiting) + len(self._travelling)
            self._waiting.clear()
            self._travelling.clear()
            self._waiting_bytes = 0

    def offer(self, packet: bytes, now_s: float) -> None:
        """Take a packet that arrives at the near end."""
        shape = self.shape
        self.counters.offered += 1
        if shape.blackhole:
            self.counters.blackholed += 1
            return
        if shape.loss_ratio and self.rng.random() < shape.loss_ratio:
            self.counters.lost += 1
            return
        self._start_waiting(now_s)
        if not self._radio(now_s):
            self.counters.gap_lost += 1
            return
        if not self._waiting and self._free_s <= now_s:
            self._send(packet, now_s)
        elif self._waiting_bytes + len(packet) > shape.queue_bytes:
            self.counters.queue_dropped += 1
        else:
            self._waiting.append(packet)
            self._waiting_bytes += len(packet)

    def due(self, now_s: float) -> list[bytes]:
        """Return the packets that have arrived at the far end by now."""
        self._start_waiting(now_s)
        arrived = []
        while self._travelling and self._travelling[0][0] <= now_s:
            packet = self._travelling.popleft()[1]
            self.counters.delivered += 1
            self.counters.delivered_bytes += len(packet)
            arrived.append(packet)
        return arrived

    def next_s(self) -> float | None:
        """Return when something happens next, None while the link is empty."""
        arrival_s = self._travelling[0][0] if self._travelling else None
        if not self._waiting:
            return arrival_s
        return self._free_s if arrival_s is None else min(arrival_s, self._free_s)

    def _radio(self, now_s: float) -> bool:
        """Let the radio wake or wait for its gap's end; False: the packet is lost."""
        shape = self.shape
        slept = shape.wake_idle_s and now_s - self._last_s >= shape.wake_idle_s
        self._last_s = now_s
        if slept:
            wake_s = self.rng.uniform(shape.wake_min_s, shape.wake_max_s)
            self._free_s = max(self._free_s, now_s + wake_s)
        gap_end_s = shape.gap_end_s(now_s)
        if gap_end_s is None:
            return True
        if shape.gap_keeps:
            self._free_s = max(self._free_s, gap_end_s)
        return shape.gap_keeps

    def _start_waiting(self, now_s: float) -> None:
        while self._waiting and self._free_s <= now_s:
            packet = self._waiting.popleft()
            self._waiting_bytes -= len(packet)
            # Sent when the link became free, not when somebody looked.
            self._send(packet, self._free_s)

    def _send(self, packet: bytes, now_s: float) -> None:
        shape = self.shape
        if shape.rate_bit_s is not None:
            now_s += len(packet) * 8 / shape.rate_bit_s
            self._free_s = now_s
        delay_ms = shape.delay_ms
        if shape.jitter_ms:
            delay_ms += self.rng.uniform(-shape.jitter_ms, shape.jitter_ms)
        arrival_s = now_s + max(0.0, delay_ms) / 1000
        if self._travelling:
            arrival_s = max(arrival_s, self._travelling[-1][0])
        self._travelling.append((arrival_s, packet))
