"""Whatever happens on the way: in the end everything is there, once the world is honest.

A broker that loses any message it acknowledged, connections that end at any moment, a
collector that stops telling, is set back or replaced, an agent that is killed.
"""

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.collector_model import World, site_config

RATE_BYTES_PER_S = 8000


class Site(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = World(site_config())
        self.backup = {}
        self.killed_at = 0

    @rule(
        leaf=st.sampled_from(["heartbeat", "event", "histogram"]),
        count=st.sampled_from([1, 2, 30]),
    )
    def record(self, leaf, count):
        for _ in range(count):
            self.world.record(leaf)

    @rule(hours=st.sampled_from([0.5, 3]))
    def outage(self, hours):
        self.world.cut()
        for n in range(round(hours * 360)):
            self.world.record("event" if n % 50 == 0 else "heartbeat")
            self.world.run(10)
        self.world.connect()

    @rule(seconds=st.sampled_from([0.1, 1, 5, 30, 130, 700]))
    def wait(self, seconds):
        self.world.run(seconds)

    @rule(busy=st.booleans())
    def traffic(self, busy):
        # Told by an event, which is recorded.
        self.world.busy = busy
        self.world.record("event")

    @precondition(lambda self: not self.world.online)
    @rule()
    def connect(self):
        self.world.connect()

    @precondition(lambda self: self.world.online)
    @rule(arrived=st.booleans())
    def cut(self, arrived):
        self.world.cut(arrived=arrived)

    @rule(count=st.sampled_from([1, 2, 30]))
    def acknowledge(self, count):
        self.world.acknowledge(count)

    @rule(count=st.sampled_from([1, 2, 30]))
    def the_broker_loses_what_it_acknowledges(self, count):
        if not self.world.online:
            self.world.connect()
        self.world.acknowledge(count, drop=True)

    @rule(seconds=st.sampled_from([10, 60, 300]), loses=st.booleans())
    def the_ordinary_course(self, seconds, loses):
        world = self.world
        if not world.online:
            world.connect()
        for n in range(0, seconds, 10):
            world.record("heartbeat")
            world.acknowledge(drop=loses and n % 3 == 1)
            world.run(10)
            world.commit()
            world.tell()

    @rule(share=st.integers(1, 4))
    def the_broker_s_queue_is_cut(self, share):
        queue = self.world.queue
        kept = [m for n, m in enumerate(queue) if n % share]
        queue.clear()
        queue.extend(kept)

    @rule()
    def commit(self):
        self.world.commit()

    @rule()
    def tell(self):
        self.world.tell()

    @rule()
    def back_up(self):
        have = self.world.collector.committed
        self.backup = {boot: set(seqs) for boot, seqs in have.items()}

    @rule(new_store=st.booleans(), told=st.booleans())
    def restore(self, new_store, told):
        collector = self.world.collector
        collector.committed = {b: set(s) for b, s in self.backup.items()}
        if new_store:
            collector.store = bytes(reversed(collector.store))
        elif told:
            collector.revision = 0
        self.world.tell()

    @rule()
    def kill(self):
        self.world.cut()
        self.world.start()
        self.killed_at = len(self.world.of("history"))

    @invariant()
    def live_never_waits_behind_history(self):
        assert not any(self.world.waiting_live)
        histories = [m for m in self.world.inflight if "history" in m[1]]
        assert len(histories) <= 1

    @invariant()
    def no_faster_than_allowed(self):
        # A process that is killed forgets what it owes.
        self.world.assert_within_rate(RATE_BYTES_PER_S, since=self.killed_at)

    def teardown(self):
        world = self.world
        if not world.online:
            world.connect()
        for _ in range(3000):
            world.settle()
            world.run(10, honest=True)
            world.settle()
            world.tell()
            if world.delivery.waiting == 0:
                break
            world.record("heartbeat")
        assert world.delivery.waiting == 0
        sent = len(world.of("history"))
        # And then it is quiet.
        world.run(3600, honest=True)
        assert len(world.of("history")) == sent


TestSite = Site.TestCase
TestSite.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
