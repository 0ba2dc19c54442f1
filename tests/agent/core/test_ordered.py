"""What an operator's orders do to the engine's decisions."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jaga_agent.core import choice
from jaga_agent.core.actions import SelectUplink, SendProbe
from jaga_agent.core.engine import next_deadline, step
from jaga_agent.core.events import (
    HoldOrdered,
    PaceOrdered,
    RaceOrdered,
    SwitchOrdered,
    Tick,
)
from jaga_agent.core.model import Instant
from sim.world import FIBRE, START, TARGETS, TELKOMSEL, XL, World, policy

SILENT, LOUD = {"silent": True}, {"silent": False}
LOSSY, SLOW = {"loss": 0.4}, {"rtt_s": 1.5}
FIRST = ("first", TELKOMSEL)


def switch(name):
    return SwitchOrdered(name, "ani")


# name: ([(at, uplink and change, or an order)], seconds, [(rule, uplink)] wanted)
STORIES = {
    "an order moves the site": ([(20, switch(XL))], 30, [FIRST, ("switchover", XL)]),
    "and none takes it back, however preferred": (
        [(20, switch(FIBRE))],
        1200,
        [FIRST, ("switchover", FIBRE)],
    ),
    "to where it is already: nothing moves": ([(20, switch(TELKOMSEL))], 60, [FIRST]),
    "to one that is silent: nothing moves": (
        [(10, (XL, SILENT)), (60, switch(XL))],
        120,
        [FIRST],
    ),
    "to one without carrier: nothing moves": (
        [(10, (XL, {"linked": False})), (20, switch(XL))],
        60,
        [FIRST],
    ),
    "a chosen one that dies is left, and the usual rules apply again": (
        [(20, switch(XL)), (40, (XL, SILENT))],
        60,
        [FIRST, ("switchover", XL), ("failover", TELKOMSEL)],
    ),
    "a chosen one that becomes lossy is left": (
        [(20, switch(XL)), (100, (XL, LOSSY))],
        160,
        [FIRST, ("switchover", XL), ("switchover", TELKOMSEL)],
    ),
    "one that was slow when it was chosen is not left for that": (
        [(10, (XL, {"rtt_s": 0.9})), (80, switch(XL))],
        200,
        [FIRST, ("switchover", XL)],
    ),
    "held: no failback": (
        [
            (20, (TELKOMSEL, SILENT)),
            (30, (TELKOMSEL, LOUD)),
            (40, HoldOrdered(300.0)),
        ],
        300,
        [FIRST, ("failover", XL)],
    ),
    "the hold ends by itself: failback": (
        [
            (20, (TELKOMSEL, SILENT)),
            (30, (TELKOMSEL, LOUD)),
            (40, HoldOrdered(300.0)),
        ],
        360,
        [FIRST, ("failover", XL), ("failback", TELKOMSEL)],
    ),
    "held: no switchover for quality": (
        [(30, HoldOrdered(300.0)), (60, (TELKOMSEL, LOSSY))],
        200,
        [FIRST],
    ),
    "held: a dead uplink is left": (
        [(30, HoldOrdered(300.0)), (60, (TELKOMSEL, SILENT))],
        90,
        [FIRST, ("failover", XL)],
    ),
    "released: as usual": (
        [(20, switch(FIBRE)), (100, HoldOrdered(0.0))],
        130,
        [FIRST, ("switchover", FIBRE), ("failback", TELKOMSEL)],
    ),
    "held, then ordered elsewhere: the order wins": (
        [(20, HoldOrdered(300.0)), (40, switch(XL))],
        60,
        [FIRST, ("switchover", XL)],
    ),
}


def play(world, script):
    for at, what in script:
        if isinstance(what, tuple):
            name, change = what
            world.change(at, name, **change)
        else:
            world.at(START + at, lambda what=what: world.feed(what))


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(story):
    script, seconds, wanted = story
    world = World(policy(hold_down_s=20.0))
    play(world, script)
    world.run(seconds)
    assert [(rule, uplink) for _at, rule, uplink in world.moves()] == wanted


def test_the_move_comes_in_the_same_step_and_names_the_operator():
    world = World().run(20)
    world.feed(switch(XL))
    at, move = world.log[-1]
    assert (at, move.uplink, move.previous) == (20.0, XL, TELKOMSEL)
    assert move.why == "xl: ordered by operator ani"


def test_why_a_switch_is_refused_is_told():
    world = World()
    world.change(10, XL, silent=True)
    world.run(60)
    refused = choice.unfit(world.state, XL)
    assert str(refused).startswith("xl cannot carry the site: silent for ")
    assert choice.unfit(world.state, FIBRE) is None


def test_a_race_asks_every_target_through_every_uplink_at_once():
    world = World().run(30)
    _, actions = step(world.state, RaceOrdered(), Instant(world.now))
    asked = {(a.uplink, a.target) for a in actions if isinstance(a, SendProbe)}
    assert asked == {(u, t) for u in (TELKOMSEL, XL, FIBRE) for t in TARGETS}


def test_a_race_of_a_dead_uplink_ends_and_says_so():
    world = World()
    world.change(10, XL, silent=True)
    world.run(60)
    world.feed(RaceOrdered())
    world.run(70)
    assert all(per.race is None for per in world.state.per)
    assert world.state.of(XL).health.value == "down"


def test_another_pace_holds_at_once_and_both_ways():
    def an_hour(*paces):
        world = World(traffic_per_s=0.0).run(60)
        for interval_s, allowance_bytes in paces:
            world.feed(PaceOrdered(interval_s, allowance_bytes))
        before = world.sent[FIBRE]
        world.run(3660)
        return world.sent[FIBRE] - before

    usual, rare = an_hour(), an_hour((65.0, 100_000))
    assert rare < usual / 3
    assert an_hour((65.0, 100_000), (13.0, 500_000)) == pytest.approx(usual, abs=3)


ORDERS = st.one_of(
    st.sampled_from((TELKOMSEL, XL, FIBRE)).map(switch),
    st.sampled_from((0.0, 5.0, 40.0, 400.0)).map(HoldOrdered),
    st.just(RaceOrdered()),
    st.just(PaceOrdered(30.0, 250_000)),
)
# Each example is minutes of a site: shrinking one would take as many.
WORLDS = settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
FAULTS = st.tuples(
    st.sampled_from((TELKOMSEL, XL, FIBRE)),
    st.sampled_from((SILENT, LOUD, LOSSY, SLOW, {"loss": 0.0, "rtt_s": 0.05})),
)


@given(st.lists(st.tuples(st.integers(5, 110), ORDERS | FAULTS), max_size=8))
@WORLDS
def test_whatever_is_ordered_a_dead_uplink_is_left_for_one_that_works(script):
    """And `World.run` finds every deadline that stands still."""
    world = World(policy(hold_down_s=20.0), traffic_per_s=4.0)
    play(world, sorted(script, key=lambda row: row[0]))
    for name in (TELKOMSEL, XL, FIBRE):
        world.change(120, name, silent=name != FIBRE, loss=0.0, rtt_s=0.05)
    world.run(160)
    assert world.state.active == FIBRE


@given(st.lists(st.tuples(st.integers(5, 60), ORDERS), max_size=6))
@WORLDS
def test_a_hold_that_is_on_forbids_every_move_from_an_uplink_that_works(script):
    world = World(policy(hold_down_s=20.0), traffic_per_s=4.0)
    play(world, sorted(script, key=lambda row: row[0]))
    world.run(60)
    world.feed(HoldOrdered(100.0))
    told = len(world.log)
    world.run(150)
    assert not [a for _, a in world.log[told:] if isinstance(a, SelectUplink)]
    until = world.state.hold_until
    state, actions = step(world.state, Tick(), Instant(until))
    assert next_deadline(state, Instant(until)) > until or actions
