"""The faults of the benchmark: what is done to the site, and what is wanted of it.

A table; running and judging are others' work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lab.topology import PING_TARGETS, SIREKAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Effect, Lab

ACTIVE, STANDBY = "telkomsel", "indosat"
"""Who carries when a fault comes, and who is next."""
GREEDY_BIT_S = 8_000_000
UPLOAD_BIT_S = 400_000


@dataclass(frozen=True, slots=True)
class Goal:
    """What the median of a case's runs must not exceed; None: not asked for."""

    bad_s: float | None = None
    upload_gap_s: float | None = None
    moves: int | None = None
    moved_within_s: float | None = None
    back_within_s: float | None = None
    reported: bool = False
    """And the thing must be said by its name, in every run."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    title: str
    act: Callable[[Lab, float], Effect]
    """Does it; the second argument is how long it may go on (flapping)."""
    goal: Goal = field(default_factory=Goal)
    use: str = "phone"
    """phone: in use as always; late: the phone starts after the fault; greedy: its
    upload takes all it can get; names: it looks a name up each 50 ms instead."""
    window_s: float = 30.0
    lasts_s: float | None = None
    """`act` itself takes so long; the window is that and a little more."""
    quick_lasts_s: float | None = None
    runs: int | None = None
    """At most this many: it is long."""
    told: bool = True
    """Whether being told helps: there is somewhere better to go."""
    peers: bool = True
    link_layer: bool = False
    """Carrier or device lost: the operating system tells, which models leave out."""
    as_shipped: bool = False
    """With the default hold-down, so on a lab of its own: it does not come back soon."""
    same_as: str | None = None
    """No runs of its own: another row's runs, judged by another goal."""
    report: str | None = None
    """What must be reported: `busy`, or a target's address."""
    hook: str | None = None
    """Needs this of the lab (a method of `Lab`); without it the row says so."""


def each_way(round_trip_ratio: float) -> float:
    """Return the loss of each direction that makes this loss of round trips."""
    return 1 - math.sqrt(1 - round_trip_ratio)


def _all_down_then_one(lab: Lab, quiet_s: float) -> Effect:
    from lab.clock import boottime_s, sleep_until

    for uplink in lab.uplinks.values():
        uplink.blackhole()
    sleep_until(boottime_s() + quiet_s)
    return lab.uplinks["telkom-fibre"].restore()


def _dns_dead(lab: Lab, _: float) -> Effect:
    return lab.uplinks[ACTIVE].dns_dead()


MOVE = Goal(bad_s=0.5, upload_gap_s=1.2)
AT_ONCE = Goal(bad_s=0.1, upload_gap_s=1.0)
FIRST_SYN = Goal(bad_s=1.2)

