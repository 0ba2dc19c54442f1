"""When a watermark is due: tables of what came → when it is told."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_server.core.marking import AGAIN_A_SECOND, APART_MS, TICKING_MS, Marking

SITE = "tps-6408012001-001"


def play(marking, touches, until_s, step_ms=1000):
    """Return the seconds in which the site is told; `touches` are (second, pressing)."""
    told, at = [], dict(touches)
    for now_ms in range(0, until_s * 1000 + 1, step_ms):
        if now_ms // 1000 in at and now_ms % 1000 == 0:
            marking.touch(SITE, pressing=at[now_ms // 1000])
        due = marking.due(now_ms)
        marking.said(due, now_ms)
        told += [now_ms // 1000] * (SITE in due)
    return told


TICKS = [(second, False) for second in range(0, 200, 10)]
CASES = {
    "nothing came": ([], []),
    "one heartbeat": ([(3, False)], [3]),
    "it ticks along": (TICKS, [0, 60, 120, 180]),
    "a gap amid the ticking": ([*TICKS, (75, True)], [0, 60, 75, 135, 195]),
    "a gap just after it was told": ([*TICKS, (62, True)], [0, 60, 65, 125, 185]),
    "history for twenty seconds": (
        [(second, True) for second in range(30, 51)],
        [30, 35, 40, 45, 50],
    ),
    "history ends between two": ([(30, True), (31, True)], [30, 35]),
    "silence after a heartbeat": ([(0, False), (10, False)], [0, 60]),
}


@pytest.mark.parametrize(("touches", "want"), CASES.values(), ids=CASES)
def test_when(touches, want):
    assert play(Marking(), touches, 199) == want


def test_a_new_connection_tells_all_again_at_a_limited_rate():
    marking = Marking()
    sites = [f"site-{n}" for n in range(701)]
    marking.begin_again(sites)
    told = []
    for second in range(12):
        due = marking.due(second * 1000)
        assert len(due) <= AGAIN_A_SECOND
        marking.said(due, second * 1000)
        told += due
    assert told == sites


def test_who_waits_comes_before_those_told_again():
    marking = Marking()
    marking.begin_again([f"site-{n}" for n in range(300)])
    marking.touch("site-299", pressing=True)
    due = marking.due(0)
    assert due[0] == "site-299"
    assert len(due) == AGAIN_A_SECOND + 1


def test_not_said_is_due_again():
    marking = Marking()
    marking.touch(SITE, pressing=True)
    marking.begin_again([SITE, "other"])
    assert marking.due(0) == marking.due(10) == [SITE, "other"]


@given(
    st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=40),
    st.sampled_from([200, 1000]),
)
def test_never_too_often_never_too_late(touches, step_ms):
    told = play(Marking(), touches, 400, step_ms)
    assert all(b - a >= APART_MS // 1000 for a, b in itertools.pairwise(told))
    for second, pressing in dict(touches).items():
        later = [at for at in told if at >= second]
        assert later
        assert later[0] - second <= (APART_MS if pressing else TICKING_MS) // 1000
    assert len(told) <= len(dict(touches))
