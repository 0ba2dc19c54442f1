"""What was handed on: when it counts as lost on its way, and when it does not."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.coverage import LISTED, Memory, Said, covers, said
from jaga_agent.core.handed import FULL_GAPS, GAP_S, OVERDUE_S, PATIENCE_S, Handed
from jaga_agent.core.model import Instant
from jaga_agent.wire import evidence
from jaga_agent.wire.evidence import BootMark, Watermark

BOOT, OTHER = b"thisboot", b"otherone"
OTHERS = tuple(BootMark(b"other-%2d" % n, 1, 1) for n in range(LISTED))
"""All of a mark's places."""


def mark(*boots, revision=1, store=b"store--1"):
    return Watermark(store, revision, boots)


# ---- what a watermark says


def test_the_bounds_are_the_wires():
    assert LISTED == evidence.BOOTS
    assert FULL_GAPS == evidence.GAPS


@given(
    through=st.integers(0, 30),
    above=st.lists(st.integers(1, 5), max_size=8),
    first=st.integers(1, 40),
    length=st.integers(1, 40),
)
def test_ranges_say_what_each_seq_would(through, above, first, length):
    # Runs above `through`: a gap, some that are there, a gap, …
    gaps, at = [], through
    for n, width in enumerate(above):
        if n % 2 == 0 and n + 1 < len(above):
            gaps.append((at + 1, at + width))
        at += width
    of = BootMark(BOOT, through, max(at, through), tuple(gaps))

    def one(seq):
        if seq <= of.through:
            return Said.COVERED
        if any(a <= seq <= b for a, b in gaps):
            return Said.LACKING
        return Said.COVERED if seq <= of.highest else Said.NOTHING

    last = first + length - 1
    parts = list(said(of, first, last))
    flat = [(seq, word) for a, b, word in parts for seq in range(a, b + 1)]
    assert flat == [(seq, one(seq)) for seq in range(first, last + 1)]
    assert covers(of, first, last) == all(w is Said.COVERED for _, w in flat)
    assert list(said(None, first, last)) == [(first, last, Said.NOTHING)]


@pytest.mark.parametrize(
    ("new", "want"),
    [
        (mark(BootMark(BOOT, 10, 10)), False),
        (mark(BootMark(BOOT, 11, 20, ((13, 15),)), revision=2), False),
        # With places to spare all boots are listed that anything is held of.
        (mark(BootMark(OTHER, 1, 1), revision=2), True),
        (mark(revision=2), True),
        (mark(*OTHERS, revision=2), False),
        (mark(BootMark(BOOT, 9, 9), *OTHERS[1:], revision=2), True),
        (mark(BootMark(BOOT, 9, 9), revision=2), True),
        (mark(BootMark(BOOT, 8, 20, ((9, 9),)), revision=2), True),
        (mark(BootMark(BOOT, 10, 10), revision=0), True),
        (mark(BootMark(BOOT, 10, 10), store=b"store--2"), True),
    ],
)
def test_going_back(new, want):
    memory = Memory()
    assert memory.take(mark(BootMark(BOOT, 10, 10))) == (True, False)
    assert memory.take(mark(BootMark(BOOT, 10, 10))) == (False, False)
    assert memory.take(new) == (want or new.revision != 1, want)


def test_a_boot_that_was_not_listed_for_a_while_is_remembered():
    memory = Memory()
    memory.take(mark(BootMark(BOOT, 10, 10)))
    assert memory.take(mark(*OTHERS, revision=2)) == (True, False)
    assert memory.take(mark(BootMark(BOOT, 4, 4), revision=3)) == (True, True)


# ---- what is lost


@dataclass
class Sent:
    """A record under test (boot BOOT, seq 5, token 105), sent at 0 s, PUBACK at 1 s."""

    history: bool = False
    acked: bool = True
    later: str = "live"
    """The channel of a later sending, which is committed; "": none is."""


def handed(case):
    it = Handed()
    it.sent(1, [(BOOT, 5, 105)], Instant(0.0), history=case.history)
    if case.acked:
        it.acknowledged(1, Instant(1.0))
    if case.later:
        it.sent(2, [(OTHER, 1, 200)], Instant(0.5), history=case.later == "history")
        it.acknowledged(2, Instant(1.0))
    return it


GAP = BootMark(BOOT, 4, 9, ((5, 6),))
SHORT = BootMark(BOOT, 4, 4)
FULL = BootMark(BOOT, 0, 2 * FULL_GAPS, tuple((2 * n + 1,) * 2 for n in range(16)))
THERE = BootMark(OTHER, 1, 1)


