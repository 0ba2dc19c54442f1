"""Sampling in virtual time, on the real driver and core: what is told, and when."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import pytest

from jaga_agent.adapters.fakes import FakeClock, FakeDevices, FakeFlowCounters
from jaga_agent.core.actions import SendProbe
from jaga_agent.core.events import FlowsSeen, LinkSeen, ProbeAnswered, TrafficSeen
from jaga_agent.core.model import Health, Policy, TargetName, Uplink, UplinkName
from jaga_agent.core.routes import Link
from jaga_agent.errors import DevicesError, FlowCountersError
from jaga_agent.ports import Flows
from jaga_agent.runtime import sampling
from jaga_agent.runtime.driver import Driver
from jaga_agent.runtime.sampling import BUSY_FOR_S, Sampling
from jaga_agent.runtime.troubles import Troubles
from support.virtual_time import run

FIRST, SECOND = UplinkName("first"), UplinkName("second")
DEVICES = {FIRST: "wan0", SECOND: "wan1"}
POLICY = Policy((Uplink(FIRST, 1), Uplink(SECOND, 2)), (TargetName("a"),))
EVEN = replace(POLICY, probe_interval_s=1.0123, busy_packets=1_000_000)
"""Probed at the same times, and never found busy, whatever the rates are."""


def link(device, **changes):
    values = {"index": 1, "admin_up": True, "carrier": True}
    values |= {"address": None, "subnet": None, "gateway": None}
    return Link(device, **(values | changes))


class Counting:
    """A port that counts how often it is read."""

    def __init__(self, port, clock):
        self.port, self.clock, self.at = port, clock, []

    def read(self):
        self.at.append(self.clock.now())
        return self.port.read()


class Desk:
    def __init__(self, policy=POLICY, answers_within_s=None):
        loop = asyncio.get_running_loop()
        self.clock = FakeClock(source=loop.time)
        self.devices = FakeDevices("wan0", "wan1")
        self.flows = FakeFlowCounters()
        self.reads = Counting(self.devices, self.clock)
        self.flow_reads = Counting(self.flows, self.clock)
        self.told, self.carried, self.looks = [], [], []
        self.links = {"wan0": link("wan0"), "wan1": link("wan1")}
        self.troubles = Troubles()
        driver = Driver(
            policy,
            clock=self.clock,
            journal=self,
            troubles=self.troubles,
            carry_out=self.carry_out,
        )
        self.driver, self.answers_within_s = driver, answers_within_s
        self.states, self.silent = {}, False
        driver.begin(FIRST)
        self.sampling = Sampling(
            DEVICES,
            doors=SimpleNamespace(
                clock=self.clock, devices=self.reads, flow_counters=self.flow_reads
            ),
            driver=driver,
            troubles=self.troubles,
            carried=lambda name, device: self.carried.append((name, device.counters)),
            links=lambda: self.links,
            look=lambda: self.looks.append(self.clock.now()),
        )
        (work,) = self.sampling.work()
        self.task = loop.create_task(work)

    def record(self, before, event, now, actions):
        """As the driver's journal: it hears of every event."""
        self.told.append((now, event))
        self.states[now, event] = self.driver.state

    def carry_out(self, action):
        if isinstance(action, SendProbe) and self.answers_within_s is not None:
            asyncio.get_running_loop().call_later(
                self.answers_within_s, self.answer, action.probe_id
            )

    def answer(self, probe_id):
        if not self.silent:
            self.driver.feed(ProbeAnswered(probe_id, self.answers_within_s))

    def of(self, kind, name=FIRST):
        return [e for _, e in self.told if isinstance(e, kind) and e.uplink == name]

    async def stop(self):
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


def at_the_desk(story, **how):
    async def main():
        desk = Desk(**how)
        try:
            await story(desk)
        finally:
            await desk.stop()

    run(main())


def test_the_first_packet_after_idleness_is_seen_soon_and_then_often():
    async def story(desk):
        await asyncio.sleep(60.01)
        idle = len(desk.reads.at)
        assert idle == pytest.approx(5 * 60, abs=2)
        assert len(desk.flow_reads.at) == pytest.approx(2.5 * 60, abs=2)
        began = desk.clock.now()
        desk.devices.carry("wan0", tx=1)
        await asyncio.sleep(1)
        seen = next(now for now, e in desk.told if getattr(e, "tx_packets", 0) == 1)
        assert seen - began <= 0.2
        assert min(t for t in desk.flow_reads.at if t >= began) == seen
        assert len([t for t in desk.reads.at if seen <= t < seen + 0.5]) == 10
        await asyncio.sleep(BUSY_FOR_S)
        before = len(desk.reads.at)
        await asyncio.sleep(10)
        assert len(desk.reads.at) - before == pytest.approx(50, abs=2)

    at_the_desk(story)


