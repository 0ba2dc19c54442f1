"""Estimators the verdicts rest on: round-trip timeout, loss test, flap damping.

Values in, values out; each formula names its source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

ALPHA: Final = 1 / 8
BETA: Final = 1 / 4
"""RFC 6298 (2.3): gains of the smoothed round trip and of its variation."""

CLEAN_RATIO: Final = 0.01
"""H0 of the loss test: what a healthy mobile link loses now and then."""
MILD_RATIO: Final = 0.05
"""H1 of the patient chart: where TCP over 80 ms falls under 1 Mbit/s (Mathis 1997)."""
HEAVY_RATIO: Final = 0.30
"""H1 of the hasty chart."""
ALARM: Final = math.log(1_000_000)
"""Page's h. Under H0 a chart that stands at s reaches h before it is back at 0 with a
chance below e^-(h - s) (Wald's inequality; Page 1954, Biometrika 41). After one loss the
hasty one stands at 3.4: of a link that loses 1 % of 100,000 probes a day, 1,000 such
chances of 1 in 33,000 are a false alarm a month."""
CLEAR: Final = math.log(20)
"""Of the reversed test: back to clean with a 5 % chance of error."""


def _llr(h1_ratio: float) -> tuple[float, float]:
    """Return the log-likelihood ratios of a lost and of an answered probe."""
    return (
        math.log(h1_ratio / CLEAN_RATIO),
        math.log((1 - h1_ratio) / (1 - CLEAN_RATIO)),
    )


MILD_LOST, MILD_ANSWERED = _llr(MILD_RATIO)
HEAVY_LOST, HEAVY_ANSWERED = _llr(HEAVY_RATIO)
LIKELY: Final = 0.5 * ALARM
"""Halfway to the alarm: the standbys are made ready."""
QUESTION: Final = MILD_LOST * 0.6
"""A loss not long ago: worth more samples."""


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
    """CUSUMs over the onsets of loss: clean → mild, clean → heavy, and back to clean.

    A link's losses come in runs (Gilbert 1960): a handover that swallows ten probes is
    one event, not ten. So only a probe whose predecessor was answered is a trial of the
    good state's loss ratio; the rest of a run, and the answer that ends it, say nothing.
    """

    mild: float = 0.0
    heavy: float = 0.0
    clear: float = 0.0
    in_run: bool = False
    """The last probe was lost."""
    clean_run: int = 0
    """Probes answered since the last loss."""
    lost: int = 0
    trials: int = 0
    """Of this test since the mild chart was last at 0."""

    def after(self, *, lost: bool) -> LossTest:
        """Return the test after one more probe of known fate."""
        if self.in_run:
            return self if lost else replace(self, in_run=False, clean_run=1)
        mild = max(0.0, self.mild + (MILD_LOST if lost else MILD_ANSWERED))
        heavy = max(0.0, self.heavy + (HEAVY_LOST if lost else HEAVY_ANSWERED))
        clear = max(0.0, self.clear - (MILD_LOST if lost else MILD_ANSWERED))
        return LossTest(
            min(ALARM, mild),
            min(ALARM, heavy),
            min(CLEAR, clear),
            in_run=lost,
            clean_run=0 if lost else self.clean_run + 1,
            lost=self.lost + lost if mild else 0,
            trials=self.trials + 1 if mild else 0,
        )

    def taken_back(self) -> LossTest:
        """Return the test after a reply came late: the loss was none."""
        return replace(
            self,
            mild=max(0.0, self.mild - MILD_LOST + MILD_ANSWERED),
            heavy=max(0.0, self.heavy - HEAVY_LOST + HEAVY_ANSWERED),
            in_run=False,
            lost=max(0, self.lost - 1),
        )

    @property
    def raised(self) -> bool:
        """Whether the path loses too much."""
        return max(self.mild, self.heavy) >= ALARM

    @property
    def likely(self) -> bool:
        """Whether it probably does: the standbys are made ready."""
        return max(self.mild, self.heavy) >= LIKELY

    @property
    def in_question(self) -> bool:
        """Whether there was a loss not long ago."""
        return self.mild >= QUESTION

    @property
    def hasty(self) -> bool:
        """Whether heavy loss is what it looks like."""
        return self.heavy >= HEAVY_LOST

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
