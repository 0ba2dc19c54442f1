"""Loss, dating, summary, series: numbers that must be honest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_server.core import dating, loss, series
from jaga_server.core.dating import Offset
from jaga_server.core.model import (
    Beat,
    Condition,
    Health,
    Host,
    Mode,
    Presence,
    Reading,
)
from jaga_server.core.series import Sample
from jaga_server.core.summary import SiteNow, Trouble, UplinkNow, summarise

T0 = 1_790_000_000_000
HOST = Host(1, None, None, None, None)


def beat(t_s, *readings):
    return Beat(
        "s", b"12345678", t_s, T0 + t_s * 1000, 0, True, Mode.POLLING_DAY, None,
        tuple(Reading(n, Health.UP, sent, lost, rtt) for n, sent, lost, rtt in readings), HOST,
    )  # fmt: skip


def test_loss_of_nothing_sent_is_not_zero():
    assert loss.total(()).ratio is None
    memory = loss.remember({}, beat(0, ("a", 0, 0, None)), newest=True)
    assert loss.total(memory["a"].probes).ratio is None


def test_loss_counts_five_minutes_back_from_the_last_heartbeat():
    memory = {}
    for t_s in range(0, 400, 10):
        memory = loss.remember(
            memory, beat(t_s, ("a", 10, t_s == 50, 40.0)), newest=True
        )
    total = loss.total(memory["a"].probes)
    assert (total.sent, total.lost) == (300, 0)


def test_the_last_round_trip_outlives_a_heartbeat_without_one():
    memory = loss.remember({}, beat(0, ("a", 5, 0, 40.0)), newest=True)
    memory = loss.remember(memory, beat(10, ("a", 5, 5, None)), newest=True)
    assert memory["a"].rtt_ms == 40.0
    assert loss.total(memory["a"].probes).ratio == 0.5


def test_an_uplink_taken_off_is_forgotten():
    memory = loss.remember({}, beat(0, ("a", 5, 0, 1.0), ("b", 5, 0, 1.0)), newest=True)
    assert set(loss.remember(memory, beat(10, ("b", 5, 0, 1.0)), newest=True)) == {"b"}


ARRIVAL = T0 + 100_000
DATES = {
    "a confirmed clock": ((60_000, T0 + 90_000, 5), None, (T0 + 90_000, True)),
    "confirmed this moment": ((60_000, T0 + 90_000, 0), None, (T0 + 90_000, True)),
    "never confirmed: by arrival": ((60_000, 500, -1), None, (ARRIVAL, False)),
    "never confirmed, its boot is dated": (
        (60_000, 500, -1),
        Offset(T0, 5),
        (T0 + 60_000, True),
    ),
    "far ahead of us: by arrival": (
        (60_000, ARRIVAL + 3_600_000, 5),
        None,
        (ARRIVAL, False),
    ),
    "a little ahead: never the future": (
        (60_000, ARRIVAL + 2_000, 5),
        None,
        (ARRIVAL, True),
    ),
    "before its own boot: by arrival": ((60_000, 500, 5), None, (ARRIVAL, False)),
    "an hour wrong on an old confirmation": (
        (60_000, T0 + 60_000 - 3_600_000, 900),
        Offset(T0, 5),
        (T0 + 60_000, True),
    ),
}


@pytest.mark.parametrize(("record", "held", "want"), DATES.values(), ids=DATES)
def test_dating(record, held, want):
    start = dating.better(held, dating.offset(*record, ARRIVAL))
    assert dating.event_time(record[0], start, ARRIVAL) == want


OFFSETS = {
    "the first": (None, (T0, 4000), (T0, 4000)),
    "none told": ((T0, 4000), None, (T0, 4000)),
    "fresher, but the held one is fresh": ((T0, 60), (T0 + 9000, 0), (T0, 60)),
    "a little fresher": ((T0, 4000), (T0 + 9000, 1001), (T0, 4000)),
    "four times fresher": ((T0, 4000), (T0 + 9000, 1000), (T0 + 9000, 1000)),
    "four times fresher and the same": ((T0, 4000), (T0 + 900, 1000), (T0, 1000)),
    "older": ((T0, 400), (T0 - 9000, 4000), (T0, 400)),
}


@pytest.mark.parametrize(("held", "told", "want"), OFFSETS.values(), ids=OFFSETS)
def test_what_a_boot_is_dated_by(held, told, want):
    held, told = (None if one is None else Offset(*one) for one in (held, told))
    assert dating.better(held, told) == Offset(*want)


def site(kecamatan, presence, condition, *uplinks):
    return SiteNow(
        kecamatan, Presence(presence), Condition(condition),
        tuple(UplinkNow(p, Health(h), a, r) for p, h, a, r in uplinks),
    )  # fmt: skip


def test_summary():
    totals = summarise(
        [
            site("Bengalon", "online", "fine", ("XL", "up", True, 40.0), ("Telkom", "up", False, 9.0)),
            site("Bengalon", "online", "degraded", ("XL", "down", False, 60.0), ("Telkom", "up", True, 11.0)),
            site("Karangan", "overdue", "degraded", ("XL", "down", True, None)),
            site("Karangan", "online", "degraded", ("XL", "down", True, None)),
            site("Sandaran", "offline", "offline", ("XL", "up", True, 500.0)),
            site("Sandaran", "never", "unknown", ("XL", "unknown", False, None)),
        ]
    )  # fmt: skip
    assert totals.online == 3
    assert [totals.conditions[c] for c in Condition] == [1, 3, 1, 1]
    telkom, xl = totals.providers
    assert (telkom.provider, telkom.uplinks, telkom.active) == ("Telkom", 2, 1)
    assert (telkom.rtt_median_ms, telkom.troubles) == (10.0, ())
    # The offline site's "up" of an hour ago proves nothing now.
    assert [xl.health[h] for h in Health] == [1, 1, 0, 3]
    assert (xl.uplinks, xl.active, xl.rtt_median_ms) == (5, 3, 50.0)
    assert xl.troubles == (Trouble("Karangan", 2, 2, 0), Trouble("Bengalon", 2, 1, 0))


def sample(t_s, sent=10, lost=0, rtt=(20.0, 40.0, 90.0), mode=Mode.POLLING_DAY):
    return Sample(T0 + round(t_s * 1000), "a", mode, sent, lost, *rtt, active=True)


def rows(samples, width_s=0):
    got = series.points(samples, width_s, lambda _mode: 10_000)
    return [((p.t_ms - T0) / 1000, p.rtt_mean_ms, p.loss_ratio) for p in got]


def test_raw_series_shows_gaps():
    got = rows([sample(0), sample(10), sample(41), sample(50)])
    assert got == [(0, 40, 0), (10, 40, 0), (20, None, None), (41, 40, 0), (50, 40, 0)]


def test_buckets_weigh_means_and_sum_counts():
    base = -(T0 % 60_000) / 1000
    many = sample(base, 30, 0, (10.0, 20.0, 30.0))
    few = sample(base + 10, 30, 20, (15.0, 80.0, 300.0))
    none = sample(base + 20, 30, 30, (None, None, None))
    (point,) = series.points([many, few, none], 60, lambda _mode: 10_000)
    assert (point.rtt_min_ms, point.rtt_mean_ms, point.rtt_max_ms) == (
        10.0,
        35.0,
        300.0,
    )
    assert point.loss_ratio == 50 / 90


def test_an_empty_bucket_is_a_null_row():
    base = -(T0 % 60_000) / 1000
    got = rows([sample(base), sample(base + 180)], 60)
    assert [mean for _, mean, _ in got] == [40, None, 40]


@pytest.mark.parametrize(
    ("hours", "samples", "want"),
    [(1, 360, 0), (1, 600, 0), (24, 288, 0), (6, 2160, 60), (24, 8640, 300), (24 * 31, 267_840, 7200)],
)  # fmt: skip
def test_bucket_width(hours, samples, want):
    assert series.bucket_s(T0, T0 + hours * 3_600_000, samples) == want


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.integers(0, 30), st.integers(0, 30)),
        max_size=60,
    ),
    st.sampled_from([0, 10, 60, 300]),
)
def test_no_probe_appears_or_vanishes_in_a_series(steps, width_s):
    at_s, samples = 0, []
    for gap_s, sent, lost in steps:
        at_s += gap_s
        rtt = (20.0, 40.0, 90.0) if lost < sent else (None, None, None)
        samples.append(sample(at_s, sent, min(sent, lost), rtt))
    got = series.points(samples, width_s, lambda _mode: 10_000)
    times = [p.t_ms for p in got]
    assert times == sorted(set(times))
    assert len(got) <= 2 * max(1, len(samples))
    for point in got:
        assert point.loss_ratio is None or 0 <= point.loss_ratio <= 1
        # Every answered probe took 20…90 ms, 40 on average, so every merge must too.
        assert point.rtt_mean_ms in (None, pytest.approx(40.0))
