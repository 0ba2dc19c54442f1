"""Estimators against their sources."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.estimate import (
    ALARM,
    Damping,
    LossTest,
    RoundTrip,
    hold_down_s,
)

BOUNDS = {"floor_s": 0.2, "cap_s": 2.0, "initial_s": 1.0}


def test_rfc_6298_first_and_second_measurement():
    first = RoundTrip().after(0.4)
    assert (first.srtt_s, first.rttvar_s) == (0.4, 0.2)
    second = first.after(0.6)
    assert second.rttvar_s == pytest.approx(0.75 * 0.2 + 0.25 * 0.2)
    assert second.srtt_s == pytest.approx(0.875 * 0.4 + 0.125 * 0.6)
    assert second.timeout_s(**BOUNDS) == pytest.approx(0.425 + 4 * 0.2)


def test_timeout_before_the_first_measurement_and_at_the_bounds():
    assert RoundTrip().timeout_s(**BOUNDS) == 1.0
    assert RoundTrip(0.001, 0.0).timeout_s(**BOUNDS) == 0.2
    assert RoundTrip(5.0, 5.0).timeout_s(**BOUNDS) == 2.0


def test_loss_test_needs_a_cluster_not_one_loss():
    test = LossTest()
    for losses in range(1, 6):
        assert not test.raised, losses
        test = test.after(lost=True).after(lost=False)
    assert test.raised


def test_a_run_of_losses_is_one_event():
    """A handover of two seconds swallows twenty probes in a row (Gilbert 1960)."""
    one = LossTest().after(lost=True)
    run = one
    for _ in range(20):
        run = run.after(lost=True)
    assert run == one


def chance(lost_ratio, seed, probes):
    """How many probes until the alarm; None: none of them raised it."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
    test = LossTest()
    for number in range(1, probes + 1):
        test = test.after(lost=rng.random() < lost_ratio)
        if test.raised:
            return number
    return None


def test_heavy_loss_needs_a_few_dozen_probes_and_eight_percent_a_hundred():
    heavy = sorted(chance(0.30, seed, 500) for seed in range(200))
    mild = sorted(chance(0.08, seed, 3000) for seed in range(200))
    assert heavy[100] <= 36
    assert heavy[-1] <= 180
    assert mild[100] <= 200
    assert mild[190] <= 480


def test_one_percent_raises_no_alarm_in_a_day_of_one_probe_each_second():
    raised = [chance(0.01, seed, 86_400) for seed in range(8)]
    assert sum(at is not None for at in raised) <= 1


@given(st.lists(st.booleans(), max_size=300))
def test_loss_test_stays_in_bounds(fates):
    test = LossTest()
    for lost in fates:
        test = test.after(lost=lost)
        assert 0 <= test.mild <= ALARM
        assert 0 <= test.heavy <= ALARM
        assert 0 <= test.clear <= math.log(20)


def test_a_late_reply_takes_the_loss_back():
    back = LossTest().after(lost=True).taken_back()
    assert (back.mild, back.heavy, back.in_run) == (0.0, 0.0, False)


def test_damping_halves_and_adds():
    damping = Damping().fallen(100.0, 300.0)
    assert damping.now(400.0, 300.0) == pytest.approx(0.5)
    assert damping.fallen(400.0, 300.0).penalty == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("penalty", "wanted"), [(0.0, 60), (1.0, 60), (2.0, 120), (3.0, 240), (50.0, 900)]
)
def test_hold_down(penalty, wanted):
    assert hold_down_s(penalty, base_s=60, cap_s=900) == wanted
