"""Presence and condition: tables of what was heard → what is shown."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_server.core import district, presence
from jaga_server.core.district import Moment
from jaga_server.core.hearing import Hearing
from jaga_server.core.model import (
    Beat,
    Condition,
    Health,
    Host,
    LastResort,
    Mode,
    Presence,
    Reading,
    Report,
    SiteState,
    Thresholds,
)

BOOT, OLD_BOOT = b"boot-two", b"boot-one"
LIMITS = Thresholds()
T0 = 1_790_000_000_000


def beat(
    seq=1, at_s=0, *, boot=BOOT, mode=Mode.POLLING_DAY, health=("up", "up"), active="a"
):
    t_ms = T0 + at_s * 1000
    uplinks = tuple(
        Reading(name, Health(state), 10, 1, 40.0)
        for name, state in zip("ab", health, strict=True)
    )
    host = Host(1, None, None, None, None)
    return Beat("s", boot, seq, t_ms, t_ms, True, mode, active, uplinks, host)


def echo(at_s=0):
    at_ms = T0 + at_s * 1000
    return LastResort(at_ms, 0, 0, (Health.UP,), Mode.POLLING_DAY, 4, 8)


def told(online, *, boot=BOOT, connection=1, retained=False):
    return Report("s", online, boot, connection, "", "", (), T0, retained)


def play(*steps):
    """Fold (second, report) steps; the collector hears all the time."""
    state = SiteState()
    for at_s, what in steps:
        moment = Moment(T0 + at_s * 1000, at_s * 1000)
        if isinstance(what, Beat):
            state = district.heartbeat(state, what, moment)
        elif isinstance(what, LastResort):
            state = district.sighted(state, what)
        elif isinstance(what, Report):
            state = district.report(state, what, moment)
        state = district.judge(state, moment, LIMITS)
    return state


BIRTH, WILL = told(True), told(False)
READY = {"mode": Mode.READY}
DORMANT = {"mode": Mode.DORMANT}

CASES = {
    "nothing heard": ((), 10, "never", "unknown"),
    "one heartbeat": (((0, beat()),), 0, "online", "fine"),
    "29 s of silence on polling day": (((0, beat()),), 29, "online", "fine"),
    "30 s": (((0, beat()),), 30, "overdue", "degraded"),
    "119 s": (((0, beat()),), 119, "overdue", "degraded"),
    "120 s": (((0, beat()),), 120, "offline", "offline"),
    "ready, 179 s": (((0, beat(**READY)),), 179, "online", "fine"),
    "ready, 180 s": (((0, beat(**READY)),), 180, "overdue", "degraded"),
    "ready, 720 s": (((0, beat(**READY)),), 720, "offline", "offline"),
    "dormant, 899 s": (((0, beat(**DORMANT)),), 899, "online", "fine"),
    "dormant, 3600 s": (((0, beat(**DORMANT)),), 3600, "offline", "offline"),
    "an uplink down": (((0, beat(health=("up", "down"))),), 1, "online", "degraded"),
    "an uplink degraded": (((0, beat(health=("degraded", "up"))),), 1, "online", "degraded"),
    "an uplink unknown": (((0, beat(health=("up", "unknown"))),), 1, "online", "degraded"),
    "no active uplink": (((0, beat(active=None)),), 1, "online", "degraded"),
    "a birth alone": (((0, BIRTH),), 1, "online", "unknown"),
    "a birth and long silence": (((0, BIRTH),), 3600, "offline", "offline"),
    "a retained birth alone": (((0, told(True, retained=True)),), 1, "online", "unknown"),
    "the will": (((0, BIRTH), (1, beat()), (2, WILL)), 3, "offline", "offline"),
    "a retained will alone": (((0, told(False, retained=True)),), 1, "offline", "offline"),
    "a heartbeat after the will": (
        ((0, BIRTH), (1, WILL), (2, beat())), 3, "online", "fine"),
    "the answered will, repeated by the broker": (
        ((0, BIRTH), (1, WILL), (2, beat()), (3, told(False, retained=True))),
        4, "online", "fine"),
    "a will of an older connection": (
        ((0, told(True, connection=2)), (1, beat()), (2, told(False, connection=1))),
        3, "online", "fine"),
    "a will of another boot": (
        ((0, BIRTH), (1, beat()), (2, told(False, boot=OLD_BOOT))), 3, "online", "fine"),
    "a will of another boot, no birth known": (
        ((1, beat()), (2, told(False, boot=OLD_BOOT))), 3, "online", "fine"),
    "a will of a later connection": (
        ((0, BIRTH), (1, beat()), (2, told(False, connection=2))), 3, "offline", "offline"),
    "the next connection's birth": (
        ((0, BIRTH), (1, beat()), (2, WILL), (3, told(True, connection=2))),
        4, "online", "fine"),
    "a birth repeated late does not undo the will": (
        ((0, BIRTH), (1, WILL), (2, told(True, retained=True))), 3, "offline", "offline"),
    "the will, and an echo since": (
        ((0, BIRTH), (1, beat()), (2, WILL), (3, echo(3))), 182, "overdue", "degraded"),
    "the echoes end": (
        ((0, BIRTH), (1, beat()), (2, WILL), (3, echo(3))), 183, "offline", "offline"),
    "they go on": (
        ((0, BIRTH), (2, WILL), (3, echo(3)), (100, echo(100))), 279, "overdue", "degraded"),
    "an echo told twice, the old one last": (
        ((2, WILL), (100, echo(100)), (101, echo(3))), 279, "overdue", "degraded"),
    "silence for long, and an echo": (((0, beat()), (119, echo(119))), 120, "overdue", "degraded"),
    "an echo and no heartbeat ever": (((0, echo()),), 1, "overdue", "degraded"),
    "an echo once, and nothing ever since": (((0, echo()),), 180, "offline", "offline"),
    "an echo of a site that is online": (((0, beat()), (1, echo(1))), 2, "online", "fine"),
    "a heartbeat after the echoes": (
        ((0, BIRTH), (1, WILL), (2, echo(2)), (400, beat(at_s=400))), 401, "online", "fine"),
    "a retained birth of the next boot does": (
        ((0, told(True, boot=OLD_BOOT)), (1, told(False, boot=OLD_BOOT)),
         (2, told(True, retained=True))), 3, "online", "unknown"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "at_s", "want", "counted"), CASES.values(), ids=CASES
)
def test_presence(steps, at_s, want, counted):
    state = play(*steps, (at_s, None))
    assert (state.presence.value, state.condition.value) == (want, counted)


def test_old_records_do_not_change_what_is_shown():
    newest = beat(seq=5, at_s=50)
    state = play(
        (0, BIRTH), (50, newest), (51, beat(seq=3, at_s=30, health=("down", "up")))
    )
    assert state.beat == newest
    assert [p.t_ms for p in state.memory["a"].probes] == [T0 + 30_000, T0 + 50_000]
    of_old_boot = beat(seq=900, at_s=52, boot=OLD_BOOT, health=("down", "down"))
    assert play((0, BIRTH), (50, newest), (52, of_old_boot)).beat == newest


def test_the_birth_names_the_boot_that_counts():
    first = beat(seq=90, at_s=1, boot=OLD_BOOT)
    second = beat(seq=1, at_s=60)
    assert play((1, first), (59, BIRTH), (60, second)).beat == second


SINCE = {
    "fine since its heartbeat": (((0, beat()), (9, None)), 0),
    "still fine": (((0, beat()), (10, beat(2, 10)), (20, beat(3, 20))), 0),
    "degraded since that heartbeat": (
        ((0, beat()), (10, beat(2, 9, health=("up", "down")))),
        9,
    ),
    "overdue since it was judged": (((0, beat()), (31, None), (40, None)), 31),
    "offline since the will": (((0, BIRTH), (1, beat()), (7, WILL), (9, None)), 7),
}


@pytest.mark.parametrize(("steps", "want_s"), SINCE.values(), ids=SINCE)
def test_since(steps, want_s):
    assert play(*steps).since_ms == T0 + want_s * 1000


def test_deaf_time_is_not_silence():
    hearing = Hearing().start(T0)
    state = district.heartbeat(SiteState(), beat(), Moment(T0, hearing.read(T0)))
    hearing = hearing.stop(T0 + 5_000)
    hour_ms = T0 + 3_600_000
    assert (
        presence.presence(state, hearing.read(hour_ms), LIMITS, hour_ms)
        is Presence.ONLINE
    )
    hearing = hearing.start(hour_ms)
    assert hearing.read(hour_ms + 24_000) == 29_000
    for after_s, want in (
        (24, Presence.ONLINE),
        (25, Presence.OVERDUE),
        (115, Presence.OFFLINE),
    ):
        heard = hearing.read(hour_ms + after_s * 1000)
        assert presence.presence(state, heard, LIMITS, hour_ms) is want


def test_a_blip_of_the_broker_revives_nobody():
    hearing = Hearing().start(T0)
    state = district.heartbeat(SiteState(), beat(), Moment(T0, 0))
    later = T0 + 600_000
    hearing = hearing.stop(later).start(later + 1)
    heard = hearing.read(later + 2)
    assert presence.presence(state, heard, LIMITS, later + 2) is Presence.OFFLINE


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60_000)), max_size=30))
def test_the_hearing_clock_never_goes_back_nor_runs_ahead(steps):
    hearing, now_ms, passed, last = Hearing(), T0, 0, 0
    for running, step_ms in steps:
        before = last
        hearing = hearing.start(now_ms) if running else hearing.stop(now_ms)
        now_ms += step_ms
        passed += step_ms
        if not running:
            assert hearing.read(now_ms) == last
        last = hearing.stop(now_ms).heard_ms
        assert before <= last <= passed


STEP = st.one_of(
    st.builds(
        beat,
        seq=st.integers(1, 5),
        boot=st.sampled_from([BOOT, OLD_BOOT]),
        health=st.tuples(*[st.sampled_from(["up", "down", "unknown"])] * 2),
        active=st.sampled_from(["a", None]),
    ),
    st.builds(
        told,
        st.booleans(),
        boot=st.sampled_from([BOOT, OLD_BOOT]),
        connection=st.integers(1, 3),
        retained=st.booleans(),
    ),
    st.none(),
)


@given(st.lists(st.tuples(st.integers(0, 90), STEP), max_size=20))
def test_whatever_comes_the_verdict_follows_from_the_facts(steps):
    at_s, timed = 0, []
    for gap_s, what in steps:
        at_s += gap_s
        timed.append((at_s, what))
    state = play(*timed)
    if any(isinstance(what, Beat) for _, what in timed):
        assert state.presence is not Presence.NEVER
    if timed and isinstance(timed[-1][1], Beat):
        assert state.presence is Presence.ONLINE
    if state.condition is Condition.FINE:
        assert state.presence is Presence.ONLINE
        assert all(u.health is Health.UP for u in state.beat.uplinks)
    assert (state.condition is Condition.OFFLINE) == (
        state.presence is Presence.OFFLINE
    )
    again = district.judge(state, Moment(T0 + at_s * 1000, at_s * 1000), LIMITS)
    assert again == replace(state)
