"""One direction of a carrier link as arithmetic: rate, queue, delay, jitter, loss.

Pure: `now_s` is an argument, packets go in and come out, nothing is read or sent.

A packet waits in a drop-tail queue until the link is free, takes length/rate to be
sent, then travels for delay ± jitter. Order is kept: jitter never overtakes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


@dataclass(slots=True)
class Counters:
    """What became of the packets of one direction since the lab was built."""

    offered: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    lost: int = 0
    queue_dropped: int = 0
    blackholed: int = 0


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
