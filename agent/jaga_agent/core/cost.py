"""What the agent's own probes put on the wire: IP bytes, both ways, by kind. Pure.

IP bytes are what an operator bills; what is below (Ethernet, PPP) is not counted. The
table is tested against the kernel's own count of the packets. Checks (TCP, TLS, HTTP)
have no fixed size: their adapter counts each one's bytes as it goes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jaga_agent.core.model import Instant, UplinkName

_IPV4: Final = 20
_ICMP: Final = 8
_UDP: Final = 8


@dataclass(frozen=True, slots=True)
class PulseCost:
    """IP bytes of one round trip of a pulse."""

    request_bytes: int
    reply_bytes: int

    @property
    def both_bytes(self) -> int:
        """Of a pulse that is answered."""
        return self.request_bytes + self.reply_bytes


PULSES: Final = {
    "icmp": PulseCost(_IPV4 + _ICMP + 4, _IPV4 + _ICMP + 4),
    "udp-echo": PulseCost(_IPV4 + _UDP + 40, _IPV4 + _UDP + 40),
}
"""By the kind of target. ICMP: a nonce of 4 bytes. udp-echo: datagrams of 40 bytes."""

ICMP_ERROR_BYTES: Final = _IPV4 + _ICMP + 32
"""An ICMP error quotes the request: all of it, as its 32 bytes are within the 576 that
a router may quote (RFC 1812, 4.3.2.3). Some quote 28 bytes only (RFC 792)."""

_BUCKET_S: Final = 3600.0
_BUCKETS: Final = 24
_PENDING: Final = 1024
"""Pulses whose answer is still waited for. An older one's is not counted."""


class Spent:
    """The probes' bytes of the last 24 hours, by uplink and kind.

    In hours of the boot-time clock: a Pi knows no midnight. A restart forgets them.
    """

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, dict[tuple[UplinkName, str], int]]] = deque()
        self._pending: OrderedDict[int, tuple[UplinkName, str]] = OrderedDict()

    def sent(self, probe_id: int, uplink: UplinkName, kind: str, now: Instant) -> None:
        """Take note of a pulse that goes out."""
        self._pending[probe_id] = (uplink, kind)
        if len(self._pending) > _PENDING:
            self._pending.popitem(last=False)
        self.add(uplink, kind, PULSES[kind].request_bytes, now)

    def answered(self, probe_id: int, now: Instant) -> None:
        """Take note of its reply."""
        if (of := self._pending.pop(probe_id, None)) is not None:
            self.add(*of, PULSES[of[1]].reply_bytes, now)

    def refused(self, probe_id: int, now: Instant) -> None:
        """Take note of the ICMP error that came for it."""
        if (of := self._pending.pop(probe_id, None)) is not None:
            self.add(*of, ICMP_ERROR_BYTES, now)

    def not_sent(self, probe_id: int, now: Instant) -> None:
        """Take back what did not go out."""
        if (of := self._pending.pop(probe_id, None)) is not None:
            self.add(*of, -PULSES[of[1]].request_bytes, now)

    def add(
        self, uplink: UplinkName, kind: str, spent_bytes: int, now: Instant
    ) -> None:
        """Take note of bytes that are known otherwise, such as a check's."""
        hour = int(now // _BUCKET_S)
        if not self._buckets or self._buckets[-1][0] != hour:
            self._buckets.append((hour, {}))
            self._forget(hour)
        bucket = self._buckets[-1][1]
        bucket[uplink, kind] = bucket.get((uplink, kind), 0) + spent_bytes

    def by_kind(self, uplink: UplinkName, now: Instant) -> dict[str, int]:
        """Return the bytes of the last 24 hours (to the hour), by kind."""
        self._forget(int(now // _BUCKET_S))
        kinds: dict[str, int] = {}
        for _, bucket in self._buckets:
            for (name, kind), spent in bucket.items():
                if name == uplink:
                    kinds[kind] = kinds.get(kind, 0) + spent
        return kinds

    def of(self, uplink: UplinkName, now: Instant) -> int:
        """Return the bytes of the last 24 hours (to the hour)."""
        return sum(self.by_kind(uplink, now).values())

    def _forget(self, hour: int) -> None:
        while self._buckets and self._buckets[0][0] <= hour - _BUCKETS:
            self._buckets.popleft()
