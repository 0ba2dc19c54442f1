"""The running count: taken up, fed, kept seldom, begun anew; in virtual time."""

import asyncio
import contextlib
from types import SimpleNamespace

import msgspec
import pytest

from jaga_agent.adapters.fakes import FakeClock, FakeDevices, MemoryLedger
from jaga_agent.config import Config
from jaga_agent.core.events import UsageSeen
from jaga_agent.errors import ConfigError, LedgerError
from jaga_agent.runtime.troubles import Troubles
from jaga_agent.runtime.usage import KEEP_S, Usages
from support.virtual_time import run

CONFIG = """
[site]
id = "tps-1"
[mqtt]
host = "broker"
tls = false
[[uplink]]
name = "xl"
device = "wan0"
metered = true
quota_mb = 5
quota_since = 2026-11-24T00:00:00+08:00
[[uplink]]
name = "fibre"
device = "wan1"
"""
SPENT_BYTES = 77
"""Of the agent's own pulses: told along, not part of what is counted."""
SINCE_MS = 1_795_449_600_000
NOW_MS = SINCE_MS + 3_600_000


class Desk:
    """An agent's life beside a ledger that outlives it."""

    def __init__(self, ledger, devices, *, age_s=0, wall_ms=NOW_MS):
        self.ledger, self.devices = ledger, devices
        self.fed, self.troubles = [], Troubles()
        loop = asyncio.get_running_loop()
        self.clock = FakeClock(source=loop.time, age_s=age_s, wall_ms=wall_ms)
        self.usages = Usages(
            msgspec.toml.decode(CONFIG, type=Config),
            doors=SimpleNamespace(ledger=ledger, clock=self.clock),
            driver=SimpleNamespace(feed=self.fed.append),
            troubles=self.troubles,
            spent=lambda _: SPENT_BYTES,
        )
        self.usages.begin()
        (work,) = self.usages.work()
        self.task = loop.create_task(work)

    def see(self):
        for name, device in (("xl", "wan0"), ("fibre", "wan1")):
            self.usages.carried(name, self.devices.read()[device])

    def used(self, name="xl"):
        return self.usages.snapshot()[name].used_bytes

    async def end(self, *, clean=True):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        if clean:
            self.usages.close()


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
def devices():
    return FakeDevices("wan0", "wan1")


def live(ledger, devices, story, **options):
    async def main():
        desk = Desk(ledger, devices, **options)
        try:
            await story(desk)
        finally:
            await desk.end(clean=not options.get("killed"))
        return desk

    return run(main())


def test_it_goes_on_after_a_restart_with_what_was_carried_between(ledger, devices):
    async def first(desk):
        desk.see()
        devices.carry("wan0", rx=3, tx=2, size=1000)
        desk.see()
        desk.usages.feed()
        assert desk.fed == [
            UsageSeen("xl", 5000, SPENT_BYTES),
            UsageSeen("fibre", 0, SPENT_BYTES),
        ]

    live(ledger, devices, first)
    assert ledger.clean
    devices.carry("wan0", rx=1, size=1000)

    async def second(desk):
        desk.see()
        assert desk.used() == 6000
        assert desk.usages.snapshot()["xl"].power_losses == 0

    live(ledger, devices, second)


def test_it_is_kept_every_five_minutes_and_no_more(ledger, devices):
    async def story(desk):
        for _ in range(3600):
            devices.carry("wan0", tx=1)
            desk.see()
            await asyncio.sleep(1)
        assert ledger.saves == pytest.approx(3600 / KEEP_S, abs=1)
        assert not ledger.clean
        assert ledger.usages["xl"].used_bytes >= (3600 - KEEP_S - 2) * 100

    live(ledger, devices, story)
    assert ledger.clean
    assert ledger.usages["xl"].used_bytes == 3599 * 100


def test_a_power_loss_is_told_and_a_mere_crash_loses_nothing(ledger, devices):
    async def begin(desk):
        desk.see()
        await asyncio.sleep(1)
        devices.carry("wan0", tx=1)
        desk.see()
        await asyncio.sleep(KEEP_S)

    async def killed(ledger, devices):
        desk = Desk(ledger, devices)
        await begin(desk)
        devices.carry("wan0", tx=1)
        await desk.end(clean=False)

    run(killed(ledger, devices))

    async def crashed(desk):
        desk.see()
        assert desk.used() == 200
        assert desk.usages.snapshot()["xl"].power_losses == 0

    live(ledger, devices, crashed)
    run(killed(ledger, devices))
    ledger.boot = "boot-2"
    devices.plug("wan0")
    devices.carry("wan0", tx=4)

    async def rebooted(desk):
        desk.see()
        assert desk.used() == 200 + 100 + 400, (
            "the one packet after the keeping is lost"
        )
        assert desk.usages.snapshot()["xl"].power_losses == 1

    live(ledger, devices, rebooted)


def test_quota_since_begins_a_period_once_the_clock_is_confirmed(ledger, devices):
    async def story(desk):
        desk.see()
        devices.carry("wan0", tx=1)
        desk.see()
        desk.usages.feed()
        assert desk.used() == 100, "a clock that nobody confirmed begins nothing"
        desk.clock.step_wall(NOW_MS, age_s=0)
        desk.usages.feed()
        assert desk.used() == 0
        assert desk.usages.snapshot()["xl"].since_ms == SINCE_MS
        devices.carry("wan0", tx=1)
        desk.see()
        desk.usages.feed()
        assert desk.used() == 100

    live(ledger, devices, story, age_s=-1, wall_ms=0)


def test_a_new_package_is_kept_at_once(ledger, devices):
    async def story(desk):
        desk.see()
        devices.carry("wan0", tx=9)
        desk.see()
        desk.usages.reset("xl", 2_000_000)
        assert ledger.usages["xl"].used_bytes == 2_000_000
        assert desk.fed == [UsageSeen("xl", 2_000_000, SPENT_BYTES)]
        devices.carry("wan0", tx=1)
        desk.see()
        assert desk.used() == 2_000_100
        with pytest.raises(ConfigError, match="there are: xl, fibre"):
            desk.usages.reset("wifi", 0)

    live(ledger, devices, story)


def test_a_broken_count_is_a_trouble_and_not_written_over(ledger, devices):
    def broken():
        msg = "usage.json: not a count of bytes"
        raise LedgerError(msg)

    whole, ledger.load = ledger.load, broken
    ledger.usages = {"xl": "kept"}

    async def story(desk):
        desk.see()
        await asyncio.sleep(3 * KEEP_S)
        assert desk.troubles.all() == ["usage.json: not a count of bytes"]
        assert ledger.usages == {"xl": "kept"}
        desk.usages.reset("xl", 0)
        assert desk.troubles.all() == []

    live(ledger, devices, story)
    assert whole()[0]["xl"].used_bytes == 0


def test_an_uplink_that_left_the_configuration_keeps_its_count(ledger, devices):
    live(ledger, devices, lambda desk: asyncio.sleep(0))
    ledger.usages["satellite"] = ledger.usages["xl"]
    live(ledger, devices, lambda desk: asyncio.sleep(0))
    assert set(ledger.usages) == {"xl", "fibre", "satellite"}
