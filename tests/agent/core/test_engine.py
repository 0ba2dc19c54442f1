"""The decision core: tables of (after, what happens) → moves wanted, and invariants."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaga_agent.core.actions import (
    ReportTarget,
    ReportThrift,
    SelectUplink,
    SendProbe,
)
from jaga_agent.core.engine import next_deadline, step
from jaga_agent.core.events import (
    LinkSeen,
    ProbeAnswered,
    ProbeNotSent,
    ProbeRefused,
    Tick,
    TrafficSeen,
    UsageSeen,
)
from jaga_agent.core.model import Failback, Health, Instant, Policy, Uplink
from jaga_agent.core.state import State
from sim.world import FIBRE, START, TARGETS, TELKOMSEL, XL, World, policy

SILENT, LOUD = {"silent": True}, {"silent": False}
GONE, BACK = {"linked": False}, {"linked": True}
ALL = (TELKOMSEL, XL, FIBRE)

# name: (policy changes, [(at, uplink, change)], seconds, [(rule, uplink)] wanted)
STORIES = {
    "the preferred uplink is chosen first": ({}, [], 30, [("first", TELKOMSEL)]),
    "silence moves the site": (
        {},
        [(20, TELKOMSEL, SILENT)],
        30,
        [("first", TELKOMSEL), ("failover", XL)],
    ),
    "carrier loss moves the site": (
        {},
        [(20, TELKOMSEL, GONE)],
        30,
        [("first", TELKOMSEL), ("failover", XL)],
    ),
    "a silent standby moves nothing": (
        {},
        [(20, XL, SILENT)],
        60,
        [("first", TELKOMSEL)],
    ),
    "failback waits for the hold-down": (
        {"hold_down_s": 30.0},
        [(20, TELKOMSEL, SILENT), (40, TELKOMSEL, LOUD)],
        80,
        [("first", TELKOMSEL), ("failover", XL), ("failback", TELKOMSEL)],
    ),
    "no failback before the hold-down": (
        {"hold_down_s": 50.0},
        [(20, TELKOMSEL, SILENT), (40, TELKOMSEL, LOUD)],
        80,
        [("first", TELKOMSEL), ("failover", XL)],
    ),
    "no failback in the counting hours": (
        {"hold_down_s": 10.0, "failback": Failback.NEVER},
        [(20, TELKOMSEL, SILENT), (40, TELKOMSEL, LOUD)],
        200,
        [("first", TELKOMSEL), ("failover", XL)],
    ),
    "two die one after the other": (
        {},
        [(20, TELKOMSEL, SILENT), (40, XL, SILENT)],
        60,
        [("first", TELKOMSEL), ("failover", XL), ("failover", FIBRE)],
    ),
    "all silent: move nothing": (
        {},
        [(20, name, SILENT) for name in ALL],
        60,
        [("first", TELKOMSEL)],
    ),
    "all silent, then one back: used": (
        {},
        [(20, name, SILENT) for name in ALL] + [(40, FIBRE, LOUD)],
        60,
        [("first", TELKOMSEL), ("failover", FIBRE)],
    ),
    "all silent, then all back: stay": (
        {},
        [(20, name, SILENT) for name in ALL] + [(40, name, LOUD) for name in ALL],
        60,
        [("first", TELKOMSEL)],
    ),
    "a target dead everywhere moves nothing": (
        {},
        [(20, name, {"dead_targets": frozenset(TARGETS[:1])}) for name in ALL],
        600,
        [("first", TELKOMSEL)],
    ),
    "standing delay moves the site": (
        {},
        [(20, TELKOMSEL, {"rtt_s": 1.5})],
        60,
        [("first", TELKOMSEL), ("failover", XL)],
    ),
    "heavy loss moves the site": (
        {},
        [(20, TELKOMSEL, {"loss": 0.4})],
        80,
        [("first", TELKOMSEL), ("switchover", XL)],
    ),
    "a full queue on the only clean way is not an outage": (
        {},
        [(20, TELKOMSEL, {"rtt_s": 0.5, "rx_anyway_per_s": 300.0})],
        60,
        [("first", TELKOMSEL)],
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(story):
    changes, script, seconds, wanted = story
    world = World(policy(**changes))
    for at, name, change in script:
        world.change(at, name, **change)
    world.run(seconds)
    assert [(rule, uplink) for _at, rule, uplink in world.moves()] == wanted


def test_silence_is_found_under_a_second_with_traffic():
    world = World()
    world.change(20, TELKOMSEL, silent=True)
    world.run(25)
    ((_, _, _), (at, rule, uplink)) = world.moves()
    assert (rule, uplink) == ("failover", XL)
    assert 20.2 < at < 21.0


def test_carrier_loss_is_acted_on_in_the_same_step():
    world = World()
    world.change(20, TELKOMSEL, linked=False)
    world.run(25)
    assert world.moves()[-1][0] == 20.0


def test_recovery_after_everything_was_silent_is_used_within_a_second():
    world = World()
    for name in ALL:
        world.change(20, name, silent=True)
    world.change(40, FIBRE, silent=False)
    world.run(45)
    at, _, uplink = world.moves()[-1]
    assert uplink == FIBRE
    assert at - 40 < 1.0


def test_an_idle_site_finds_silence_too():
    world = World(traffic_per_s=0)
    world.change(20, TELKOMSEL, silent=True)
    world.run(60)
    assert world.moves()[-1][1:] == ("failover", XL)


def test_a_target_dead_everywhere_is_reported_as_its_own_fault():
    world = World()
    for name in ALL:
        world.change(20, name, dead_targets=frozenset(TARGETS[:1]))
        world.change(300, name, dead_targets=frozenset())
    world.run(600)
    reports = [a for _, a in world.log if isinstance(a, ReportTarget)]
    assert [(r.target, r.answering) for r in reports] == [("a", False), ("a", True)]
    assert all(h == [(h[0][0], "up")] for h in map(world.healths, ALL))


def test_hold_down_grows_with_each_flap():
    world = World(policy(hold_down_s=20.0))
    for start in range(20, 620, 100):
        world.change(start, TELKOMSEL, silent=True)
        world.change(start + 10, TELKOMSEL, silent=False)
    world.run(700)
    moves = world.moves()
    waits = [
        back[0] - gone[0]
        for gone, back in itertools.pairwise(moves)
        if gone[1] == "failover" and back[1] == "failback"
    ]
    assert len(waits) >= 2
    assert waits == sorted(waits)
    assert waits[-1] > waits[0] + 10


def test_adoption_moves_nothing_and_keeps_what_the_kernel_does():
    world = World(adopted=XL, policy=policy(hold_down_s=1000.0))
    world.run(100)
    assert world.moves() == []
    assert world.state.active == XL


def test_an_adopted_dead_uplink_is_left():
    world = World(adopted=XL)
    world.change(0, XL, silent=True)
    world.run(10)
    assert world.moves()[0][1:] == ("failover", TELKOMSEL)


def test_one_percent_loss_for_an_hour_moves_nothing():
    world = World(traffic_per_s=0, seed=7)
    for name in ALL:
        world.change(1, name, loss=0.01)
    world.run(3600)
    assert [m[1] for m in world.moves()] == ["first"]


def test_a_quiet_hour_is_cheap_in_probes():
    world = World(traffic_per_s=0)
    world.run(3600)
    for name in ALL:
        assert world.sent[name] <= 3600 / world.policy.probe_interval_s + 6


def test_an_hour_of_virtual_time_takes_under_a_second():
    world = World(traffic_per_s=0)
    world.change(1000, TELKOMSEL, silent=True)
    world.change(1500, TELKOMSEL, silent=False)
    began = time.process_time()
    world.run(3600)
    assert time.process_time() - began < 1.0
    assert [m[1] for m in world.moves()] == ["first", "failover", "failback"]


# Invariants, whatever happens in whatever order

names = st.sampled_from(ALL)
probe_ids = st.integers(1, 60)
events = st.lists(
    st.tuples(
        st.floats(0, 4),
        st.one_of(
            st.builds(
                LinkSeen,
                names,
                present=st.booleans(),
                carrier=st.booleans(),
                routed=st.booleans(),
            ),
            st.builds(ProbeAnswered, probe_ids, st.floats(0.001, 3)),
            st.builds(ProbeRefused, probe_ids, st.just("host unreachable")),
            st.builds(ProbeNotSent, probe_ids, st.just("ENODEV")),
            st.builds(TrafficSeen, names, st.integers(0, 999), st.integers(0, 999)),
            st.just(Tick()),
        ),
    ),
    max_size=150,
)
STARTED = [LinkSeen(name, present=True, carrier=True, routed=True) for name in ALL]


def replay(history):
    now, state = START, State.initial(policy())
    for event in STARTED:
        state, actions = step(state, event, Instant(now))
        yield now, state, actions
    for wait, event in history:
        now += wait
        state, actions = step(state, event, Instant(now))
        yield now, state, actions


@given(events)
def test_active_changes_only_by_an_action_and_only_to_a_usable_uplink(history):
    seen = None
    for _now, state, actions in replay(history):
        for action in actions:
            if isinstance(action, SelectUplink):
                assert action.previous == seen
                assert action.uplink != seen
                seen = action.uplink
                assert state.of(seen).health in {Health.UP, Health.DEGRADED}
        assert state.active == seen


@given(events)
def test_a_working_uplink_is_never_left_for_a_worse_one(history):
    for _now, state, actions in replay(history):
        for action in actions:
            if isinstance(action, SelectUplink) and action.previous is not None:
                old, new = state.of(action.previous), state.of(action.uplink)
                assert not (old.health is Health.UP and new.health is Health.DEGRADED)


@given(events)
@settings(max_examples=60)
def test_step_is_deterministic(history):
    assert list(replay(history)) == list(replay(history))


@given(events)
@settings(max_examples=60)
def test_time_alone_never_spins(history):
    """Once a deadline is served, the next one lies ahead."""
    *_, (now, state, _actions) = replay(history)
    for _ in range(30):
        now = max(now, next_deadline(state, Instant(now)))
        state, _ = step(state, Tick(), Instant(now))
        assert next_deadline(state, Instant(now)) > now


@given(events)
@settings(max_examples=60)
def test_memory_is_bounded_and_probe_ids_are_unique(history):
    ids = []
    for _now, state, actions in replay(history):
        ids += [a.probe_id for a in actions if isinstance(a, SendProbe)]
        assert len(state.outstanding) < 200
    assert len(ids) == len(set(ids))


def test_the_governor_measures_less_and_says_so():
    limited = tuple(
        Uplink(name, at, quota_bytes=1_000_000_000)
        for at, name in enumerate((TELKOMSEL, XL, FIBRE), 1)
    )
    world = World(Policy(limited, TARGETS), traffic_per_s=0)
    world.run(3600)
    usual = world.sent[TELKOMSEL]
    for used, level in ((850, "THRIFT"), (960, "SPARING"), (995, "LAST_DROPS")):
        world.feed(UsageSeen(TELKOMSEL, used * 1_000_000))
        assert world.log[-1][1].level.name == level
    world.feed(UsageSeen(TELKOMSEL, 996_000_000))
    assert isinstance(world.log[-1][1], ReportThrift), "said once, not each time"
    world.run(7200)
    assert world.sent[TELKOMSEL] - usual < usual / 10
    assert world.sent[XL] > 1.8 * usual / 1.1
    # The last drops do not keep a fault from being found.
    world.traffic_per_s = 20.0
    world.change(7260, TELKOMSEL, silent=True)
    world.run(7270)
    assert world.moves()[-1][1:] == ("failover", XL)


def test_probes_may_take_a_hundredth_of_what_people_carry():
    world = World()
    world.run(3600)
    carried = world.state.of(TELKOMSEL).traffic.carried_day
    spent = world.sent[TELKOMSEL] * 64
    assert spent < 0.01 * carried + 25_000
    world.feed(UsageSeen(TELKOMSEL, 0, probe_bytes=int(0.01 * carried) + 400_000))
    assert not [a for _, a in world.log if isinstance(a, ReportThrift)]
