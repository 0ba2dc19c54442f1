"""How much measuring an uplink can afford: from its quota and its probes' budget. Pure.

Four levels, each with a plan. Nothing here says "do not use" or "do not ask": a plan
only stretches what is done at leisure. Races (probes to settle a suspicion) are not its
affair, so the last uplink that works is never left unwatched or given up for thrift.

Two things raise the level: the quota that is left (of a metered uplink with a quota),
and the probes' own bytes of the last 24 hours against what the site's stage allows. The
higher of the two counts. Both have hysteresis: what wavers around a threshold must not
make the intervals waver.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from jaga_agent.core.model import Mode
from jaga_agent.core.reason import Reason, because

ALLOWANCE_BYTES: Final = {
    Mode.POLLING_DAY: 500_000,
    Mode.READY: 250_000,
    Mode.DORMANT: 100_000,
}
"""IP bytes, both ways, that the agent's own probes may take of an uplink in 24 hours."""

SECONDS_A_DAY: Final = 86_400.0
RESERVE_RATIO: Final = 0.15
"""Of the allowance, kept for races and checks."""
SHORTEST_INTERVAL_S: Final = 5.0
"""Idle heartbeats more often than this tell nothing that a race does not."""


class Level(IntEnum):
    """How much must be saved."""

    NORMAL = 0
    THRIFT = 1
    SPARING = 2
    LAST_DROPS = 3


_QUOTA_RATIOS: Final = (0.80, 0.95, 0.99)
"""Used shares from which thrift, sparing and last drops begin. Of a package of 20 GB
the last is 200 MB: an evening's uploads of one site, which must not go into probes."""
_PROBE_RATIOS: Final = (0.90, 1.10)
"""Spent shares of the allowance for thrift and sparing. Idle heartbeats alone are
planned to take 0.85. There are no last drops here: four times less stays far within any
allowance, and an uplink that is not short of quota must not go unwatched."""
_QUOTA_HYSTERESIS: Final = 0.02
_PROBE_HYSTERESIS: Final = 0.10


@dataclass(frozen=True, slots=True)
class Spending:
    """What an uplink has used and spent, and what it may."""

    used_bytes: int
    """Carried in the quota period, both ways."""
    quota_bytes: int | None
    """None: not metered, or no quota is known."""
    probe_bytes: int
    """The agent's own, of the last 24 hours, both ways."""
    allowance_bytes: int
    """For those: ALLOWANCE_BYTES of the site's stage."""

    def __post_init__(self) -> None:
        if self.allowance_bytes <= 0 or (
            self.quota_bytes is not None and self.quota_bytes <= 0
        ):
            msg = "an allowance or quota is positive; unlimited is None"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a level means."""

    level: Level
    probe_factor: float
    """Heartbeat probes' interval is this many times longer."""
    check_factor: float | None
    """Checks' interval likewise; None: only on suspicion."""
    reason: Reason
    """For the operator."""


def level(spending: Spending, before: Level = Level.NORMAL) -> Level:
    """Return the level now; `before` is the one so far, for the hysteresis."""
    return max(_by_quota(spending, before), _by_probes(spending, before))


def plan(spending: Spending, before: Level = Level.NORMAL) -> Plan:
    """Return what the level now means, and why it is this one."""
    now = level(spending, before)
    factor, check_factor = _FACTORS[now]
    return Plan(now, factor, check_factor, _reason(spending, before, now))


def factors(at: Level) -> tuple[float, float | None]:
    """Return by what heartbeat probes' and checks' intervals are longer."""
    return _FACTORS[at]


_FACTORS: Final[tuple[tuple[float, float | None], ...]] = (
    (1.0, 1.0),
    (2.0, 2.0),
    (4.0, 4.0),
    (20.0, None),
)
"""By level."""


def probe_interval_s(bytes_per_probe: int, allowance_bytes_day: int) -> float:
    """Return how far apart idle heartbeat probes of one uplink are, in seconds.

    So that they take the day's allowance less the reserve, and no more.
    """
    if bytes_per_probe <= 0 or allowance_bytes_day <= 0:
        msg = "a probe's bytes and a day's allowance are positive"
        raise ValueError(msg)
    spendable = allowance_bytes_day * (1 - RESERVE_RATIO)
    return max(SHORTEST_INTERVAL_S, bytes_per_probe * SECONDS_A_DAY / spendable)


def _by_quota(spending: Spending, before: Level) -> Level:
    if spending.quota_bytes is None:
        return Level.NORMAL
    ratio = spending.used_bytes / spending.quota_bytes
    return _reached(ratio, _QUOTA_RATIOS, before, _QUOTA_HYSTERESIS)


def _by_probes(spending: Spending, before: Level) -> Level:
    ratio = spending.probe_bytes / spending.allowance_bytes
    return _reached(ratio, _PROBE_RATIOS, before, _PROBE_HYSTERESIS)


def _reached(
    ratio: float, thresholds: tuple[float, ...], before: Level, hysteresis: float
) -> Level:
    """Return how many thresholds are reached; those already held give way later."""
    held = [
        threshold - (hysteresis if number <= before else 0.0)
        for number, threshold in enumerate(thresholds, 1)
    ]
    return Level(sum(ratio >= threshold for threshold in held))


_WORDS: Final = {
    Level.NORMAL: "measured as usual",
    Level.THRIFT: "measured half as often",
    Level.SPARING: "measured a quarter as often",
    Level.LAST_DROPS: "probed a twentieth as often and checked only on suspicion",
}


def _reason(spending: Spending, before: Level, now: Level) -> Reason:
    words, name = _WORDS[now], now.name.lower().replace("_", "-")
    if now is Level.NORMAL:
        return because("thrift.none", level=name, what=words)
    if spending.quota_bytes is not None and _by_quota(spending, before) is now:
        left = max(0, spending.quota_bytes - spending.used_bytes)
        return because(
            "thrift.quota",
            level=name,
            left_mb=left / 1e6,
            quota_mb=spending.quota_bytes / 1e6,
            what=words,
        )
    return because(
        "thrift.probes",
        level=name,
        spent_kb=spending.probe_bytes / 1e3,
        allowed_kb=spending.allowance_bytes / 1e3,
        what=words,
    )
