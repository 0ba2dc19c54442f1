"""What an uplink's own silences teach: gaps that end, round trips that jump, outages."""

import pytest

from jaga_agent.core.memory import FORGOTTEN_AFTER_S, MOBILE_S, SATELLITE_S, Silences
from jaga_agent.core.model import Access, Instant, Uplink
from sim.world import FIBRE, TARGETS, TELKOMSEL, XL, Policy, World, policy


def gaps(world, *spans):
    for at, length_s in spans:
        world.change(at, TELKOMSEL, silent=True)
        world.change(at + length_s, TELKOMSEL, silent=False)


def tolerance_s(world):
    per = world.state.of(TELKOMSEL)
    return per.gaps.tolerance_s(Instant(world.now), Access.LEARN)


def test_the_first_gap_is_taken_for_an_outage_and_the_next_ones_are_waited_for():
    world = World(policy(hold_down_s=20.0))
    gaps(world, (60, 1.2), (150, 1.8), (200, 0.9), (260, 2.0))
    world.run(400)
    assert [m[1] for m in world.moves()] == ["first", "failover", "failback"]
    assert tolerance_s(world) == MOBILE_S


def test_a_true_outage_of_such_an_uplink_is_left_when_the_gap_is_too_long():
    world = World(policy(hold_down_s=20.0))
    gaps(world, (60, 1.2), (200, 60))
    world.run(230)
    assert world.moves()[-1][1:] == ("failover", XL)
    assert MOBILE_S < world.moves()[-1][0] - 200 < MOBILE_S + 0.7


def test_three_seconds_of_silence_are_a_satellites_class():
    world = World(policy(hold_down_s=20.0))
    gaps(world, (60, 1.2), (150, 3.0), (300, 3.0))
    world.run(500)
    assert [m[1] for m in world.moves()].count("failover") == 2
    assert tolerance_s(world) == SATELLITE_S


@pytest.mark.parametrize("length_s", [5.0, 30.0])
def test_an_outage_teaches_nothing(length_s):
    world = World(policy(hold_down_s=20.0))
    gaps(world, (60, length_s))
    world.run(300)
    assert tolerance_s(world) == 0.0


def test_a_round_trip_that_jumps_is_no_gap():
    """Nothing comes for 1.4 s, then everything does, as late as that."""
    world = World(policy(hold_down_s=20.0))
    gaps(world, (60, 1.4))
    world.change(60, TELKOMSEL, rtt_s=1.4)
    world.change(90, TELKOMSEL, rtt_s=0.05)
    world.run(300)
    assert world.moves()[1][1:] == ("failover", XL)
    assert tolerance_s(world) == 0.0


def test_carrier_loss_is_not_waited_out():
    world = World(policy(hold_down_s=20.0))
    gaps(world, (60, 1.2))
    world.change(200, TELKOMSEL, linked=False)
    world.run(210)
    assert world.moves()[-1][0] == 200.0


def test_what_is_said_beforehand_need_not_be_learnt():
    mobile = tuple(
        Uplink(name, at, Access.MOBILE)
        for at, name in enumerate((TELKOMSEL, XL, FIBRE), 1)
    )
    world = World(Policy(mobile, TARGETS))
    gaps(world, (60, 1.9), (150, 0.4))
    world.run(300)
    assert [m[1] for m in world.moves()] == ["first"]


def test_fixed_is_never_waited_for():
    fixed = Silences().after(1.0, Instant(10.0))
    assert fixed.tolerance_s(Instant(11.0), Access.FIXED) == 0.0
    assert fixed.tolerance_s(Instant(11.0), Access.LEARN) == MOBILE_S
    later = Instant(10.0 + FORGOTTEN_AFTER_S + 1)
    assert fixed.tolerance_s(later, Access.LEARN) == 0.0


def test_a_radio_that_wakes_slowly_costs_one_move_and_is_known_then():
    """An unused uplink whose first packet waits for the radio, every other minute."""
    world = World(policy(hold_down_s=20.0), traffic_per_s=0)
    for minute in range(1, 60):
        world.change(60 * minute, TELKOMSEL, rtt_s=0.9 if minute % 2 else 0.05)
    world.run(3600)
    assert [m[1] for m in world.moves()] in (
        ["first"],
        ["first", "failover", "failback"],
    )
    wakes = world.state.of(TELKOMSEL).wakes
    assert wakes.tolerance_s(Instant(world.now), Access.LEARN) == MOBILE_S
