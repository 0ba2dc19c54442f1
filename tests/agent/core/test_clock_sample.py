"""Offset and uncertainty of the Pi's clock, by the arithmetic of NTP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core import clock_sample
from jaga_agent.core.stamps import Stamp

MS = 1_000_000
EPOCH = 1_795_000_000 * 10**9
"""UTC when the Pi was started."""


def exchange(up_ns, down_ns, *, hold_ns=0, at_ns=10**12, error_s=0.001, synced=True):
    """One exchange over a path with these true delays."""
    receive_ns = EPOCH + at_ns + up_ns
    return clock_sample.sample(
        at_ns,
        at_ns + up_ns + hold_ns + down_ns,
        receive_ns=receive_ns,
        hold_ns=hold_ns,
        error_s=error_s,
        synchronised=synced,
    )


def test_a_symmetric_path_tells_the_very_time():
    of = exchange(20 * MS, 20 * MS, hold_ns=300 * MS)
    assert (of.epoch_ns, of.delay_ns) == (EPOCH, 40 * MS)
    now = Stamp(wall_ns=EPOCH + of.boot_ns - 7000 * MS, boot_ns=of.boot_ns)
    told = clock_sample.offset(of, now)
    assert told.offset_ns == 7000 * MS, "the Pi is seven seconds behind"
    assert told.uncertainty_ns == 20 * MS + 1 * MS
    assert told.age_ns == 0
    assert told.synchronised


def test_uncertainty_grows_with_age():
    of = exchange(MS, MS, error_s=0)
    hour_ns = 3600 * 10**9
    told = clock_sample.offset(of, Stamp(0, of.boot_ns + hour_ns))
    # 50 ppm, 180 ms an hour.
    assert told.uncertainty_ns == MS + 180 * MS
    assert told.age_ns == hour_ns


def test_the_shortest_round_trip_is_the_best():
    samples = [exchange(n * MS, 2 * MS) for n in (30, 3, 80)]
    assert clock_sample.best(samples) is samples[1]
    assert clock_sample.best([]) is None


@given(
    up_ns=st.integers(0, 10**10),
    down_ns=st.integers(0, 10**10),
    hold_ns=st.integers(0, 2**32 - 1),
    off_ns=st.integers(-(10**18), 10**18),
    step_ns=st.integers(-(10**18), 10**18),
)
def test_the_truth_is_always_within(up_ns, down_ns, hold_ns, off_ns, step_ns):
    of = exchange(up_ns, down_ns, hold_ns=hold_ns, error_s=0)
    # Wherever the Pi's own clock is, and whatever it was before.
    for wall_off_ns in (off_ns, off_ns + step_ns):
        now = Stamp(EPOCH + of.boot_ns - wall_off_ns, of.boot_ns)
        told = clock_sample.offset(of, now)
        assert abs(told.offset_ns - wall_off_ns) <= told.uncertainty_ns + 1


@pytest.mark.parametrize("hold_ns", [0, 5 * MS])
def test_a_delay_is_never_negative(hold_ns):
    # A stepped server clock may claim to have held it longer than it was away.
    of = clock_sample.sample(
        0, MS, receive_ns=EPOCH, hold_ns=hold_ns, error_s=0, synchronised=True
    )
    assert of.delay_ns == max(0, MS - hold_ns)
