"""The link model in virtual time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.wire import Shape, Wire


def wire(**shape: float | None) -> Wire:
    return Wire(Shape(**shape), random.Random(7))  # noqa: S311 - no secret


def arrivals(link: Wire, until_s: float = 100.0) -> list[tuple[float, bytes]]:
    """Step to each event, as the relay does."""
    found = []
    while (next_s := link.next_s()) is not None and next_s <= until_s:
        found += [(next_s, packet) for packet in link.due(next_s)]
    return found


def test_delay() -> None:
    link = wire(delay_ms=20)
    link.offer(b"a", 1.0)
    assert link.due(1.019) == []
    assert link.due(1.0201) == [b"a"]
    assert link.next_s() is None


def test_rate_spaces_packets_out() -> None:
    link = wire(rate_bit_s=8000)  # 1 byte a millisecond
    for name in b"abc":
        link.offer(bytes([name]) * 100, 1.0)
    assert [at_s for at_s, _ in arrivals(link)] == pytest.approx([1.1, 1.2, 1.3])


def test_queue_drops_its_tail() -> None:
    link = wire(rate_bit_s=8000, queue_bytes=250)
    for name in b"abcd":  # a is being sent, b and c wait, d finds no room
        link.offer(bytes([name]) * 100, 1.0)
    assert [packet[:1] for _, packet in arrivals(link)] == [b"a", b"b", b"c"]
    assert link.counters.queue_dropped == 1


def test_a_new_rate_counts_for_what_still_waits() -> None:
    link = wire(rate_bit_s=800)  # 10 ms a byte
    link.offer(b"a" * 100, 0.0)  # until 1.0
    link.offer(b"b" * 100, 0.0)
    link.reshape(Shape(rate_bit_s=8000))
    assert [at_s for at_s, _ in arrivals(link)] == pytest.approx([1.0, 1.1])


def test_blackhole_takes_what_is_under_way() -> None:
    link = wire(delay_ms=20, rate_bit_s=8000)
    for _ in range(3):
        link.offer(b"x" * 10, 1.0)
    link.reshape(Shape(blackhole=True))
    link.offer(b"y", 1.001)
    assert link.next_s() is None
    assert link.counters.blackholed == 4
    link.reshape(Shape())
    link.offer(b"z", 2.0)
    assert link.due(2.0) == [b"z"]


def test_loss_is_the_ratio_asked_for() -> None:
    link = wire(loss_ratio=0.3)
    for _ in range(4000):
        link.offer(b"x", 0.0)
    assert link.counters.lost / 4000 == pytest.approx(0.3, abs=0.03)
    assert len(link.due(0.0)) == 4000 - link.counters.lost


BAD = {
    "loss above 1": {"loss_ratio": 1.1},
    "no rate": {"rate_bit_s": 0},
    "delay below 0": {"delay_ms": -1},
}


@pytest.mark.parametrize("shape", BAD.values(), ids=BAD)
def test_an_impossible_shape_cannot_exist(shape: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rat|negative"):
        Shape(**shape)


@given(
    steps=st.lists(st.tuples(st.floats(0, 0.1), st.integers(1, 1500)), max_size=60),
    delay_ms=st.floats(0, 50),
    jitter_ms=st.floats(0, 50),
    loss_ratio=st.floats(0, 0.9),
    rate_bit_s=st.none() | st.floats(1e4, 1e7),
    queue_bytes=st.integers(0, 20_000),
)
def test_no_packet_is_invented_or_overtakes(
    *,
    steps: list[tuple[float, int]],
    delay_ms: float,
    jitter_ms: float,
    loss_ratio: float,
    rate_bit_s: float | None,
    queue_bytes: int,
) -> None:
    link = wire(
        delay_ms=delay_ms,
        jitter_ms=jitter_ms,
        loss_ratio=loss_ratio,
        rate_bit_s=rate_bit_s,
        queue_bytes=queue_bytes,
    )
    now_s, sent_s, got = 0.0, {}, []
    for number, (wait_s, size) in enumerate(steps):
        got += arrivals(link, now_s)
        now_s += wait_s
        got += arrivals(link, now_s)
        packet = number.to_bytes(2, "big") + bytes(size)
        sent_s[packet] = now_s
        link.offer(packet, now_s)
    got += arrivals(link, float("inf"))
    order = [packet for _, packet in got]
    assert order == sorted(set(order))
    for at_s, packet in got:
        assert at_s >= sent_s[packet] + max(0, delay_ms - jitter_ms) / 1000 - 1e-9
    counters = link.counters
    assert counters.offered == len(steps)
    assert counters.delivered == len(order)
    assert counters.offered == (
        counters.delivered + counters.lost + counters.queue_dropped
    )


def test_a_gap_that_loses() -> None:
    link = wire(delay_ms=10, gap_every_s=15.0, gap_min_s=0.2, gap_max_s=0.2)
    for at_s, name in ((29.9, b"a"), (30.0, b"b"), (30.19, b"c"), (30.21, b"d")):
        link.offer(name, at_s)
    assert [packet for _, packet in arrivals(link)] == [b"a", b"d"]
    assert link.counters.gap_lost == 2


def test_a_gap_that_keeps() -> None:
    link = wire(
        delay_ms=10, gap_every_s=10.0, gap_min_s=1.5, gap_max_s=1.5, gap_keeps=True
    )
    link.offer(b"a", 20.2)
    link.offer(b"b", 21.0)
    link.offer(b"c", 21.6)
    found = arrivals(link)
    assert [packet for _, packet in found] == [b"a", b"b", b"c"]
    assert [at_s for at_s, _ in found] == pytest.approx([21.51, 21.51, 21.61])
    assert link.counters.gap_lost == 0


@given(
    st.floats(0, 1e6),
    st.floats(1, 100),
    st.floats(0, 0.99),
    st.floats(0, 3),
    st.integers(0, 5),
)
def test_gaps_are_as_long_as_they_say(now_s, every_s, spread, longest_s, seed) -> None:
    shape = Shape(
        gap_every_s=every_s,
        gap_spread=spread,
        gap_min_s=min(longest_s, every_s) / 2,
        gap_max_s=min(longest_s, every_s),
        gap_seed=seed,
    )
    end_s = shape.gap_end_s(now_s)
    assert end_s == shape.gap_end_s(now_s)  # whoever asks, and how often
    if end_s is not None:
        assert now_s < end_s <= now_s + shape.gap_max_s + 1e-6


def test_both_directions_of_one_radio_have_the_same_gaps() -> None:
    gaps = {"gap_every_s": 60.0, "gap_min_s": 0.3, "gap_max_s": 2.0, "gap_spread": 0.9}
    one, other = Shape(**gaps, gap_seed=1), Shape(**gaps, gap_seed=2)
    instants = [number / 10 for number in range(6000)]
    ends = {shape.gap_end_s(at_s) for shape in (one,) for at_s in instants} - {None}
    assert 9 <= len(ends) <= 11
    assert not ends & {other.gap_end_s(at_s) for at_s in instants}


def test_a_radio_wakes_before_it_sends() -> None:
    link = wire(delay_ms=10, wake_idle_s=10.0, wake_min_s=0.5, wake_max_s=0.5)
    link.offer(b"a", 100.0)  # never used before: asleep
    link.offer(b"b", 100.2)
    assert [at_s for at_s, _ in arrivals(link, 105)] == pytest.approx([100.51, 100.51])
    link.offer(b"c", 110.0)
    assert [at_s for at_s, _ in arrivals(link, 120)] == pytest.approx([110.01])
    link.offer(b"d", 120.0)
    assert [at_s for at_s, _ in arrivals(link, 130)] == pytest.approx([120.51])


@pytest.mark.parametrize(
    "wrong",
    [
        {"gap_min_s": 2.0, "gap_max_s": 1.0},
        {"gap_every_s": -1.0},
        {"gap_spread": 1.0},
        {"wake_min_s": -0.1},
        {"wake_idle_s": -1.0},
    ],
    ids=str,
)
def test_a_radio_that_cannot_be_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"gap|wake"):
        Shape(**wrong)
