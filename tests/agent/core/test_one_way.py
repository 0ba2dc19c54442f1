"""Up-loss and down-loss from counts alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.one_way import OneWayCounts, OneWayTally

# name: (answers as (seq, received there), wanted)
CASES = {
    "the first answer is where counting begins": ([(7, 3)], OneWayCounts()),
    "nothing lost": ([(1, 1), (2, 2), (3, 3)], OneWayCounts(2, 0, 2, 0)),
    "two lost on the way up": ([(1, 1), (2, 2), (5, 3)], OneWayCounts(4, 2, 2, 0)),
    "two answers lost on the way down": ([(1, 1), (4, 4)], OneWayCounts(3, 0, 3, 2)),
    "one each way": ([(1, 1), (4, 3)], OneWayCounts(3, 1, 2, 1)),
    "overtaken on the way up": ([(1, 1), (3, 2), (2, 3)], OneWayCounts(2, 0, 2, 0)),
    "overtaken on the way down": ([(1, 1), (3, 3), (2, 2)], OneWayCounts(2, 0, 2, 0)),
    "an answer from before it began": ([(5, 5), (4, 4)], OneWayCounts(0, 0, 0, 0)),
    "the far end forgets": ([(1, 1), (2, 2), (3, None)], None),
    "and counts again": (
        [(1, 1), (9, 2), (10, None), (11, 1), (12, 2)],
        OneWayCounts(1, 0, 1, 0),
    ),
    "a count that fell far back begins anew": (
        [(1, 1), (300, 300), (301, 1), (302, 2)],
        OneWayCounts(1, 0, 1, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "want"), CASES.values(), ids=CASES)
def test_counts(answers, want):
    tally = OneWayTally()
    for seq, received in answers:
        tally.answered(seq, received)
    assert tally.counts == want


@given(up=st.floats(0, 0.9), down=st.floats(0, 0.9), seed=st.integers(0, 10**6))
def test_what_was_lost_each_way_is_what_is_counted(up, down, seed):
    chance = random.Random(seed)  # noqa: S311 - a repeatable network, no secret
    tally = OneWayTally()
    received = answered = 0
    base = None
    for seq in range(1, 400):
        if chance.random() < up:
            continue
        received += 1
        if chance.random() < down:
            continue
        answered += 1
        tally.answered(seq, received)
        base = base or (seq, received)
        last = (seq, received)
    if base is None:
        assert tally.counts is None
        return
    counts = tally.counts
    assert counts.up_sent == last[0] - base[0]
    assert counts.down_sent == last[1] - base[1] == counts.up_sent - counts.up_lost
    assert counts.down_sent - counts.down_lost == answered - 1
    assert tally.began == 1


COUNTS = st.builds(OneWayCounts, *[st.integers(0, 1000)] * 4)


@given(COUNTS, COUNTS)
def test_totals_can_be_subtracted(first, more):
    assert (first + more) - first == more