@pytest.mark.parametrize(
    ("name", "case", "marks", "at", "lost"),
    [
        ("gap, soon", Sent(), (GAP, THERE), 1 + GAP_S - 0.1, False),
        ("gap", Sent(), (GAP, THERE), 1 + GAP_S, True),
        ("gap, none later known", Sent(later=""), (GAP,), 1 + OVERDUE_S, False),
        ("gap, in flight", Sent(acked=False), (GAP, THERE), 1 + OVERDUE_S, False),
        (
            "history, a live one overtook it",
            Sent(history=True),
            (GAP, THERE),
            1 + GAP_S,
            False,
        ),
        (
            "history, a later one is there",
            Sent(history=True, later="history"),
            (GAP, THERE),
            1 + GAP_S,
            True,
        ),
        (
            "history, overdue",
            Sent(history=True),
            (GAP, THERE),
            OVERDUE_S,
            True,
        ),
        ("above, soon", Sent(), (SHORT, THERE), OVERDUE_S - 0.1, False),
        ("above, overdue", Sent(), (SHORT, THERE), OVERDUE_S, True),
        ("boot unknown, overdue", Sent(), (THERE,), OVERDUE_S, True),
        ("above, none later known", Sent(later=""), (SHORT,), 9 * OVERDUE_S, False),
        ("covered", Sent(), (BootMark(BOOT, 5, 5), THERE), OVERDUE_S, False),
    ],
)
def test_lost_on_its_way(name, case, marks, at, lost):
    it = handed(case)
    above = it.review(mark(*marks), Instant(at))
    assert above == (104 if lost else None), name
    covered = name == "covered"
    assert it.has(BOOT, 5) is not (lost or covered)


def test_above_full_gaps_more_patience():
    it = Handed()
    it.sent(1, [(BOOT, 50, 150)], Instant(0.0), history=False)
    it.sent(2, [(OTHER, 1, 200)], Instant(0.0), history=False)
    it.acknowledged(1, Instant(1.0))
    it.acknowledged(2, Instant(1.0))
    assert it.review(mark(FULL, THERE), Instant(OVERDUE_S)) is None
    assert it.review(mark(FULL, THERE), Instant(10 * OVERDUE_S)) == 149


def test_each_time_the_waits_double():
    it, now, waits = Handed(), 0.0, []
    for order in range(1, 40, 2):
        it.sent(order, [(BOOT, 5, 105)], Instant(now), history=True)
        it.acknowledged(order, Instant(now))
        began = now
        it.sent(order + 1, [(OTHER, order, 200)], Instant(now), history=True)
        it.acknowledged(order + 1, Instant(now))
        while it.review(mark(GAP, BootMark(OTHER, 99, 99)), Instant(now)) is None:
            now += 1.0
        waits.append(now - began)
    assert waits[:5] == [5, 10, 20, 40, 80]
    assert set(waits[11:]) == {PATIENCE_S}


def test_an_acknowledgement_of_an_earlier_connection_says_nothing():
    it = Handed()
    it.sent(1, [(BOOT, 1, 1)], Instant(0.0), history=False)
    it.connection_ended()
    assert it.acknowledged(1, Instant(1.0)) == ()
    assert not it.has(BOOT, 1)
    assert it.flying == 0


@given(
    batches=st.lists(st.integers(1, 30), max_size=40),
    covered=st.sets(st.integers(1, 400)),
)
def test_runs_hold_exactly_what_was_sent_and_is_not_covered(batches, covered):
    it, seq = Handed(), 0
    for order, size in enumerate(batches, 1):
        records = [(BOOT, seq + n, seq + n) for n in range(1, size + 1)]
        it.sent(order, records, Instant(order), history=True)
        it.acknowledged(order, Instant(order * 100.0))
        seq += size
    top = max(covered, default=0)
    gaps = tuple((n, n) for n in range(1, top) if n not in covered)
    it.review(mark(BootMark(BOOT, 0, top, gaps)), Instant(order if batches else 0))
    held = [n for n in range(1, seq + 1) if it.has(BOOT, n)]
    assert held == [n for n in range(1, seq + 1) if n not in covered]


def test_weeks_without_a_collector_take_little_memory():
    it = Handed()
    for n in range(1, 30_000):
        it.sent(n, [(BOOT, n, n)], Instant(n * 10.0), history=False)
        it.acknowledged(n, Instant(n * 10.0 + 1))
    assert sum(map(len, it._held.values())) < 500
    assert it.has(BOOT, 1)
    assert it.has(BOOT, 29_999)
    assert not it.has(BOOT, 30_000)
