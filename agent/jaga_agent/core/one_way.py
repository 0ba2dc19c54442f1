"""Loss up told from loss down, by counting at both ends; no clock is needed. Pure.

Every answer says how many of the flow's requests the far end has received. Between two
answers: requests sent − received there = lost on the way up; received there − answers
that came here = lost on the way down (each one received is answered). What is still on
its way makes a count late, never wrong for long: the totals settle with later answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_REORDERED: Final = 64
"""A count that falls back by more than this is a far end that began anew; less may be
answers that overtook one another. The far end's window has the same width."""


@dataclass(frozen=True, slots=True)
class OneWayCounts:
    """Totals since the count began. Two of one count may be subtracted."""

    up_sent: int = 0
    up_lost: int = 0
    down_sent: int = 0
    down_lost: int = 0

    def __add__(self, other: OneWayCounts) -> OneWayCounts:
        return OneWayCounts(
            self.up_sent + other.up_sent,
            self.up_lost + other.up_lost,
            self.down_sent + other.down_sent,
            self.down_lost + other.down_lost,
        )

    def __sub__(self, earlier: OneWayCounts) -> OneWayCounts:
        """Return what came to be since; never below 0, where a late answer settled."""
        return OneWayCounts(
            self.up_sent - earlier.up_sent,
            max(0, self.up_lost - earlier.up_lost),
            self.down_sent - earlier.down_sent,
            max(0, self.down_lost - earlier.down_lost),
        )


@dataclass(slots=True)
class OneWayTally:
    """Counts one flow."""

    _base: tuple[int, int] | None = None
    """Sequence and far count of the answer that the totals begin after."""
    _seq: int = 0
    _received: int = 0
    _answers: int = 0
    counts: OneWayCounts | None = None
    """None until the far end counts."""
    began: int = 0
    """How often it began: totals of two beginnings must not be subtracted."""

    def answered(self, seq: int, received: int | None) -> None:
        """Take an answer; `received` None: the far end does not count this flow."""
        if received is None:
            self._base = self.counts = None
            return
        anew = seq > self._seq and received + _REORDERED <= self._received
        if self._base is None or anew:
            self._base = (seq, received)
            self._seq, self._received, self._answers = seq, received, 0
            self.counts = OneWayCounts()
            self.began += 1
            return
        first_seq, first_received = self._base
        if received > first_received:
            self._answers += 1
        self._seq, self._received = max(self._seq, seq), max(self._received, received)
        up_sent = self._seq - first_seq
        arrived = self._received - first_received
        self.counts = OneWayCounts(
            up_sent, max(0, up_sent - arrived), arrived, max(0, arrived - self._answers)
        )
