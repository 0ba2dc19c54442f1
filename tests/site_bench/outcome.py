"""What a run gave, what many runs gave together, and whether a goal is met. Pure."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from site_bench.cases import Goal


@dataclass(frozen=True, slots=True)
class Run:
    """One fault, once. Seconds; None: not measured, or it never came."""

    case: str
    subject: str
    bad_s: float | None
    """Bad attempts × interval, until it was good again (or patience ended)."""
    ended: bool
    """The site was good again while we looked; False: `bad_s` is a lower bound."""
    upload_gap_s: float | None = None
    upload_open: bool = False
    """The upload had not come back when we ceased to look."""
    moves: int | None = None
    moved_after_s: float | None = None
    """From the fault to the first move of the route."""
    back_after_s: float | None = None
    """From the repair to the first good connection."""
    reported: bool | None = None
    cpu_ratio: float | None = None
    """Of one core, over the run."""
    rss_bytes: int | None = None

    def line(self) -> str:
        """Return it as one JSON line."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True, slots=True)
class Idle:
    """What a subject costs while nobody uses the site."""

    subject: str
    seconds: float
    probe_bytes_day: dict[str, float]
    """IP bytes, both ways, by uplink, without MQTT; extrapolated to a day."""
    mqtt_bytes_day: float
    cpu_ratio: float | None
    rss_bytes: int | None

    def line(self) -> str:
        """Return it as one JSON line."""
        return json.dumps({"idle": asdict(self)}) + "\n"


def read(lines: Iterable[str]) -> tuple[list[Run], list[Idle]]:
    """Read what `line` wrote; a later idle measurement replaces an earlier one."""
    runs: list[Run] = []
    idle: dict[str, Idle] = {}
    for line in lines:
        record = json.loads(line)
        if "idle" in record:
            one = Idle(**record["idle"])
            idle[one.subject] = one
        else:
            runs.append(Run(**record))
    return runs, list(idle.values())


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and worst of one number over many runs."""

    median: float
    worst: float
    at_least: bool = False
    """The worst is a lower bound."""


def spread(
    values: Sequence[float | None], bounds: Sequence[bool] = ()
) -> Spread | None:
    """Return median and worst; `bounds` tells which values are lower bounds.

    None among the values is worse than every number: the median may become infinite.
    """
    if not values or all(value is None for value in values):
        return None
    numbers = [float("inf") if value is None else value for value in values]
    worst = max(numbers)
    at_least = any(b for v, b in zip(numbers, bounds, strict=False) if v == worst)
    return Spread(statistics.median(numbers), worst, at_least)


@dataclass(frozen=True, slots=True)
class Together:
    """All runs of one case by one subject."""

    runs: int
    bad_s: Spread | None
    upload_gap_s: Spread | None
    moves: Spread | None
    moved_after_s: Spread | None
    """None: nobody moved in any run."""
    back_after_s: Spread | None
    reported: int
    """In how many runs."""
    asked: int
    """Of how many; 0: it has no voice."""


def together(runs: Sequence[Run]) -> Together:
    """Return what the runs say together."""
    return Together(
        runs=len(runs),
        bad_s=spread([r.bad_s for r in runs], [not r.ended for r in runs]),
        upload_gap_s=spread(
            [r.upload_gap_s for r in runs], [r.upload_open for r in runs]
        ),
        moves=spread([r.moves for r in runs]),
        moved_after_s=spread([r.moved_after_s for r in runs]),
        back_after_s=spread([r.back_after_s for r in runs]),
        reported=sum(r.reported is True for r in runs),
        asked=sum(r.reported is not None for r in runs),
    )


def misses(goal: Goal, of: Together) -> list[str]:
    """Return what the medians miss, in words; empty: the goal is met."""
    wanted = (
        ("bad seconds", of.bad_s, goal.bad_s),
        ("upload gap", of.upload_gap_s, goal.upload_gap_s),
        ("moves", of.moves, goal.moves),
        ("moved after", of.moved_after_s, goal.moved_within_s),
        ("back after", of.back_after_s, goal.back_within_s),
    )
    found = []
    for what, measured, limit in wanted:
        if limit is None:
            continue
        if measured is None:
            found.append(f"{what}: never")
        elif measured.median > limit + 1e-9:
            found.append(f"{what}: {measured.median:.2f} > {limit:g}")
    if goal.reported and of.reported < of.runs:
        found.append(f"reported in {of.reported} of {of.runs}")
    return found
