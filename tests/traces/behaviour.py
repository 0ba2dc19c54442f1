"""One model and a seed → how the link behaves, hour after hour, packet by packet.

Deterministic: only `random.Random.random` is used, whose sequence Python promises to
keep for a seed; every other distribution is made of it here. No clock, no engine.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from traces.models import HOUR_S

if TYPE_CHECKING:
    from traces.models import Quantiles, RadioModel

MS = 3  # decimals kept of a second: what a recorded hour needs


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing passes from `at_s` on for `length_s`."""

    at_s: float
    length_s: float
    held: bool
    """Packets sent in it arrive after it; otherwise they are lost."""

    @property
    def end_s(self) -> float:
        return self.at_s + self.length_s


@dataclass(frozen=True, slots=True)
class Burst:
    """Packets are lost with `loss_ratio` from `at_s` on for `length_s`."""

    at_s: float
    length_s: float
    loss_ratio: float


class Behaviour:
    """A link's hours. Times are seconds since its start; after the last hour it is calm.

    `gaps`, `bursts` and `steps` ((at_s, standing extra delay in s, extra loss ratio)) are
    sorted; gaps do not overlap one another, neither do bursts.
    """

    def __init__(
        self,
        model: RadioModel,
        hours: float,
        gaps: tuple[Gap, ...],
        bursts: tuple[Burst, ...],
        steps: tuple[tuple[float, float, float], ...],
    ) -> None:
        self.model, self.hours = model, hours
        self.gaps, self.bursts, self.steps = gaps, bursts, steps
        self._gap_starts = [gap.at_s for gap in gaps]
        self._burst_starts = [burst.at_s for burst in bursts]
        self._step_starts = [step[0] for step in steps]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Behaviour) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def _all(self):
        return (self.model, self.hours, self.gaps, self.bursts, self.steps)

    def gap_at(self, at_s: float) -> Gap | None:
        """Return the gap that covers this moment."""
        place = bisect_right(self._gap_starts, at_s) - 1
        if place >= 0 and at_s < self.gaps[place].end_s:
            return self.gaps[place]
        return None

    def standing(self, at_s: float) -> tuple[float, float]:
        """Return the round trip without the packet's own excess, s, and the loss ratio."""
        more_s, loss = 0.0, self.model.loss_ratio
        if (place := bisect_right(self._step_starts, at_s) - 1) >= 0:
            more_s = self.steps[place][1]
            loss = max(loss, self.steps[place][2])
        place = bisect_right(self._burst_starts, at_s) - 1
        if place >= 0:
            burst = self.bursts[place]
            if at_s < burst.at_s + burst.length_s:
                loss = max(loss, burst.loss_ratio)
        return self.model.base_rtt_s + more_s, loss

    def round_trip(
        self, at_s: float, for_loss: float, for_excess: float
    ) -> float | None:
        """Return how long a packet sent now takes there and back, s; None: lost.

        The two draws are uniform over [0, 1). Sleep and queues are the world's: they
        depend on what is sent.
        """
        start_s = at_s
        if (gap := self.gap_at(at_s)) is not None:
            if not gap.held:
                return None
            start_s = gap.end_s
        rtt_s, loss = self.standing(start_s)
        if for_loss < loss:
            return None
        rtt_s += quantile(self.model.excess_s, for_excess)
        # The answer comes through the same air.
        if (gap := self.gap_at(start_s + rtt_s)) is not None:
            if not gap.held:
                return None
            return gap.end_s - at_s + self.model.base_rtt_s / 2
        return start_s - at_s + rtt_s

    def repeated(self, times: int) -> Behaviour:
        """Return the same hours one after the other."""
        span_s = self.hours * HOUR_S
        starts = [turn * span_s for turn in range(times)]
        return Behaviour(
            self.model,
            self.hours * times,
            tuple(
                Gap(t + g.at_s, g.length_s, g.held) for t in starts for g in self.gaps
            ),
            tuple(
                Burst(t + b.at_s, b.length_s, b.loss_ratio)
                for t in starts
                for b in self.bursts
            ),
            tuple(
                (t + at, more, loss) for t in starts for at, more, loss in self.steps
            ),
        )


def quantile(table: Quantiles, ratio: float) -> float:
    """Return the value at a ratio, by straight lines between the table's points.

    >>> quantile(((0.0, 1.0), (0.5, 2.0), (1.0, 4.0)), 0.75)
    3.0
    """
    for (low, a), (high, b) in pairwise(table):
        if ratio <= high:
            return a + (b - a) * (ratio - low) / (high - low)
    return table[-1][1]


def behaviour(model: RadioModel, seed: int, hours: float) -> Behaviour:
    """Return how this link behaves for so many hours; the same for the same seed."""
    draw = random.Random(f"{model.name} {seed}")  # noqa: S311 - repeatable, no secret
    end_s = hours * HOUR_S
    gaps = [
        Gap(at_s, _length(draw, kind.length_s), draw.random() < kind.held_ratio)
        for kind in model.gaps
        for at_s in _poisson(draw, kind.per_hour, end_s)
    ]
    bursts = [
        Burst(at_s, _length(draw, kind.length_s), kind.loss_ratio)
        for kind in model.bursts
        for at_s in _poisson(draw, kind.per_hour, end_s)
    ]
    steps = []
    if (kind := model.steps) is not None:
        # The steps of a day do not begin with our clock.
        at_s = round(draw.random() * kind.every_s, MS)
        while at_s < end_s:
            steps.append((at_s, _length(draw, kind.more_s)))
            if draw.random() < kind.burst_ratio:
                length_s = _length(draw, kind.burst_s)
                bursts.append(Burst(at_s, length_s, kind.burst_loss_ratio))
            at_s = round(at_s + kind.every_s, MS)
    return Behaviour(
        model,
        hours,
        _apart(gaps),
        _apart(bursts),
        tuple(_swollen(model, at_s, more_s) for at_s, more_s in steps),
    )


def _length(draw, table: Quantiles) -> float:
    return round(quantile(table, draw.random()), MS)


def _poisson(draw, per_hour: float, end_s: float):
    at_s = 0.0
    while True:
        at_s += -math.log(1.0 - draw.random()) * HOUR_S / per_hour
        if at_s >= end_s:
            return
        yield round(at_s, MS)


def _apart(stretches):
    """Sort, and drop what begins before the last one has ended (and 50 ms)."""
    kept = []
    for one in sorted(stretches, key=lambda s: s.at_s):
        if not kept or one.at_s >= kept[-1].at_s + kept[-1].length_s + 0.05:
            kept.append(one)
    return tuple(kept)


def _swollen(model, at_s: float, more_s: float) -> tuple[float, float, float]:
    swell = model.swell
    if swell is None:
        return at_s, more_s, 0.0
    since_s = at_s % swell.every_s - swell.first_s
    up = since_s / swell.rise_s
    down = (2 * swell.rise_s + swell.hold_s - since_s) / swell.rise_s
    height = max(0.0, min(1.0, up, down))
    return (
        at_s,
        round(more_s + height * swell.more_s, MS),
        round(height * swell.loss_ratio, 4),
    )
