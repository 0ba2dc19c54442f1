"""Which records a digest covers: tables, and that no number is covered twice or never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.digesting import (
    MISSING,
    PERIOD_S,
    RECORDS,
    Covering,
    Head,
    Span,
    cover,
    is_worth,
    next_due_s,
    spans,
)

A, B, C = b"boot-one", b"boot-two", b"boot-3rd"

SPANS = {
    "nothing recorded": (None, [(A, 0)], []),
    "the first of all": (None, [(A, 7)], [Span(A, 1, 7)]),
    "goes on where the last one ended": (Head(A, 7), [(A, 9)], [Span(A, 8, 9)]),
    "all covered": (Head(A, 9), [(A, 9)], []),
    "a boot that ended without a digest, then this one": (
        Head(A, 7),
        [(A, 9), (B, 3)],
        [Span(A, 8, 9), Span(B, 1, 3)],
    ),
    "boots that the chain went past are done": (
        Head(B, 2),
        [(A, 9), (B, 3), (C, 1)],
        [Span(B, 3, 3), Span(C, 1, 1)],
    ),
    "the head's boot is forgotten: what is left is newer": (
        Head(A, 7),
        [(B, 3), (C, 1)],
        [Span(B, 1, 3), Span(C, 1, 1)],
    ),
    "more than one digest's worth": (
        None,
        [(A, 2 * RECORDS + 1)],
        [
            Span(A, 1, RECORDS),
            Span(A, RECORDS + 1, 2 * RECORDS),
            Span(A, 2 * RECORDS + 1, 2 * RECORDS + 1),
        ],
    ),
}


@pytest.mark.parametrize(("head", "boots", "want"), SPANS.values(), ids=SPANS)
def test_what_is_to_be_covered(head, boots, want):
    assert list(spans(head, boots)) == want


COVER = {
    "all there": ((1, 3), [1, 2, 3], (1, 3), ()),
    "none there": ((4, 6), [], (4, 6), ((4, 6),)),
    "holes at both ends and within": (
        (1, 9),
        [3, 4, 7],
        (1, 9),
        ((1, 2), (5, 6), (8, 9)),
    ),
    "as many holes as fit": (
        (1, 2 * MISSING),
        range(2, 2 * MISSING + 1, 2),
        (1, 2 * MISSING),
        tuple((n, n) for n in range(1, 2 * MISSING, 2)),
    ),
    "one hole too many ends it early": (
        (1, 2 * MISSING + 9),
        range(2, 2 * MISSING + 5, 2),
        (1, 2 * MISSING),
        tuple((n, n) for n in range(1, 2 * MISSING, 2)),
    ),
}


@pytest.mark.parametrize(("ends", "kept", "want", "missing"), COVER.values(), ids=COVER)
def test_what_a_digest_says_of_its_records(ends, kept, want, missing):
    assert cover(Span(A, *ends), list(kept)) == Covering(Span(A, *want), missing)


@given(st.integers(1, 400), st.sets(st.integers(1, 400)), st.integers(1, 400))
def test_digest_after_digest_covers_every_number_once(first, kept, length):
    """And says of each whether it was there."""
    last = first + length - 1
    there = sorted(n for n in kept if first <= n <= last)
    head, said_there = Head(A, first - 1), []
    while found := list(spans(head, [(A, last)])):
        span = found[0]
        assert span.first == head.last + 1
        covering = cover(span, [n for n in there if n >= span.first])
        gone = {n for a, b in covering.missing for n in range(a, b + 1)}
        assert len(covering.missing) <= MISSING
        assert all(a <= b for a, b in covering.missing)
        said_there += [
            n
            for n in range(covering.span.first, covering.span.last + 1)
            if n not in gone
        ]
        assert covering.span.last >= covering.span.first
        head = Head(A, covering.span.last)
    assert head.last == last
    assert said_there == there


SPAN = Span(A, 1, 5)
WORTH = {
    "heartbeats": (SPAN, ["heartbeat"], False, True),
    "an event after a digest": (SPAN, ["digest", "event"], False, True),
    "a digest alone": (SPAN, ["digest"], False, False),
    "a digest and a histogram": (SPAN, ["digest", "histogram"], False, False),
    "the same, and the boot is over": (SPAN, ["digest", "histogram"], True, True),
    "a digest was the boot's last": (SPAN, ["digest"], True, False),
    "all gone: declared": (SPAN, [], False, True),
    "a full span is never passed over": (
        Span(A, 1, RECORDS),
        ["digest"] * RECORDS,
        False,
        True,
    ),
}


@pytest.mark.parametrize(("span", "leaves", "ended", "want"), WORTH.values(), ids=WORTH)
def test_whether_a_digest_is_worth_it(span, leaves, ended, want):
    assert is_worth(span, leaves, ended=ended) is want


@given(st.floats(0, 1e7))
def test_the_next_one_is_due_within_a_period(now_s):
    assert 0 < next_due_s(now_s) <= PERIOD_S
