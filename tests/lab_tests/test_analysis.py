"""The phone's numbers, by table."""

from __future__ import annotations

import json

import pytest

from lab.analysis import (
    Attempt,
    Gap,
    Spell,
    UploadMark,
    bad_attempts,
    connection_gap,
    parse,
    spells,
    summarise,
    upload_gap,
)

A, B = "192.0.2.101", "198.51.100.101"
NAMES = {A: "telkomsel", B: "indosat"}


def attempts(pattern: str, start_s: float = 100.0, interval_s: float = 0.05):
    """One attempt for each letter: G good, b by B, S slow, T timeout, u unfinished."""
    kinds = {
        "G": (0.04, True, A, None),
        "b": (0.05, True, B, None),
        "S": (0.31, True, A, None),
        "T": (2.0, False, None, "timeout"),
        "u": (0.1, False, None, "unfinished"),
        "U": (0.4, False, None, "unfinished"),
    }
    return [
        Attempt(round(start_s + i * interval_s, 3), *kinds[letter])
        for i, letter in enumerate(pattern)
    ]


GAPS = {
    "all good": ("GGGG", None, 0),
    "one bad": ("GGTGG", Gap(100.05, 100.15), 1),
    "slow is bad": ("GSG", Gap(100.0, 100.1), 1),
    "the longest of two": ("GTGTTTGG", Gap(100.1, 100.3), 4),
    "never again": ("GGTTT", Gap(100.05, 101.0, open=True), 3),
    "not yet": ("TTGG", Gap(99.0, 100.1, open=True), 2),
    "nothing at all": ("TT", Gap(99.0, 101.0, open=True), 2),
    "unfinished too early to tell": ("GGuu", None, 0),
    "unfinished and already bad": ("GGUu", Gap(100.05, 101.0, open=True), 1),
    "no attempt": ("", None, 0),
}


@pytest.mark.parametrize(("pattern", "want", "bad"), GAPS.values(), ids=GAPS)
def test_gap_of_new_connections(pattern: str, want: Gap | None, bad: int) -> None:
    log = attempts(pattern)
    assert connection_gap(log, 99.0, 101.0) == want
    assert bad_attempts(log, 99.0, 101.0) == bad


def test_a_gap_is_as_long_as_its_edges_are_apart() -> None:
    gap = connection_gap(attempts("GTTG"), 99.0, 101.0)
    assert gap is not None
    assert gap.gap_s == pytest.approx(0.15)


def test_only_the_window_counts() -> None:
    log = attempts("TTGGTGG")
    assert connection_gap(log, 100.1, 100.15) is None
    assert connection_gap(log, 100.1, 101.0) == Gap(100.15, 100.25)


SPELLS = {
    "one provider": ("GGG", [Spell("telkomsel", 100.0, 100.1, 3)]),
    "a switch with a hole": (
        "GGTTbb",
        [Spell("telkomsel", 100.0, 100.05, 2), Spell("indosat", 100.2, 100.25, 2)],
    ),
    "there and back": (
        "Gb" + "G",
        [
            Spell("telkomsel", 100.0, 100.0, 1),
            Spell("indosat", 100.05, 100.05, 1),
            Spell("telkomsel", 100.1, 100.1, 1),
        ],
    ),
    "nobody": ("TTT", []),
}


@pytest.mark.parametrize(("pattern", "want"), SPELLS.values(), ids=SPELLS)
def test_who_carried(pattern: str, want: list[Spell]) -> None:
    assert spells(attempts(pattern), NAMES, 99.0, 101.0) == want


def test_an_unknown_address_stands_for_itself() -> None:
    assert spells([Attempt(1.0, 0.1, ok=True, seen="10.0.0.9")], NAMES, 0, 2) == [
        Spell("10.0.0.9", 1.0, 1.0, 1)
    ]


def progress(*instants: float) -> list[UploadMark]:
    return [UploadMark(at_s, "progress", A, 1) for at_s in instants]


UPLOADS = {
    "steady": (progress(1.0, 1.1, 1.2), 1.25, Gap(1.1, 1.2)),
    "a hole": (progress(1.0, 1.1, 4.1, 4.2), 4.3, Gap(1.1, 4.1)),
    "hangs to the end": (progress(1.0, 1.1), 9.0, Gap(1.1, 9.0, open=True)),
    "none ran": ([UploadMark(1.0, "broken", error="x")], 9.0, None),
}


@pytest.mark.parametrize(("marks", "to_s", "want"), UPLOADS.values(), ids=UPLOADS)
def test_gap_of_the_upload(
    marks: list[UploadMark], to_s: float, want: Gap | None
) -> None:
    got = upload_gap(marks, 0.0, to_s)
    if want is None:
        assert got is None
        return
    assert got is not None
    assert (got.gap_s, got.open) == (pytest.approx(want.gap_s), want.open)


def test_a_log_is_read_in_order_and_without_its_half_line() -> None:
    late = {"kind": "attempt", "start_s": 2.0, "duration_s": 0.1, "ok": True}
    early = {"kind": "attempt", "start_s": 1.0, "duration_s": 2.0, "ok": False}
    step = {"kind": "upload", "at_s": 1.5, "what": "progress", "total_bytes": 10}
    lines = [json.dumps(record) + "\n" for record in (late, early, step)]
    log = parse([*lines, '{"kind": "att'])
    assert [attempt.start_s for attempt in log.attempts] == [1.0, 2.0]
    assert [mark.total_bytes for mark in log.upload] == [10]


def test_the_summary_agrees_with_its_parts() -> None:
    log = parse([])
    log.attempts.extend(attempts("GGTTTbbu"))
    summary = summarise(log, NAMES)
    assert summary.gap == Gap(100.05, 100.25)
    assert summary.gap_s == pytest.approx(0.2)
    assert (summary.attempts, summary.bad_attempts) == (7, 3)
    assert summary.bad_s == pytest.approx(0.15)
    assert summary.upload_gap is None
    assert [spell.provider for spell in summary.spells] == ["telkomsel", "indosat"]
