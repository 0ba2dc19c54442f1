"""Heartbeats and the histograms over them: the same probes, the same bytes."""

import asyncio
import random
from dataclasses import dataclass

import pytest

from jaga_agent.adapters.fakes import FakeClock, MemorySpool
from jaga_agent.core.histogram import PERIOD_S
from jaga_agent.core.model import Health, UplinkName
from jaga_agent.core.state import State
from jaga_agent.core.tally import Tally
from jaga_agent.errors import SpoolError
from jaga_agent.ports import Counters, HostReading
from jaga_agent.runtime.heartbeats import Heartbeats
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.wire import messages as wire
from jaga_agent.wire.evidence import Histogram
from support.collector_model import site_config
from support.virtual_time import run

WAN = UplinkName("telkomsel")


class Surroundings:
    """What heartbeats ask: a driver, probes, devices, the host."""

    def __init__(self, config, clock):
        self.clock = clock
        self.state = State.initial(config.policy)
        self.tally = Tally((WAN,), 3.0)
        self.moved = 0
        self.there = True

    def collect(self, now):
        return self.tally.collect(now)

    def totals(self):
        if not self.there:
            return {}
        return {"wan0": Counters(self.moved * 3, self.moved, 1, 1)}

    def feed(self):
        pass

    def read(self):
        return HostReading(1.0, 0.1, 0.1, 0.1, 40.0)

    @property
    def host(self):
        return self


@dataclass
class Station:
    heartbeats: Heartbeats
    around: Surroundings
    spool: MemorySpool

    def kept(self, kind):
        leaf = kind.__name__.lower()
        kept = self.spool.pending(1_000_000)
        return [wire.decode(r.payload, kind) for r in kept if r.leaf == leaf]


def station(mode, clock, spool=None):
    config = site_config(mode)
    around = Surroundings(config, clock)
    spool = spool or MemorySpool(max_records=1_000_000)
    beats = Heartbeats(
        config,
        doors=around,
        driver=around,
        probes=around,
        recorder=Recorder(spool, clock, lambda _: None),
        sampling=around,
        usages=around,
    )
    return Station(beats, around, spool)


async def measure(it, seconds):
    """Let probes go out and come back, or not, at random; turn the health."""
    loop, dice = asyncio.get_running_loop(), random.Random(1)  # noqa: S311 (repeatable)
    until, probe_id = loop.time() + seconds, 0
    while loop.time() < until:
        probe_id += 1
        tally, now = it.around.tally, it.around.clock.now()
        tally.sent(probe_id, WAN, now)
        fate = dice.random()
        if fate < 0.8:
            tally.answered(probe_id, dice.lognormvariate(-3.5, 0.8))
        elif fate < 0.9:
            tally.not_sent(probe_id)
        it.around.moved += dice.randrange(5000)
        if dice.random() < 0.02:
            it.heartbeats.turned(WAN, dice.choice(list(Health)))
        await asyncio.sleep(dice.uniform(0.5, 3.0))


@pytest.mark.parametrize("mode", ["polling-day", "ready", "dormant"])
def test_a_histogram_is_the_sum_of_its_heartbeats(mode):
    async def main():
        loop = asyncio.get_running_loop()
        it = station(mode, FakeClock(0.0, source=lambda: 1234.5 + loop.time()))
        it.heartbeats.begin()
        (beat,) = it.heartbeats.work()
        beating = loop.create_task(beat)
        await measure(it, 3700)
        beating.cancel()
        return it

    it = run(main())
    histograms, beats = it.kept(Histogram), it.kept(wire.Heartbeat)
    assert 11 <= len(histograms) <= 13
    end = 1_234_500
    for histogram in histograms:
        assert histogram.begin_ms == end
        end = histogram.at_ms
        of = [
            b.uplinks[0]
            for b in beats
            if histogram.begin_ms < b.at_ms <= end and b.seq < histogram.seq
        ]
        (uplink,) = histogram.uplinks
        assert uplink.name == WAN
        assert uplink.sent == sum(b.sent for b in of)
        assert uplink.lost == sum(b.lost for b in of)
        assert uplink.not_sent == sum(b.not_sent for b in of)
        assert uplink.rx_bytes == sum(b.rx_bytes for b in of)
        assert uplink.tx_bytes == sum(b.tx_bytes for b in of)
        assert sum(uplink.counts) == sum(b.sent - b.lost for b in of)
        mean_sums = sum((b.rtt_mean_us or 0) * (b.sent - b.lost) for b in of)
        assert abs(uplink.sum_us - mean_sums) <= sum(uplink.counts)
        assert sum(uplink.healths_ms) == histogram.at_ms - histogram.begin_ms
    spans = {round((h.at_ms - h.begin_ms) / 1000) for h in histograms[1:]}
    assert spans == {round(PERIOD_S)}
    # Aligned on the boot's five minutes, as near as the site's own phase lets it.
    phase_s = {"polling-day": 10, "ready": 60, "dormant": 300}[mode]
    assert all((h.at_ms / 1000 + 1) % PERIOD_S < phase_s + 1 for h in histograms)


def test_the_end_of_a_run_keeps_the_period_that_it_cuts():
    it = station("polling-day", FakeClock(1000.0))
    it.heartbeats.begin()
    it.heartbeats.close()
    assert it.kept(Histogram) == []
    it.heartbeats.beat()
    it.heartbeats.close()
    assert len(it.kept(Histogram)) == 1


class Refusing(MemorySpool):
    refuses = False

    def append(self, seq, leaf, payload):
        if self.refuses and leaf == "histogram":
            msg = "full"
            raise SpoolError(msg)
        return super().append(seq, leaf, payload)


def test_a_period_whose_record_is_refused_goes_on():
    clock, spool = FakeClock(1000.0), Refusing()
    it = station("polling-day", clock, spool)
    it.heartbeats.begin()
    spool.refuses = True
    it.around.moved = 100
    for _ in range(40):
        clock.advance(10)
        it.heartbeats.beat()
    spool.refuses = False
    it.around.moved = 150
    clock.advance(10)
    it.heartbeats.beat()
    (histogram,) = it.kept(Histogram)
    assert histogram.begin_ms == 1_000_000
    assert histogram.uplinks[0].tx_bytes == 150
    assert sum(histogram.uplinks[0].healths_ms) == 410_000
