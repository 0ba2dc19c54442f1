"""One step's working copy: short cuts that must change no outcome."""

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaga_agent.core import race
from jaga_agent.core.model import Health, Instant
from jaga_agent.core.state import State, UplinkState, changed
from jaga_agent.core.turn import Turn
from sim.world import FIBRE, START, TELKOMSEL, XL, World, policy

NAMES = [each.name for each in fields(UplinkState)]


@given(st.dictionaries(st.sampled_from(NAMES), st.integers()))
def test_changed_is_replace(changes):
    before = UplinkState(health=Health.UP, streak=2, calm_s=1.5, faults=())
    assert changed(before, changes) == replace(before, **changes)


def test_a_field_that_is_not_there_is_refused():
    with pytest.raises(KeyError):
        changed(UplinkState(), {"helth": Health.UP})


def test_an_uplink_never_named_is_refused():
    with pytest.raises(LookupError, match="nobody"):
        State.initial(policy()).index("nobody")


ROADS = st.fixed_dictionaries(
    {},
    optional={
        "silent": st.booleans(),
        "linked": st.booleans(),
        "loss": st.sampled_from([0.0, 0.05, 0.3]),
        "rtt_s": st.sampled_from([0.04, 0.3, 1.2]),
    },
)
HAPPENINGS = st.lists(
    st.tuples(st.floats(1, 30), st.sampled_from([TELKOMSEL, XL, FIBRE]), ROADS),
    max_size=8,
)


class Watched(World):
    """Whatever is due is sent in the step that finds it due: none is left over."""

    def feed(self, event):
        super().feed(event)
        turn = Turn(self.state, Instant(self.now))
        for index in range(len(turn.per)):
            race.send_due(turn, index)
        assert turn.done() == (self.state, ())


@given(HAPPENINGS)
@settings(max_examples=15, deadline=None)
def test_a_step_leaves_nothing_due_unsent(happenings):
    world = Watched(policy(hold_down_s=5.0))
    for at, uplink, change in happenings:
        world.change(at, uplink, **change)
    world.run(35)
    assert world.now == START + 35
