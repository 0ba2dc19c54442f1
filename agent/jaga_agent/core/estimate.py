"""Estimators the verdicts rest on: round-trip timeout, loss test, flap damping.

Values in, values out; each formula names its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

ALPHA: Final = 1 / 8
BETA: Final = 1 / 4
"""RFC 6298 (2.3): gains of the smoothed round trip and of its variation."""

CLEAN_LOSS_RATIO: Final = 0.01
"""H0 of the loss test: what a healthy mobile link loses now and then."""
BAD_LOSS_RATIO: Final = 0.10
"""H1: where TCP over 80 ms falls under 0.6 Mbit/s (Mathis et al. 1997)."""
LLR_LOST: Final = math.log(BAD_LOSS_RATIO / CLEAN_LOSS_RATIO)
LLR_ANSWERED: Final = math.log((1 - BAD_LOSS_RATIO) / (1 - CLEAN_LOSS_RATIO))
ALARM: Final = math.log(1000)
"""Page's h. Under H0 a CUSUM started at 0 reaches h with a chance below e^-h = 1/1000
for each excursion (Wald's inequality; Page 1954, Biometrika 41)."""
CLEAR: Final = math.log(20)
"""Of the reversed test: back to clean with a 5 % chance of error."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Smoothed round trip of one path, seconds (RFC 6298, section 2)."""

    srtt_s: float | None = None
    rttvar_s: float = 0.0

    def after(self, rtt_s: float) -> RoundTrip:
        """Return the estimate after one more measured round trip."""
        if self.srtt_s is None:
            return RoundTrip(rtt_s, rtt_s / 2)
        rttvar_s = (1 - BETA) * self.rttvar_s + BETA * abs(self.srtt_s - rtt_s)
        return RoundTrip((1 - ALPHA) * self.srtt_s + ALPHA * rtt_s, rttvar_s)

    def timeout_s(self, *, floor_s: float, cap_s: float, initial_s: float) -> float:
        """Return SRTT + 4·RTTVAR within the bounds, `initial_s` while unknown."""
        if self.srtt_s is None:
            return initial_s
        return min(cap_s, max(floor_s, self.srtt_s + 4 * self.rttvar_s))


@dataclass(frozen=True, slots=True)
class LossTest:
    """Two CUSUMs over Bernoulli trials: clean → bad, and bad → clean (Page 1954)."""

    alarm: float = 0.0
    clear: float = 0.0

    def after(self, *, lost: bool) -> LossTest:
        """Return the test after one more probe of known fate."""
        llr = LLR_LOST if lost else LLR_ANSWERED
        return LossTest(
            min(ALARM, max(0.0, self.alarm + llr)),
            min(CLEAR, max(0.0, self.clear - llr)),
        )

    def taken_back(self) -> LossTest:
        """Return the test after a reply came late: the loss was none."""
        return LossTest(
            max(0.0, self.alarm - LLR_LOST + LLR_ANSWERED),
            min(CLEAR, self.clear - LLR_ANSWERED),
        )

    @property
    def raised(self) -> bool:
        """Whether the path loses too much."""
        return self.alarm >= ALARM

    @property
    def cleared(self) -> bool:
        """Whether a path that lost too much is clean again."""
        return self.clear >= CLEAR


@dataclass(frozen=True, slots=True)
class Damping:
    """Flap penalty that decays by half each half-life (after RFC 2439, 4.2)."""

    penalty: float = 0.0
    at_s: float = 0.0

    def now(self, now_s: float, half_life_s: float) -> float:
        """Return the penalty at `now_s`."""
        return self.penalty * math.pow(0.5, (now_s - self.at_s) / half_life_s)

    def fallen(self, now_s: float, half_life_s: float) -> Damping:
        """Return the damping after one more fall."""
        return Damping(self.now(now_s, half_life_s) + 1, now_s)


def hold_down_s(penalty: float, *, base_s: float, cap_s: float) -> float:
    """Return how long a recovered uplink waits: doubled for each fall not forgotten.

    >>> hold_down_s(1.0, base_s=60, cap_s=900)
    60.0
    >>> hold_down_s(3.0, base_s=60, cap_s=900)
    240.0
    """
    return float(min(cap_s, base_s * 2 ** max(0.0, min(penalty, 64.0) - 1)))
