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
