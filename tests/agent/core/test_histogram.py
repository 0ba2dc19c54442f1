"""Buckets: exact at their bounds, exactly mergeable; periods that end with a heartbeat."""

from decimal import ROUND_CEILING, Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.histogram import (
    Buckets,
    Period,
    index_of,
    microseconds,
    upper_bound,
)
from jaga_agent.core.model import Health, UplinkName
from jaga_agent.core.tally import Measured

getcontext().prec = 60
RTTS = st.integers(1, 300_000_000)


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (1, -1),  # 2^0 is the upper bound of (2^(-1/8), 2^0]
        (2, 7),
        (3, 12),
        (4, 15),
        (1000, 79),
        (1024, 79),
        (1025, 80),
        (20_000, 114),
        (2**20, 159),
        (2**20 + 1, 160),
        (2**28, 223),
    ],
)
def test_known_buckets(value, index):
    assert index_of(value) == index


@given(RTTS)
def test_as_opentelemetry_says_to_sixty_digits(value):
    exact = (Decimal(value).ln() / Decimal(2).ln() * 8).quantize(Decimal("1e-40"))
    want = int(exact.to_integral_value(ROUND_CEILING)) - 1
    assert index_of(value) == want


@given(st.integers(0, 40))
def test_a_power_of_two_is_the_last_of_its_bucket(k):
    assert index_of(2**k) == 8 * k - 1
    assert index_of(2**k + 1) >= 8 * k
    assert upper_bound(index_of(2**k)) == 2**k


@given(RTTS)
def test_a_bucket_holds_its_value_within_the_scale_s_error(value):
    index = index_of(value)
    assert upper_bound(index - 1) * (1 - 1e-12) <= value
    assert value <= upper_bound(index) * (1 + 1e-12)
    # Named by the bucket's geometric middle a value is wrong by 4.4 % at most.
    middle = (upper_bound(index - 1) * upper_bound(index)) ** 0.5
    assert abs(middle - value) / value < 0.0443 + 1e-9


def filled(values):
    buckets = Buckets()
    for value in values:
        buckets.add(value)
    return buckets


@given(st.lists(RTTS, max_size=60), st.lists(RTTS, max_size=60))
def test_a_merge_is_the_histogram_of_all(one, other):
    merged = filled(one)
    merged.merge(filled(other))
    assert merged == filled(one + other)
    assert sum(merged.dense()) == len(one) + len(other)
    assert merged.sum_us == sum(one) + sum(other)
    back = filled(other)
    back.merge(filled(one))
    assert back == merged
    if one or other:
        assert merged.first == index_of(min(one + other))
        assert len(merged.dense()) <= 512
    else:
        assert (merged.first, merged.dense()) == (None, ())


@pytest.mark.parametrize(("rtt_s", "us"), [(0.0, 1), (1e-9, 1), (0.0213456, 21346)])
def test_nothing_takes_no_time(rtt_s, us):
    assert microseconds(rtt_s) == us


# ---- periods

WAN = UplinkName("telkomsel")


@pytest.mark.parametrize(
    ("begin_s", "now_s", "over"),
    [
        (0, 299, True),  # a second early: a timer's error
        (0, 298, False),
        (0, 300, True),
        (7, 307, True),
        (7, 297, False),
        (299, 301, False),
        (299.9, 599.8, True),
        (304, 590, False),
        (304, 605, True),
        (304, 5000, True),
    ],
)
def test_a_period_ends_with_the_first_beat_of_the_next_five_minutes(
    begin_s, now_s, over
):
    period = Period.of(round(begin_s * 1000), {WAN: Health.UP})
    assert period.is_over(round(now_s * 1000)) is over


@given(
    st.lists(st.tuples(st.sampled_from(Health), st.integers(0, 100_000)), max_size=20),
    st.integers(0, 10**9),
)
def test_the_healths_fill_the_period_to_the_millisecond(turns, begin_ms):
    period = Period.of(begin_ms, {WAN: Health.UNKNOWN})
    at_ms = begin_ms
    for health, after_ms in turns:
        at_ms += after_ms
        period.uplinks[WAN].turn(health, at_ms)
    following = period.close(at_ms + 5)
    assert sum(period.uplinks[WAN].healths_ms.values()) == at_ms + 5 - begin_ms
    assert following.begin_ms == at_ms + 5
    last = turns[-1][0] if turns else Health.UNKNOWN
    assert following.uplinks[WAN].health is last


def test_bytes_of_a_device_that_was_never_there_are_unknown():
    period = Period.of(0, {WAN: Health.DOWN})
    period.add({WAN: Measured(lost=3)}, {WAN: None})
    assert (period.uplinks[WAN].rx_bytes, period.uplinks[WAN].lost) == (None, 3)
    period.add({WAN: Measured(not_sent=2)}, {WAN: (10, 0)})
    period.add({WAN: Measured(lost=1)}, {WAN: None})
    of = period.uplinks[WAN]
    assert (of.rx_bytes, of.tx_bytes, of.lost, of.not_sent) == (10, 0, 4, 2)