def test_traffic_of_a_standby_keeps_nobody_awake():
    async def story(desk):
        for _ in range(100):
            desk.devices.carry("wan1", rx=1, tx=1)
            await asyncio.sleep(0.1)
        assert len(desk.reads.at) == pytest.approx(50, abs=2)

    at_the_desk(story)


def test_totals_are_told_when_they_change_and_while_an_answer_is_awaited():
    async def story(desk):
        await asyncio.sleep(1)
        assert desk.of(TrafficSeen) == [TrafficSeen(FIRST, 0, 0)]
        desk.devices.carry("wan0", rx=1, tx=2, size=60)
        await asyncio.sleep(1)
        assert desk.of(TrafficSeen)[1:] == [TrafficSeen(FIRST, 1, 2, 60, 120)]
        desk.devices.carry("wan0", tx=1, size=60)
        await asyncio.sleep(1)
        waiting = desk.of(TrafficSeen)[2:]
        assert len(waiting) == pytest.approx(20, abs=1)
        assert set(waiting) == {TrafficSeen(FIRST, 1, 3, 60, 180)}
        desk.devices.carry("wan0", rx=1, size=60)
        await asyncio.sleep(1)
        assert desk.of(TrafficSeen)[-1] == TrafficSeen(FIRST, 2, 3, 120, 180)
        told = len(desk.told)
        await asyncio.sleep(1)
        assert not [e for _, e in desk.told[told:] if isinstance(e, TrafficSeen)]

    at_the_desk(story)


def test_flows_are_told_when_they_change_and_missing_is_not_zero():
    async def story(desk):
        await asyncio.sleep(1)
        assert desk.of(FlowsSeen) == []
        desk.flows.flows = {FIRST: Flows(3, 2, 0, 1, 1), SECOND: Flows(0, 0, 0, 0, 0)}
        await asyncio.sleep(1)
        desk.flows.flows = {FIRST: Flows(4, 2, 0, 1, 1), SECOND: Flows(0, 0, 0, 0, 0)}
        await asyncio.sleep(1)
        want = [FlowsSeen(FIRST, 3, 2, 0, 1, 1), FlowsSeen(FIRST, 4, 2, 0, 1, 1)]
        assert desk.of(FlowsSeen) == want
        assert desk.of(FlowsSeen, SECOND) == [FlowsSeen(SECOND, 0, 0, 0, 0, 0)]

    at_the_desk(story)


def test_what_was_carried_is_told_whoever_the_device_is():
    async def story(desk):
        await asyncio.sleep(0.5)
        desk.devices.carry("wan0", rx=5, tx=5)
        await asyncio.sleep(0.5)
        desk.devices.plug("wan0")
        desk.devices.carry("wan0", rx=1)
        await asyncio.sleep(0.5)
        totals = [c.rx_packets for name, c in desk.carried if name == FIRST]
        assert totals == [0, 5, 1]
        desk.devices.unplug("wan0")
        await asyncio.sleep(0.5)
        assert list(desk.sampling.totals()) == ["wan1"]

    at_the_desk(story)


# name: (the device now, the link as known, whether somebody must look)
CARRIERS = {
    "lost, not known": (False, link("wan0"), True),
    "lost and known": (False, link("wan0", carrier=False), False),
    "back, not known": (True, link("wan0", carrier=False), True),
    "down by hand and known": (False, link("wan0", admin_up=False), False),
    "there, not known": (True, None, True),
    "gone, not known": (None, link("wan0"), True),
    "gone and known": (None, None, False),
}


@pytest.mark.parametrize(("now", "known", "look"), CARRIERS.values(), ids=CARRIERS)
def test_a_carrier_that_is_not_as_known_asks_for_one_look(now, known, look):
    async def story(desk):
        await asyncio.sleep(1)
        assert desk.looks == []
        if now is None:
            desk.devices.unplug("wan0")
        else:
            desk.devices.set_carrier("wan0", carrier=now)
        desk.links = {"wan1": desk.links["wan1"]} | ({"wan0": known} if known else {})
        began = desk.clock.now()
        await asyncio.sleep(2)
        # Once, even if the look shows the same: netlink has the last word.
        assert len(desk.looks) == (1 if look else 0)
        assert all(at - began <= 0.2 + 1e-9 for at in desk.looks)

    at_the_desk(story)


def test_each_change_of_a_carrier_asks_again():
    async def story(desk):
        for carrier in (False, True, False, True):
            desk.devices.set_carrier("wan0", carrier=carrier)
            await asyncio.sleep(1)
            known = link("wan0", carrier=carrier)
            desk.links = desk.links | {"wan0": known}
            await asyncio.sleep(1)
        assert len(desk.looks) == 4

    at_the_desk(story)


