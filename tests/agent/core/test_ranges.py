"""RangeSet against a plain set."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.ranges import RangeSet

RANGES = st.tuples(st.integers(0, 60), st.integers(-1, 9)).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)
STEPS = st.lists(st.tuples(st.booleans(), RANGES), max_size=30)


def numbers(ranges):
    return [n for first, last in ranges for n in range(first, last + 1)]


@given(steps=STEPS, window=RANGES)
def test_is_a_set(steps, window):
    ranges, plain = RangeSet(), set()
    for adds, (first, last) in steps:
        if adds:
            ranges.add(first, last)
            plain |= set(range(first, last + 1))
        else:
            ranges.remove(first, last)
            plain -= set(range(first, last + 1))
    assert numbers(ranges) == sorted(plain)
    assert ranges.highest == max(plain, default=None)
    assert [n for n in range(80) if n in ranges] == sorted(plain)
    first, last = window
    inside = {n for n in plain if first <= n <= last}
    assert numbers(ranges.within(first, last)) == sorted(inside)
    assert ranges.count(first, last) == len(inside)
    outside = set(range(first, last + 1)) - inside
    assert numbers(ranges.missing(first, last)) == sorted(outside)
    # Neither overlapping nor touching.
    whole = list(ranges)
    assert len(ranges) == len(whole)
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(whole))