CASES = (
    Case(
        "carrier",
        "carrier lost (cable pulled)",
        lambda lab, _: lab.uplinks[ACTIVE].carrier_loss(),
        AT_ONCE,
        link_layer=True,
    ),
    Case(
        "unplug",
        "stick pulled (device gone)",
        lambda lab, _: lab.uplinks[ACTIVE].unplug(),
        AT_ONCE,
        link_layer=True,
    ),
    Case(
        "blackhole",
        "silent both ways",
        lambda lab, _: lab.uplinks[ACTIVE].blackhole(),
        MOVE,
    ),
    Case(
        "blackhole-up",
        "silent upwards",
        lambda lab, _: lab.uplinks[ACTIVE].blackhole("up"),
        MOVE,
    ),
    Case(
        "blackhole-down",
        "silent downwards",
        lambda lab, _: lab.uplinks[ACTIVE].blackhole("down"),
        MOVE,
    ),
    Case(
        "cgnat",
        "carrier NAT drops mid-stream TCP after the switch (as `blackhole`: it always "
        "does here)",
        lambda lab, _: lab.uplinks[ACTIVE].blackhole(),
        Goal(bad_s=0.5, upload_gap_s=1.5),
        same_as="blackhole",
    ),
    Case(
        "gateway-only",
        "gateway and carrier answer, the internet behind them is gone",
        lambda lab, _: lab.uplinks[ACTIVE].isolate(),
        MOVE,
    ),
    Case(
        "hang",
        "modem hangs: carrier, but no answer, not even to ARP",
        lambda lab, _: lab.uplinks[ACTIVE].hang(),
        MOVE,
    ),
    Case(
        "late-blackhole",
        "silent both ways, first SYN after the fault",
        lambda lab, _: lab.uplinks[ACTIVE].blackhole(),
        FIRST_SYN,
        use="late",
    ),
    Case(
        "late-blackhole-up",
        "silent upwards, first SYN after the fault",
        lambda lab, _: lab.uplinks[ACTIVE].blackhole("up"),
        FIRST_SYN,
        use="late",
    ),
    Case(
        "late-blackhole-down",
        "silent downwards, first SYN after the fault",
        lambda lab, _: lab.uplinks[ACTIVE].blackhole("down"),
        FIRST_SYN,
        use="late",
    ),
    Case(
        "loss-30",
        "30 % of round trips lost (16.3 % each way)",
        lambda lab, _: lab.uplinks[ACTIVE].loss(each_way(0.30)),
        Goal(bad_s=4.0),
    ),
    Case(
        "loss-30-each",
        "30 % lost each way (51 % of round trips)",
        lambda lab, _: lab.uplinks[ACTIVE].loss(0.30),
        Goal(bad_s=4.0),
    ),
    Case(
        "loss-8",
        "8 % of round trips lost (4.1 % each way), the others clean",
        lambda lab, _: lab.uplinks[ACTIVE].loss(each_way(0.08)),
        Goal(moved_within_s=60.0),
        window_s=60.0,
        runs=10,
    ),
    Case(
        "latency",
        "round trip 20 → 1,500 ms, standing",
        lambda lab, _: lab.uplinks[ACTIVE].latency(740),
        Goal(bad_s=2.0),
    ),
    Case(
        "bufferbloat",
        "the site's own upload fills a queue of 256 kB at 1 Mbit/s",
        lambda lab, _: lab.uplinks[ACTIVE].bufferbloat(),
        Goal(moves=0, reported=True),
        use="greedy",
        window_s=45.0,
        told=False,
        report="busy",
    ),
    Case(
        "quota",
        "quota used up: ping and DNS fine, HTTP redirected, TLS reset",
        lambda lab, _: lab.uplinks[ACTIVE].quota(),
        Goal(bad_s=2.0),
    ),
    Case(
        "dns-dead",
        "DNS dead on that provider, phone resolves through the Pi",
        _dns_dead,
        Goal(bad_s=2.0),
        use="names",
        hook="start_resolver",
    ),
    Case(
        "target-dead",
        "one ping target dead everywhere",
        lambda lab, _: lab.internet.target_dead(PING_TARGETS[0]),
        Goal(moves=0, reported=True),
        window_s=45.0,
        runs=5,
        told=False,
        report=PING_TARGETS[0],
    ),
    Case(
        "sirekap-dead",
        "Sirekap itself down everywhere",
        lambda lab, _: lab.internet.target_dead(SIREKAP),
        Goal(moves=0, reported=True),
        window_s=45.0,
        runs=5,
        told=False,
        report=SIREKAP,
    ),
    Case(
        "flap",
        "flapping, 5 s down and 5 s up, for ten minutes",
        lambda lab, lasts_s: lab.uplinks[ACTIVE].flap(lasts_s),
        Goal(moves=3),
        window_s=5.0,
        lasts_s=600.0,
        quick_lasts_s=120.0,
        runs=1,
        told=False,
        peers=False,
        as_shipped=True,
    ),
    Case(
        "all-down",
        "all down for some seconds, then the last of them back",
        _all_down_then_one,
        Goal(back_within_s=1.0),
        window_s=10.0,
        lasts_s=8.0,
        told=False,
        peers=False,
    ),
    Case(
        "radio-lte",
        "no fault: LTE with handovers and a radio that sleeps, three minutes",
        lambda lab, _: lab.uplinks[ACTIVE].radio("lte"),
        window_s=180.0,
        runs=1,
        told=False,
        peers=False,
        as_shipped=True,
    ),
    Case(
        "radio-starlink",
        "no fault: Starlink with a new slot every 15 s, three minutes",
        lambda lab, _: lab.uplinks[ACTIVE].radio("starlink"),
        window_s=180.0,
        runs=1,
        told=False,
        peers=False,
        as_shipped=True,
    ),
)


def chosen(patterns: str) -> list[Case]:
    """Return the cases that a comma-separated list of names or globs means.

    Raises ValueError naming what is unknown.
    """
    found: list[Case] = []
    for pattern in patterns.split(","):
        matching = [c for c in CASES if fnmatchcase(c.name, pattern.strip())]
        if not matching:
            names = ", ".join(case.name for case in CASES)
            msg = f"no fault is called {pattern.strip()!r}: choose of {names}"
            raise ValueError(msg)
        found += [case for case in matching if case not in found]
    return sorted(found, key=CASES.index)