def test_what_cannot_be_read_is_a_trouble_until_it_can():
    async def story(desk):
        def fail(error):
            def read():
                raise error

            return SimpleNamespace(read=read)

        desk.reads.port = fail(DevicesError("no /proc"))
        desk.flow_reads.port = fail(FlowCountersError("no table"))
        await asyncio.sleep(1)
        assert desk.troubles.all() == ["no /proc", "no table"]
        desk.reads.port, desk.flow_reads.port = desk.devices, desk.flows
        await asyncio.sleep(1)
        assert desk.troubles.all() == []

    at_the_desk(story)


def judged_by(state):
    """Return what the core judges an uplink by, less its rates."""
    of = state.of(FIRST)
    traffic = of.traffic
    return (
        (of.health, of.race, of.heard_at, of.answered_at, of.silent_since, of.gaps),
        (traffic.rx_packets, traffic.tx_packets, traffic.rx_bytes, traffic.tx_bytes),
        (traffic.unanswered_since, traffic.unanswered_packets),
        (state.active, state.cut),
    )


def told_of(packets, *, every_sample):
    """Play a phone's packets, (received, sent) in each 50 ms; return the desk."""
    desks = []

    async def story(desk):
        desks.append(desk)
        if every_sample:
            desk.sampling._may_hold = lambda name, now: False
        for name in DEVICES:
            desk.driver.feed(LinkSeen(name, present=True, carrier=True, routed=True))
        desk.devices.carry("wan0", rx=1, tx=1)
        await asyncio.sleep(3.01)
        assert desk.driver.state.of(FIRST).health is Health.UP
        for rx, tx in packets:
            desk.silent = rx == 0 and tx > 1
            desk.devices.carry("wan0", rx=rx, tx=tx)
            await asyncio.sleep(ODD_S)

    with mock.patch.multiple(sampling, BUSY_S=ODD_S, IDLE_S=4 * ODD_S):
        at_the_desk(story, policy=EVEN, answers_within_s=0.0123)
    return desks[0]


ODD_S = 0.0500317
"""Between samples here: what is due at the very instant of a sample that is held would
be met by a tick instead of by the sample's step, the same in all but name."""
FLOW = st.tuples(st.integers(0, 3), st.integers(0, 3))
PLAYS = st.lists(st.tuples(FLOW, st.integers(1, 9)), min_size=5, max_size=40)


@hypothesis.given(PLAYS)
@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.example([((2, 2), 60), ((0, 3), 20), ((2, 2), 60)])
@hypothesis.example([((1, 1), 30), ((0, 0), 9), ((0, 1), 9), ((1, 0), 30)])
def test_what_is_held_back_changes_nothing_that_is_judged(plays):
    packets = [flow for flow, times in plays for _ in range(times)]
    whole, held = (told_of(packets, every_sample=e) for e in (True, False))
    instants = [now for now, _ in held.told]
    assert instants == sorted(instants)
    assert set(held.told) <= set(whole.told)
    assert {step for step in whole.told if not isinstance(step[1], TrafficSeen)} == {
        step for step in held.told if not isinstance(step[1], TrafficSeen)
    }
    for step in held.told:
        assert judged_by(held.states[step]) == judged_by(whole.states[step])


def test_a_calm_flow_is_told_five_times_a_second():
    desk = told_of([(2, 2)] * 200, every_sample=False)
    began = desk.clock.now() - 9
    flowing = [
        now for now, e in desk.told if isinstance(e, TrafficSeen) and now > began
    ]
    # And once ahead of each probe's answer and each tick.
    other = [
        now for now, e in desk.told if not isinstance(e, TrafficSeen) and now > began
    ]
    assert 5 * 9 - 1 <= len(flowing) <= 5 * 9 + len(other) + 1
    assert len(other) < 50


def test_the_first_silent_sample_is_told_at_once():
    desk = told_of([(2, 2)] * 43 + [(0, 2)] * 10, every_sample=False)
    began = desk.clock.now() - 10 * ODD_S
    traffic = desk.driver.state.of(FIRST).traffic
    ended = next(t for t, e in desk.told if getattr(e, "tx_packets", 0) == 1 + 44 * 2)
    assert traffic.unanswered_since == ended
    assert began <= ended <= began + ODD_S + 1e-9
    assert desk.driver.state.of(FIRST).health is Health.DOWN


def test_a_fault_in_a_turn_ends_the_agent():
    async def story(desk):
        await asyncio.sleep(1)

        def fail():
            raise ZeroDivisionError

        desk.reads.port = SimpleNamespace(read=fail)
        with pytest.raises(ZeroDivisionError):
            await desk.task
        desk.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))

    at_the_desk(story)
