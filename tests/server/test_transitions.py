"""An event tells at once what the next heartbeat would."""

from dataclasses import replace

import pytest

from jaga_server.core import district
from jaga_server.core.district import Moment
from jaga_server.core.model import (
    Beat,
    Condition,
    Health,
    Host,
    Mode,
    Reading,
    SiteState,
    Thresholds,
    Transition,
)

T0 = 1_790_000_000_000
BOOT = b"boot-two"
BEAT = Beat(
    *("s", BOOT, 5, T0, T0, True, Mode.POLLING_DAY, "a"),
    tuple(Reading(name, Health.UP, 10, 0, 40.0) for name in "ab"),
    Host(1, None, None, None, None),
)


def event(kind, *, seq=6, boot=BOOT, uplink=None, new=None):
    return Transition(
        *("s", boot, seq, T0 + 3000, T0 + 3100, kind, None, uplink, None, new),
        *("why", None, None, {}),
    )


def after(*events):
    state = district.heartbeat(SiteState(), BEAT, Moment(T0, 0))
    for each in events:
        state = district.transition(state, each, Moment(T0 + 3100, 3100))
    return district.judge(state, Moment(T0 + 3200, 3200), Thresholds())


def test_a_decision_names_who_carries():
    assert after(event("decision", uplink="b", new="b")).beat.active == "b"


def test_a_health_event_changes_that_uplink_and_the_condition():
    state = after(event("health", uplink="a", new="down"))
    assert [r.health for r in state.beat.uplinks] == [Health.DOWN, Health.UP]
    assert state.condition is Condition.DEGRADED
    assert state.since_ms == T0 + 3000


@pytest.mark.parametrize(
    "old",
    [
        event("decision", seq=5, new="b"),
        event("decision", seq=9, boot=b"boot-one", new="b"),
        event("health", seq=4, uplink="a", new="down"),
        event("health", uplink="unknown uplink", new="down"),
        event("health", uplink="a", new="no health of ours"),
        event("started"),
    ],
    ids=["seen", "another boot", "older", "unknown uplink", "unknown health", "other"],
)
def test_what_is_old_or_unknown_changes_nothing(old):
    state = after(old)
    assert state.beat.active == "a"
    assert [r.health for r in state.beat.uplinks] == [Health.UP, Health.UP]


def test_a_later_heartbeat_has_the_last_word():
    state = after(event("decision", seq=6, new="b"))
    later = district.heartbeat(state, replace(BEAT, seq=7), Moment(T0 + 9000, 9000))
    assert later.beat.active == "a"
