"""The broker away for six hours, in virtual time: all of it arrives, in order of time.

The uplink behind the site is slow (256 kbit/s, 80 ms), so that a live record that waits
behind a history would be seen to. Time is virtual; the delivery, its timer and the spool
are the real ones.
"""

import asyncio
from dataclasses import dataclass

import pytest

from jaga_agent.adapters.fakes import FakeClock, MemorySpool
from jaga_agent.adapters.spool import SqliteSpool
from jaga_agent.runtime.delivery import Delivery
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.wire import messages as wire
from support.collector_model import MAKE, WINDOW, Collector, site_config
from support.virtual_time import run

OUTAGE_S = 6 * 3600
BEFORE_S = 600
HISTORY_BYTES_PER_S = 64_000 / 8
LINK_BYTES_PER_S = 256_000 / 8
DELAY_S = 0.08
BOOT_S = 1000.0
OVERHEAD_BYTES = 215
TELL_S = 3.0


class Link:
    """A slow uplink to an honest broker and collector; down when told."""

    def __init__(self, delivery_of):
        self.loop = asyncio.get_running_loop()
        self.collector = Collector()
        self.up = False
        self.generation = 0
        self.inflight = 0
        self.free_at = 0.0
        self.sent = []
        self.arrived = []
        """When, leaf, seq, at_ms."""
        self.delivery = delivery_of

    def publish(self, topic, payload, *, token, retain=False, correlation=None):
        if not self.up or self.inflight >= WINDOW:
            return False
        now, size = self.loop.time(), len(payload) + OVERHEAD_BYTES
        self.free_at = max(self.free_at, now) + size / LINK_BYTES_PER_S
        self.inflight += 1
        self.sent.append((now, topic.rpartition("/")[2], len(payload)))
        at = self.free_at + DELAY_S
        self.loop.call_at(at, self._arrive, self.generation, topic, payload, token)
        return True

    def _arrive(self, generation, topic, payload, token):
        if generation != self.generation:
            return
        known = len(self.collector.received)
        self.collector.take(topic, payload)
        self.arrived += [
            (self.loop.time(), leaf, seq, at_ms)
            for leaf, _, seq, at_ms in self.collector.received[known:]
        ]
        self.loop.call_later(DELAY_S, self._puback, generation, token)

    def _puback(self, generation, token):
        if generation == self.generation:
            self.inflight -= 1
            self.delivery().acknowledged(token)

    async def tell(self):
        while True:
            await asyncio.sleep(TELL_S)
            if self.up:
                self.delivery().watermark(wire.encode(self.collector.watermark()))

    def cut(self):
        self.up = False
        self.generation += 1
        self.inflight = 0
        self.delivery().disconnected()

    def connect(self, record):
        self.up = True
        self.delivery().connected(self)
        record("heartbeat")
        self.delivery().pump()


@dataclass(frozen=True)
class Outcome:
    link: Link
    waiting: int
    """When the broker was back."""
    back_at: float
    took_s: float
    left: int
    last_seq: int

    @property
    def after(self):
        return [a for a in self.link.arrived if a[0] >= self.back_at]


async def routine(record):
    """A site's records of a polling day."""
    n = 0
    while True:
        record("heartbeat")
        n += 1
        if n % 30 == 0:
            record("histogram")
        if n % 45 == 0:
            record("event")
        await asyncio.sleep(10)


async def outage(spool, clock):
    loop = asyncio.get_running_loop()
    delivery = Delivery(site_config(), spool=spool, clock=clock, is_busy=lambda: False)
    recorder = Recorder(spool, clock, delivery.recorded)
    link = Link(lambda: delivery)

    def record(leaf):
        assert recorder.record(MAKE[leaf])

    link.connect(record)
    tasks = [loop.create_task(link.tell()), loop.create_task(routine(record))]
    await asyncio.sleep(BEFORE_S)
    link.cut()
    await asyncio.sleep(OUTAGE_S + 5)
    waiting, back_at = delivery.waiting, loop.time()
    link.connect(record)
    while delivery.waiting > 3:  # noqa: ASYNC110 (nobody tells of it)
        await asyncio.sleep(1)
    took_s = loop.time() - back_at
    await asyncio.sleep(30)
    for task in tasks:
        task.cancel()
    left = delivery.waiting
    delivery.disconnected()
    spool.close()
    return Outcome(link, waiting, back_at, took_s, left, recorder.last_seq)


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def done(request, tmp_path_factory):
    async def main():
        loop = asyncio.get_running_loop()
        clock = FakeClock(0.0, source=lambda: BOOT_S + loop.time())
        if request.param == "memory":
            spool = MemorySpool(max_records=1_000_000)
        else:
            folder = tmp_path_factory.mktemp("outage")
            spool = SqliteSpool(
                folder / "spool.sqlite3", run_directory=folder, now=clock.now
            )
        return await outage(spool, clock)

    return run(main())


def test_all_of_it_arrives_once(done):
    assert done.waiting > OUTAGE_S / 10
    assert done.left <= 2, "but for what was made since the last watermark"
    seqs = [seq for _, _, seq, _ in done.link.arrived]
    assert len(seqs) == len(set(seqs))
    assert set(range(1, done.last_seq - 3)) <= set(seqs)


def test_the_state_now_is_there_within_two_seconds(done):
    at, leaf, _, at_ms = done.after[0]
    assert leaf == "heartbeat"
    assert at - done.back_at < 2
    assert at_ms / 1000 - BOOT_S == pytest.approx(done.back_at, abs=0.1)
    # The events of the last ten minutes are next, before any history.
    assert [a[1] for a in done.after[1:3]] == ["event", "history"]


def test_the_backlog_comes_in_order_of_time(done):
    history = [(seq, at_ms) for _, leaf, seq, at_ms in done.after if leaf == "history"]
    backlog = [h for h in history if h[1] / 1000 - BOOT_S < done.back_at]
    assert len(backlog) > 2000
    assert backlog == sorted(backlog)


def test_it_keeps_to_its_rate_and_uses_it(done):
    owed, before, total = 0.0, 0.0, 0
    for at, leaf, size in done.link.sent:
        if leaf == "history":
            owed = max(0.0, owed - HISTORY_BYTES_PER_S * (at - before))
            assert owed < 1
            owed, before = owed + size, at
            total += size * (at >= done.back_at)
    assert done.took_s < 1.3 * total / HISTORY_BYTES_PER_S + 2 * TELL_S + 5
    # 62 bytes a record, as measured when this was written.
    assert total / done.waiting < 80


def test_no_live_record_waits_behind_a_history(done):
    waits = [
        at - (at_ms / 1000 - BOOT_S)
        for at, leaf, _, at_ms in done.after
        if leaf == "heartbeat"
    ]
    assert len(waits) >= 3
    assert max(waits) < 1.0
