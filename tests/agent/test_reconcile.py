"""The reconciler against the kernel in memory."""

import asyncio

import pytest

from jaga_agent.adapters.fake_kernel import (
    FakeConntrack,
    FakeFirewall,
    FakeKernel,
    FakeSettings,
)
from jaga_agent.core.routes import Link, RoutedUplink, RoutingConfig
from jaga_agent.errors import ConfigError, FirewallError, NetlinkError, SettingError
from jaga_agent.reconcile import Reconciler

CONFIG = RoutingConfig(
    (RoutedUplink("tsel", "wan0", 1, 1), RoutedUplink("fibre", "wan1", 2, 2)), ("lan0",)
)


def link(device, **changes):
    values = {
        "index": 5,
        "admin_up": True,
        "carrier": True,
        "address": "192.168.8.100",
        "subnet": "192.168.8.0/24",
        "gateway": "192.168.8.1",
    }
    return Link(device, **(values | changes))


class Ticks:
    """A clock that advances a millisecond whenever it is read."""

    def __init__(self):
        self.count = 0

    def now(self):
        self.count += 1
        return self.count / 1000

    def wall_ms(self):
        return 0

    def age_s(self):
        return -1


class Site:
    def __init__(self, *links, kernel=None):
        self.kernel = kernel or FakeKernel(links or (link("wan0"), link("wan1")))
        self.conntrack = FakeConntrack()
        self.firewall = FakeFirewall()
        self.settings = FakeSettings()
        self.reconciler = self.agent()

    def agent(self):
        return Reconciler(
            CONFIG,
            kernel=self.kernel,
            conntrack=self.conntrack,
            firewall=self.firewall,
            settings=self.settings,
            clock=Ticks(),
        )

    def default(self):
        """The kernel's choice: the device of the lowest metric with carrier."""
        for route in sorted(self.kernel.ours.routes, key=lambda r: r.metric):
            seen = self.kernel.devices.get(route.device)
            if route.table == 100 and seen is not None and seen.carrier:
                return route.device
        return None


async def test_a_second_sync_finds_nothing_to_do():
    site = Site()
    first = await site.reconciler.sync("tsel")
    assert first.adopted_active is None
    assert first.failures == ()
    assert len(first.changed) > 20
    second = await site.reconciler.sync("tsel")
    assert (second.changed, second.adopted_active) == ((), "tsel")


async def test_a_restart_adopts_and_changes_nothing():
    site = Site()
    await site.reconciler.sync("fibre")
    steps = len(site.kernel.log)
    report = await site.agent().sync(None)
    assert (report.adopted_active, report.changed) == ("fibre", ())
    assert (len(site.kernel.log), site.firewall.loads) == (steps, 1)


async def test_a_switch_moves_one_route_and_flushes_one_mark():
    site = Site()
    await site.reconciler.sync("tsel")
    steps = len(site.kernel.log)
    report = await site.reconciler.switch("fibre", "tsel")
    assert site.default() == "wan1"
    assert len(site.kernel.log) == steps + 1
    assert site.conntrack.flushed == [(0x100, 0xFF00)]
    assert (report.flushed, report.failures) == ("tsel", ())
    assert report.route_ms == pytest.approx(1)
    assert (await site.reconciler.sync("fibre")).changed == ()


async def test_a_first_switch_needs_no_sync_before():
    site = Site()
    report = await site.reconciler.switch("fibre", None)
    assert site.default() == "wan1"
    assert (report.flushed, report.flush_ms, site.conntrack.flushed) == (None, None, [])


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (None, "there is no device wan1"),
        (link("wan1", admin_up=False), "wan1 is down"),
        (link("wan1", address=None, subnet=None, gateway=None), "has no address yet"),
        (link("wan1", gateway=None), "has no gateway yet"),
    ],
    ids=["gone", "down", "no address", "no gateway"],
)
async def test_a_switch_that_cannot_be_moves_and_kills_nothing(now, words):
    site = Site(*filter(None, (link("wan0"), now)))
    await site.reconciler.sync("tsel")
    with pytest.raises(NetlinkError, match=words):
        await site.reconciler.switch("fibre", "tsel")
    assert site.default() == "wan0"
    assert site.conntrack.flushed == []


