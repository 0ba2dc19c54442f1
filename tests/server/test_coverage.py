"""Interval sets against plain sets of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_server.core import coverage
from jaga_server.core.coverage import SPANS, Coverage

NUMBER = st.integers(1, 60)
RANGE = st.tuples(NUMBER, NUMBER).map(lambda pair: tuple(sorted(pair)))
STEP = st.one_of(
    NUMBER.map(lambda n: (n, n, "stored")), RANGE.map(lambda r: (*r, "lost"))
)


def numbers(spans):
    return {n for first, last in spans for n in range(first, last + 1)}


def one_spelling(spans):
    flat = [edge for span in spans for edge in span]
    assert all(first <= last for first, last in spans)
    assert all(flat[n] + 1 < flat[n + 1] for n in range(1, len(flat) - 1, 2))


def play(steps):
    covered, stored, lost = Coverage(), set(), set()
    for first, last, what in steps:
        if what == "stored":
            covered = covered.stored(first)
            stored.add(first)
            lost.discard(first)
        else:
            covered = covered.declared_lost(first, last)
            lost |= set(range(first, last + 1)) - stored
    return covered, stored, lost


@given(st.lists(STEP, max_size=60))
def test_it_holds_what_was_stored_and_what_was_lost(steps):
    covered, stored, lost = play(steps)
    one_spelling(covered.held)
    one_spelling(covered.lost)
    assert numbers(covered.held) == stored | lost
    assert numbers(covered.lost) == lost
    top = max(stored | lost, default=0)
    assert covered.highest == top
    assert numbers(covered.gaps) == set(range(1, top + 1)) - stored - lost
    one_spelling(covered.gaps)
    assert coverage.count(covered.gaps) == top - len(stored | lost)


@given(st.lists(STEP, max_size=60))
def test_the_order_of_records_does_not_matter(steps):
    records = [step for step in steps if step[2] == "stored"]
    assert play(records)[0] == play(records[::-1])[0] == play(records + records)[0]


@given(st.lists(RANGE, max_size=8), RANGE)
def test_difference(ranges, gone):
    spans = ()
    for first, last in ranges:
        spans = coverage.union(spans, first, last)
    rest = coverage.difference(spans, *gone)
    one_spelling(rest)
    assert numbers(rest) == numbers(spans) - numbers([gone])


@given(st.lists(STEP, max_size=60), st.integers(1, 5))
def test_a_mark_claims_nothing_that_is_not_held(steps, limit):
    covered, stored, lost = play(steps)
    mark = covered.mark(limit)
    claimed = set(range(1, mark.highest + 1)) - numbers(mark.gaps)
    assert claimed <= stored | lost
    assert set(range(1, mark.through + 1)) <= stored | lost
    assert mark.through + 1 not in stored | lost
    assert len(mark.gaps) <= limit
    if len(covered.gaps) <= limit:
        assert claimed == stored | lost
    else:
        # As much as the gaps let it say.
        assert mark.highest + 1 == covered.gaps[limit][0]


MARKS = {
    "nothing": ((), (0, 0, ())),
    "the first": ((1,), (1, 1, ())),
    "without the first": ((2, 3), (0, 3, ((1, 1),))),
    "one gap": ((1, 2, 5), (2, 5, ((3, 4),))),
    "three gaps, two listed": ((1, 3, 5, 7), (1, 5, ((2, 2), (4, 4)))),
}


@pytest.mark.parametrize(("stored", "want"), MARKS.values(), ids=MARKS)
def test_marks(stored, want):
    covered = Coverage()
    for seq in stored:
        covered = covered.stored(seq)
    mark = covered.mark(2)
    assert (mark.through, mark.highest, mark.gaps) == want


def test_a_site_of_endless_holes_is_bounded_and_heals():
    covered = Coverage()
    for seq in range(2, 4 * SPANS, 2):
        covered = covered.stored(seq)
    assert len(covered.held) == SPANS
    assert covered.highest == 2 * SPANS
    lost = covered
    for seq in range(1, 4 * SPANS, 2):
        lost = lost.declared_lost(seq, seq)
    assert len(lost.held) <= SPANS
    assert numbers(lost.lost) <= numbers(lost.held)
    # Sent again in order, all of it is held in the end.
    for seq in range(1, 4 * SPANS):
        covered = covered.stored(seq)
    assert covered.held == ((1, 4 * SPANS - 1),)


def test_lost_and_yet_it_came():
    covered = Coverage().stored(1).declared_lost(2, 9).stored(5)
    assert covered == Coverage(((1, 9),), ((2, 4), (6, 9)))
    assert covered.declared_lost(1, 9) == Coverage(((1, 9),), ((2, 4), (6, 9)))


def test_the_largest_number_there_is():
    top = 2**63 - 1
    covered = Coverage().declared_lost(1, top).stored(top)
    assert covered == Coverage(((1, top),), ((1, top - 1),))
