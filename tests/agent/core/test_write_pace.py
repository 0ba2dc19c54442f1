"""When what is in RAM goes to the card, and how often in a day."""

import pytest

from jaga_agent.core.write_pace import (
    ALLOWANCE,
    BATCH_S,
    COVERED_BATCH_S,
    STEADY_S,
    WritePace,
)


@pytest.mark.parametrize(
    ("name", "pace", "oldest", "uncovered", "want"),
    [
        ("nothing in RAM", WritePace(), None, None, None),
        ("the collector lacks it", WritePace(), 100, 100, 100 + BATCH_S),
        ("the collector has it", WritePace(), 100, None, 100 + COVERED_BATCH_S),
        ("it lacks a younger one", WritePace(), 100, 160, 160 + BATCH_S),
        ("it lacks the youngest", WritePace(), 100, 399, 100 + COVERED_BATCH_S),
        ("allowance spent", WritePace(0.0, 400), 100, 100, 400 + STEADY_S),
        ("half of one earned", WritePace(0.5, 400), 100, 100, 400 + STEADY_S / 2),
        ("spent, yet not due", WritePace(0.0, 400), 399, None, 399 + COVERED_BATCH_S),
    ],
)
def test_due(name, pace, oldest, uncovered, want):
    now = max(pace.at, 400)
    assert pace.due(now, oldest=oldest, uncovered=uncovered) == want, name


def commits_of_a_day(lag_s):
    """Beat each 10 s for a day; the collector covers a beat after `lag_s`."""
    pace, kept, commits, waits = WritePace(), [], 0, []
    for now in range(0, 86400, 10):
        kept.append(now)
        lacking = [at for at in kept if lag_s is None or now - at < lag_s]
        due = pace.due(now, oldest=kept[0], uncovered=lacking[0] if lacking else None)
        if due <= now:
            waits.append(now - kept[0])
            kept, commits, pace = [], commits + 1, pace.spent(now)
    return commits, waits


def test_a_day_with_and_without_the_collector():
    commits, waits = commits_of_a_day(lag_s=10)
    assert commits == pytest.approx(86400 / (COVERED_BATCH_S + 10), rel=0.05)
    assert max(waits) <= COVERED_BATCH_S + 10
    commits, waits = commits_of_a_day(lag_s=None)
    assert commits <= ALLOWANCE + 86400 / STEADY_S
    # The first hour and a half as soon as is promised, and never later than the steady rate.
    assert set(waits[: int(ALLOWANCE)]) == {BATCH_S}
    assert max(waits) <= STEADY_S + 10


def test_the_allowance_comes_back():
    spent = WritePace(0.0, 0.0)
    later = spent.spent(STEADY_S * 1000)
    assert later.allowance == ALLOWANCE - 1