async def test_a_device_that_went_since_the_last_look_is_noticed():
    site = Site()
    await site.reconciler.sync("tsel")
    site.kernel.remove_link("wan1")
    with pytest.raises(NetlinkError, match="there is no device wan1"):
        await site.reconciler.switch("fibre", "tsel")
    assert site.default() == "wan0"


async def test_a_switch_back_after_re_enumeration_puts_the_route_again():
    site = Site()
    await site.reconciler.sync("tsel")
    site.kernel.remove_link("wan0")
    site.kernel.set_link(link("wan0", index=9))
    assert site.default() == "wan1"
    await site.reconciler.switch("tsel", "fibre")
    assert site.default() == "wan0"


async def test_the_gateway_is_forgotten_with_the_device_only():
    site = Site()
    await site.reconciler.sync("tsel")
    site.kernel.set_link(link("wan0", gateway=None))
    report = await site.reconciler.sync("tsel")
    assert report.links["wan0"].routed
    assert report.changed == ()
    site.kernel.remove_link("wan0")
    await site.reconciler.sync(None)
    site.kernel.set_link(link("wan0", index=9, gateway=None))
    assert not (await site.reconciler.observe())["wan0"].routed


async def test_a_sync_that_waits_behind_a_switch_does_not_undo_it():
    site = Site()
    await site.reconciler.sync("tsel")
    gate = asyncio.Event()
    observe = site.kernel.observe

    async def slow(devices):
        await gate.wait()
        return await observe(devices)

    site.kernel.observe = slow
    async with asyncio.TaskGroup() as group:
        group.create_task(site.reconciler.observe())
        await asyncio.sleep(0)
        switch = group.create_task(site.reconciler.switch("fibre", "tsel"))
        await asyncio.sleep(0)
        group.create_task(site.reconciler.sync("tsel"))
        await asyncio.sleep(0)
        gate.set()
    assert switch.result().active == "fibre"
    assert site.default() == "wan1"


async def test_parts_fail_apart():
    site = Site()

    async def no_nft(_ruleset):
        msg = "nft is not installed"
        raise FirewallError(msg)

    def read_only(_settings):
        msg = "/proc/sys is read-only"
        raise SettingError(msg)

    site.firewall.ensure = no_nft
    site.settings.ensure = read_only
    report = await site.reconciler.sync("tsel")
    assert [type(f) for f in report.failures] == [FirewallError, SettingError]
    assert site.default() == "wan0"


async def test_a_kernel_that_refuses_is_reported():
    site = Site()
    site.kernel.refuse = True
    report = await site.reconciler.sync("tsel")
    assert "no permission" in str(report.failures[0])
    assert site.firewall.loads == 1


async def test_a_slot_taken_by_another_program_is_left_to_it():
    kernel = FakeKernel((link("wan0"), link("wan1")), alien_slots=[(101, "default", 1)])
    site = Site(kernel=kernel)
    report = await site.reconciler.sync("tsel")
    assert [str(f) for f in report.failures] == [
        "route default via 192.168.8.1 dev wan0 table 101 metric 1: the place is taken"
    ]
    assert site.default() == "wan0"


async def test_a_flush_that_fails_does_not_undo_the_switch():
    site = Site()
    await site.reconciler.sync("tsel")

    async def refuse(_mark, _mask):
        msg = "no conntrack"
        raise NetlinkError(msg)

    site.conntrack.flush_mark = refuse
    report = await site.reconciler.switch("fibre", "tsel")
    assert (report.flushed, len(report.failures)) == (None, 1)
    assert site.default() == "wan1"


async def test_prune_leaves_nothing_of_ours():
    site = Site()
    await site.reconciler.sync("tsel")
    removed = await site.reconciler.prune()
    assert removed[-1] == "delete nftables table"
    assert (site.kernel.routes, site.kernel.rules, site.firewall.stamp) == (
        {},
        set(),
        None,
    )
    assert await site.reconciler.prune() == ()


async def test_an_unknown_uplink_is_the_callers_fault():
    site = Site()
    with pytest.raises(ConfigError, match="no uplink is named 'xl'"):
        await site.reconciler.sync("xl")
    with pytest.raises(ConfigError, match="no uplink is named 'xl'"):
        await site.reconciler.switch("tsel", "xl")
    assert site.kernel.log == []
