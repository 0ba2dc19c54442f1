"""Runs of the radio world with a question each: needless moves, delay until a fault is left.

Both the tests and `tests/bench/false_moves.py` ask them, so that what is tuned is what is
tested. The uplink in question is the preferred one; the others are clean fibre, except in
`MIXED`, where all three are radio.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sim.phone import Phone
from sim.radio import PROBE_BYTES, RadioWorld
from sim.world import FIBRE, SIREKAP, START, TELKOMSEL, XL, policy
from traces.behaviour import Behaviour, Gap, behaviour
from traces.models import HOUR_S, MODELS
from traces.recorded import recorded

MIXED = "all_three_radio"
LINKS = (*MODELS, MIXED)
NAMES = (TELKOMSEL, XL, FIBRE)
FAULTS = {
    # name: (what is changed on the road, what the phone is doing when it strikes)
    "blackhole, uploading": ({"silent": True}, "upload"),
    "blackhole, browsing": ({"silent": True}, "browse"),
    "blackhole, idle": ({"silent": True}, None),
    "30 % loss": ({"loss": 0.3}, "mixed"),
    "8 % loss": ({"loss": 0.08}, "mixed"),
    "quota used up": (None, "browse"),
}
WARM_S = 180.0
WAITED_S = 600.0
"""A fault not left by then counts as not found."""


def idle_phone(seed: int) -> Phone:
    """Return a phone that nobody uses: keep-alives alone."""
    return Phone(seed, idle_mean_s=1e9, idle_least_s=1e9)


def busy_phone(seed: int, use: str) -> Phone:
    """Return a phone in use all the time: `upload`, `browse`, or both (`mixed`)."""
    both = (("browse", 0.5), ("upload", 0.5))
    return Phone(
        seed,
        idle_mean_s=1.0,
        idle_least_s=0.3,
        photo_rest_s=(0.5, 2.0),
        uses=both if use == "mixed" else ((use, 1.0),),
    )


def link_behaviours(link: str, seed: int, hours: float) -> dict[str, Behaviour]:
    """Return generated behaviours for the three uplinks of a trial."""
    kinds = {
        TELKOMSEL: "lte_stationary" if link == MIXED else link,
        XL: "lte_cell_edge" if link == MIXED else "fibre",
        FIBRE: "starlink" if link == MIXED else "fibre",
    }
    return {
        name: behaviour(MODELS[kind], 10 * seed + place, hours)
        for place, (name, kind) in enumerate(kinds.items())
    }


def recorded_behaviours(link: str, hours: int) -> dict[str, Behaviour]:
    """Return the recorded hour of each uplink of a trial, over and over."""
    kinds = ("lte_stationary", "lte_cell_edge", "starlink")
    if link != MIXED:
        kinds = (link, "fibre", "fibre")
    return {
        name: recorded(kind).repeated(hours)
        for name, kind in zip(NAMES, kinds, strict=True)
    }


def day(behaviours, seed=1, hours=12.0, phone=None, **changes) -> RadioWorld:
    """Return a world after so many hours of a phone's ordinary day."""
    world = RadioWorld(
        policy(**{"checks": (SIREKAP,), **changes}),
        seed=seed,
        traffic_per_s=0,
        behaviours=behaviours,
        phone=phone or Phone(seed),
    )
    return world.run(hours * HOUR_S)


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one scripted fault."""

    left_after_s: float | None
    """None: not left within WAITED_S."""
    rule: str | None


def fault(link: str, name: str, seed: int, **changes) -> Found | None:
    """Let the preferred uplink fail at a moment of its own; None if it was not in use."""
    change, use = FAULTS[name]
    behaviours = link_behaviours(link, 1000 + seed, (WARM_S + 60 + WAITED_S) / HOUR_S)
    phone = idle_phone(seed) if use is None else busy_phone(seed, use)
    world = RadioWorld(
        policy(**{"checks": (SIREKAP,), **changes}),
        seed=seed,
        traffic_per_s=0,
        behaviours=behaviours,
        phone=phone,
    )
    at_s = WARM_S + 60 * random.Random(f"fault {seed}").random()  # noqa: S311
    world.run(at_s)
    while use is not None and phone.sent_at < world.now - 0.1:
        # It must strike while the phone sends, or the delay is that of the next use.
        at_s += 0.05
        world.run(at_s)
    if world.state.active != TELKOMSEL:
        return None
    if change is None:
        world.cut_off.add(TELKOMSEL)
    else:
        world.change(at_s, TELKOMSEL, **change)
    seen = len(world.log)
    while world.state.active == TELKOMSEL and world.now < START + at_s + WAITED_S:
        world.run(world.now - START + 1.0)
    moved = next(
        ((at, a) for at, a in world.log[seen:] if hasattr(a, "previous")), None
    )
    if moved is None:
        return Found(None, None)
    return Found(moved[0] - at_s, moved[1].rule)


def idle_bytes_per_day(link: str, seed: int, hours=4.0, **changes) -> dict[str, int]:
    """Return what probing costs an unused site on each uplink: both ways, bytes a day."""
    behaviours = link_behaviours(link, seed, hours)
    world = day(behaviours, seed, hours, phone=idle_phone(seed), **changes)
    return {
        name: int(sent * 2 * PROBE_BYTES * 24 / hours)
        for name, sent in world.sent.items()
    }


def with_gap(calm: Behaviour, at_s: float, length_s: float) -> Behaviour:
    """Return the same link with one gap in which all is lost."""
    gap = Gap(at_s, length_s, held=False)
    return Behaviour(calm.model, calm.hours, (gap,), calm.bursts, calm.steps)
