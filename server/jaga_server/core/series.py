"""A site's samples as columns for a chart: raw, or merged into buckets.

Merging is exact where it can be: counts are summed, the least and greatest round trip
are kept, means are weighted by the answers behind them. Percentiles are not made here:
they do not merge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaga_server.core.model import Mode

POINTS = 600
"""About one for each pixel of a chart; more only costs."""
STEPS_S = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
GAP_INTERVALS = 3
"""Without a heartbeat for more than this many intervals the line breaks."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One uplink in one heartbeat, as stored."""

    t_ms: int
    name: str
    mode: Mode
    sent: int
    lost: int
    rtt_min_ms: float | None
    rtt_mean_ms: float | None
    rtt_max_ms: float | None
    active: bool
    by_clock: bool = True
    """False: `t_ms` is its arrival, until its boot is dated."""


@dataclass(frozen=True, slots=True)
class Point:
    """A chart's row; every value None: nothing arrived here."""

    t_ms: int
    rtt_mean_ms: float | None
    rtt_min_ms: float | None
    rtt_max_ms: float | None
    loss_ratio: float | None
    active: bool
    by_clock: bool = True
    """False: some of it is dated by its arrival."""


def bucket_s(from_ms: int, to_ms: int, samples: int) -> int:
    """Return the bucket's width; 0 where the samples of one uplink need no merging."""
    if samples <= POINTS:
        return 0
    for step in STEPS_S:
        if (to_ms - from_ms) / (step * 1000) <= POINTS:
            return step
    return STEPS_S[-1]


def points(
    samples: Sequence[Sample], width_s: int, interval_ms: Callable[[Mode], int]
) -> list[Point]:
    """Return one uplink's rows, oldest first, with a null row in every gap.

    `samples` are of one uplink and in order of time.
    """
    width_ms = width_s * 1000
    groups: list[tuple[int, list[Sample]]] = []
    for sample in samples:
        start = sample.t_ms // width_ms * width_ms if width_ms else sample.t_ms
        if width_ms and groups and groups[-1][0] == start:
            groups[-1][1].append(sample)
        else:
            groups.append((start, [sample]))
    rows: list[Point] = []
    last: Sample | None = None
    for start, members in groups:
        if last is not None:
            interval = interval_ms(last.mode)
            silent = members[0].t_ms - last.t_ms > GAP_INTERVALS * interval
            after = rows[-1].t_ms + (width_ms or interval)
            if silent and after < start:
                rows.append(Point(after, None, None, None, None, active=False))
        rows.append(_merged(start, members))
        last = members[-1]
    return rows


def _merged(t_ms: int, members: Sequence[Sample]) -> Point:
    sent = sum(m.sent for m in members)
    lost = sum(m.lost for m in members)
    measured = [m for m in members if m.rtt_mean_ms is not None]
    weights = [max(1, m.sent - m.lost) for m in measured]
    mean = None
    if measured:
        mean = sum(
            w * m.rtt_mean_ms
            for w, m in zip(weights, measured, strict=True)
            if m.rtt_mean_ms is not None
        ) / sum(weights)
    return Point(
        t_ms,
        mean,
        min((m.rtt_min_ms for m in members if m.rtt_min_ms is not None), default=None),
        max((m.rtt_max_ms for m in members if m.rtt_max_ms is not None), default=None),
        lost / sent if sent else None,
        members[-1].active,
        all(m.by_clock for m in members),
    )
