"""Counting bytes: a table of what the devices show and what was carried."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.usage import Reading, Usage, after, cut_off, renewed, reset

GIB = 1 << 30


def reading(total, *, index=3, boot="b1"):
    return Reading(boot, index, rx_bytes=total, tx_bytes=total // 2)


# name: (readings, bytes used)
CARRIED = {
    "the first sight is where we begin": ([reading(1000)], 0),
    "the difference": ([reading(1000), reading(3000)], 3000),
    "nothing": ([reading(1000), reading(1000)], 0),
    "a device that came back carried all it shows": (
        [reading(1000), reading(3000), reading(100, index=4)],
        3000 + 150,
    ),
    "even if it shows more than the one before": (
        [reading(1000), reading(3000, index=4)],
        4500,
    ),
    "a reboot": ([reading(1000), reading(2000, boot="b2")], 3000),
    "a driver reset under the same index": (
        [reading(1000), reading(3000), reading(200)],
        3000 + 300,
    ),
    "a 32-bit counter that wraps": (
        [Reading("b1", 3, 4 * GIB - 100, 0), Reading("b1", 3, 50, 0)],
        150,
    ),
    "a 64-bit counter beyond does not wrap": (
        [Reading("b1", 3, 5 * GIB, 0), Reading("b1", 3, 50, 0)],
        50,
    ),
}


@pytest.mark.parametrize(("readings", "used"), CARRIED.values(), ids=CARRIED)
def test_carried(readings, used):
    usage = Usage(since_ms=0)
    for each in readings:
        usage = after(usage, each)
    assert usage.used_bytes == used
    assert usage.last == readings[-1]


# What a device does between two readings: carry bytes, be plugged in anew, be rebooted.
steps = st.lists(
    st.tuples(st.sampled_from(["carry", "replug", "reboot"]), st.integers(0, 1 << 31)),
    max_size=30,
)


@given(steps, st.integers(1, 4))
def test_every_byte_once_however_often_it_is_read(story, every):
    """What is carried is counted once, if each device is read before it goes."""
    boot, index, total, carried = 1, 1, 0, 0
    usage = after(Usage(since_ms=0), Reading("1", 1, 0, 0))
    for number, (what, size) in enumerate(story):
        if what == "carry":
            total += size
            carried += size
        else:
            usage = after(usage, Reading(str(boot), index, total, 0))
            total, index = 0, index + 1
            boot += what == "reboot"
        if number % every == 0:
            usage = after(usage, Reading(str(boot), index, total, 0))
    usage = after(usage, Reading(str(boot), index, total, 0))
    assert usage.used_bytes == carried


def test_a_new_package_begins_at_nothing_or_at_what_the_operator_says():
    usage = Usage(5, used_bytes=700, last=reading(1000), power_losses=2)
    assert reset(usage, 9) == Usage(9, 0, last=reading(1000))
    bought = reset(usage, 9, used_bytes=50)
    assert after(bought, reading(1100)).used_bytes == 50 + 150


# name: (since, obeyed before, quota_since, now, begins anew)
RENEWALS = {
    "no quota_since": (0, None, None, 100, False),
    "not yet": (0, None, 50, 49, False),
    "now": (0, None, 50, 50, True),
    "obeyed already": (0, 50, 50, 60, False),
    "another one": (50, 50, 80, 90, True),
    "older than what the operator began": (70, None, 50, 90, False),
}


@pytest.mark.parametrize(
    ("since", "obeyed", "quota_since", "now", "anew"), RENEWALS.values(), ids=RENEWALS
)
def test_quota_since(since, obeyed, quota_since, now, anew):
    usage = Usage(since, used_bytes=700, since_config_ms=obeyed)
    got = renewed(usage, quota_since, now)
    assert got.used_bytes == (0 if anew else 700)
    assert got.since_ms == (quota_since if anew else since)
    assert renewed(got, quota_since, now) == got, "only once"


def test_only_a_new_boot_can_have_lost_bytes():
    usage = Usage(0, last=reading(1000))
    assert cut_off(usage, "b1").power_losses == 0
    assert cut_off(usage, "b2").power_losses == 1
    assert cut_off(Usage(0), "b2").power_losses == 0
