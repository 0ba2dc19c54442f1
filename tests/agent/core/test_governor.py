"""The governor: a table of what is spent and what follows, and what must never follow."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.governor import (
    ALLOWANCE_BYTES,
    RESERVE_RATIO,
    SECONDS_A_DAY,
    Level,
    Spending,
    level,
    plan,
    probe_interval_s,
)
from jaga_agent.core.model import Mode

GB, MB, KB = 10**9, 10**6, 10**3
NORMAL, THRIFT, SPARING, LAST = Level


def spending(used=0, quota=10 * GB, probes=0, allowance=500 * KB):
    return Spending(used, quota, probes, allowance)


# name: (spending, level before, level wanted, its reason)
LEVELS = {
    "a fresh package": (
        spending(),
        NORMAL,
        NORMAL,
        "Quota and probes' budget suffice: measured as usual.",
    ),
    "just under a fifth left": (
        spending(8 * GB),
        NORMAL,
        THRIFT,
        "2000 MB of 10000 MB are left: measured half as often.",
    ),
    "a twentieth left": (
        spending(9500 * MB),
        NORMAL,
        SPARING,
        "500 MB of 10000 MB are left: measured a quarter as often.",
    ),
    "a hundredth left": (
        spending(9900 * MB),
        NORMAL,
        LAST,
        (
            "100 MB of 10000 MB are left: probed a twentieth as often and checked only on"
            " suspicion."
        ),
    ),
    "used up, and more": (
        spending(11 * GB),
        LAST,
        LAST,
        (
            "0 MB of 10000 MB are left: probed a twentieth as often and checked only on"
            " suspicion."
        ),
    ),
    "a new package ends it at once": (
        spending(0),
        LAST,
        NORMAL,
        "Quota and probes' budget suffice: measured as usual.",
    ),
    "a threshold that was reached holds a little below it": (
        spending(7900 * MB),
        THRIFT,
        THRIFT,
        "2100 MB of 10000 MB are left: measured half as often.",
    ),
    "but is not reached from there": (
        spending(7900 * MB),
        NORMAL,
        NORMAL,
        "Quota and probes' budget suffice: measured as usual.",
    ),
    "idle heartbeats as planned": (
        spending(probes=425 * KB),
        NORMAL,
        NORMAL,
        "Quota and probes' budget suffice: measured as usual.",
    ),
    "a day of many races": (
        spending(probes=450 * KB),
        NORMAL,
        THRIFT,
        "Probes took 450 kB in 24 hours, of 500 kB allowed: measured half as often.",
    ),
    "a day of storms": (
        spending(probes=5 * MB),
        NORMAL,
        SPARING,
        (
            "Probes took 5000 kB in 24 hours, of 500 kB allowed: measured a quarter as"
            " often."
        ),
    ),
    "no quota, however much is used": (
        spending(used=10**15, quota=None),
        NORMAL,
        NORMAL,
        "Quota and probes' budget suffice: measured as usual.",
    ),
    "no quota, but the probes have a budget": (
        spending(quota=None, probes=110 * KB, allowance=100 * KB),
        NORMAL,
        SPARING,
        (
            "Probes took 110 kB in 24 hours, of 100 kB allowed: measured a quarter as"
            " often."
        ),
    ),
    "the higher of the two counts": (
        spending(8 * GB, probes=600 * KB),
        NORMAL,
        SPARING,
        (
            "Probes took 600 kB in 24 hours, of 500 kB allowed: measured a quarter as"
            " often."
        ),
    ),
}


@pytest.mark.parametrize(
    ("of", "before", "want", "reason"), LEVELS.values(), ids=LEVELS
)
def test_levels(of, before, want, reason):
    planned = plan(of, before)
    assert (planned.level, planned.reason) == (want, reason)


@pytest.mark.parametrize(
    ("which", "probe_factor", "check_factor"),
    [(NORMAL, 1, 1), (THRIFT, 2, 2), (SPARING, 4, 4), (LAST, 20, None)],
)
def test_what_each_level_does(which, probe_factor, check_factor):
    used = {NORMAL: 0, THRIFT: 85, SPARING: 96, LAST: 100}[which]
    planned = plan(spending(used, quota=100))
    assert (planned.level, planned.probe_factor, planned.check_factor) == (
        which,
        probe_factor,
        check_factor,
    )


spent = st.builds(
    Spending,
    used_bytes=st.integers(0, 50 * GB),
    quota_bytes=st.none() | st.integers(1, 50 * GB),
    probe_bytes=st.integers(0, 10 * MB),
    allowance_bytes=st.sampled_from(sorted(ALLOWANCE_BYTES.values())),
)


@given(spent, st.sampled_from(Level), st.integers(0, 10 * GB), st.integers(0, MB))
def test_more_use_never_loosens(of, before, more_used, more_probes):
    more = Spending(
        of.used_bytes + more_used,
        of.quota_bytes,
        of.probe_bytes + more_probes,
        of.allowance_bytes,
    )
    assert level(of, before) <= level(more, before)


@given(spent, st.sampled_from(Level))
def test_nothing_is_ever_forbidden(of, before):
    """An uplink that works is probed, however little is left: it may be the last one."""
    planned = plan(of, before)
    assert 1 <= planned.probe_factor <= 20
    assert planned.check_factor is None or 1 <= planned.check_factor <= 4
    if of.quota_bytes is None:
        assert planned.check_factor is not None, "a budget alone ends no checks"


@given(spent, st.sampled_from(Level))
def test_a_level_is_stable(of, before):
    once = level(of, before)
    assert level(of, once) == once
    assert level(of, Level.NORMAL) <= once, "hysteresis only ever holds a level"


@given(st.integers(1, 1500), st.integers(10 * KB, 10 * MB))
def test_idle_heartbeats_stay_within_the_allowance(size, allowance):
    interval_s = probe_interval_s(size, allowance)
    assert interval_s >= 5
    a_day = SECONDS_A_DAY / interval_s * size
    assert a_day <= allowance * (1 - RESERVE_RATIO) * (1 + 1e-9)
    if interval_s > 5:
        assert a_day == pytest.approx(allowance * (1 - RESERVE_RATIO))


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [(Mode.POLLING_DAY, 13.0), (Mode.READY, 26.0), (Mode.DORMANT, 65.1)],
)
def test_the_interval_of_a_ping(mode, seconds):
    assert probe_interval_s(64, ALLOWANCE_BYTES[mode]) == pytest.approx(
        seconds, abs=0.1
    )


def test_what_has_no_bound_is_none_and_not_zero():
    with pytest.raises(ValueError, match="unlimited is None"):
        spending(quota=0)
    with pytest.raises(ValueError, match="unlimited is None"):
        spending(allowance=0)
    with pytest.raises(ValueError, match="positive"):
        probe_interval_s(64, 0)
    assert math.isfinite(probe_interval_s(1, 1))
