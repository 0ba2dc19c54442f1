"""A made-up site in virtual time: the engine decides, this world answers its probes.

Deterministic (a seeded random generator), no threads, no sleep: an hour takes a second.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaga_agent.core.actions import (
    ReportHealth,
    SelectUplink,
    SendCheck,
    SendProbe,
)
from jaga_agent.core.engine import next_deadline, step
from jaga_agent.core.events import (
    CheckDone,
    CheckVerdict,
    FlowsSeen,
    LinkSeen,
    ProbeAnswered,
    ProbeNotSent,
    Tick,
    TrafficSeen,
)
from jaga_agent.core.model import (
    Check,
    Instant,
    Policy,
    Role,
    TargetKind,
    TargetName,
    Uplink,
    UplinkName,
)
from jaga_agent.core.state import State

if TYPE_CHECKING:
    from jaga_agent.adapters.journal import Journal

TELKOMSEL, XL, FIBRE = (UplinkName(n) for n in ("telkomsel", "xl", "fibre"))
TARGETS = tuple(TargetName(n) for n in ("a", "b", "c"))
START = 100.0
PACKET_BYTES = 700


SIREKAP = Check(TargetName("sirekap"), TargetKind.HTTPS, Role.APP)
NAMES = Check(TargetName("names"), TargetKind.DNS)


def policy(**changes):
    uplinks = tuple(Uplink(n, i + 1) for i, n in enumerate((TELKOMSEL, XL, FIBRE)))
    return Policy(uplinks, TARGETS, **changes)


@dataclass
class Road:
    """How one uplink behaves now."""

    rtt_s: float = 0.05
    jitter_s: float = 0.005
    loss: float = 0.0
    silent: bool = False
    """Carrier up, nothing comes back."""
    dead_targets: frozenset[str] = frozenset()
    rx_anyway_per_s: float = 0.0
    """Packets that come in whatever happens to probes (a full queue still delivers)."""
    linked: bool = True
    checks: CheckVerdict = CheckVerdict.OK
    """What becomes of every check through it, while packets pass at all."""
    resets_per_s: float = 0.0
    """Connections of the phone that somebody on the way resets."""
    ignored_per_s: float = 0.0
    """And that nobody answers."""
    rx: float = 0.0
    tx: float = 0.0


@dataclass
class World:
    policy: Policy = field(default_factory=policy)
    seed: int = 1
    traffic_per_s: float = 20.0
    """The phone's packets each way through the active uplink."""
    adopted: UplinkName | None = None
    journal: Journal | None = None

    def __post_init__(self):
        self.random = random.Random(self.seed)  # noqa: S311 - a repeatable world, no secret
        self.now = START
        self.state = State.initial(self.policy, self.adopted)
        self.roads = {u.name: Road() for u in self.policy.uplinks}
        self.log = []
        self.sent = dict.fromkeys(self.roads, 0)
        self.checks_sent = dict.fromkeys(self.roads, 0)
        self.dead_checks = set()
        self._resets = self._ignored = 0.0
        self.events = 0
        self._queue = []
        self._order = itertools.count()
        for uplink in self.policy.uplinks:
            self.at(START, lambda n=uplink.name: self._link(n))
        self._sample()

    # Script

    def at(self, when, what):
        heapq.heappush(self._queue, (when, next(self._order), what))

    def change(self, when, name, **changes):
        def apply():
            road = self.roads[name]
            for key, value in changes.items():
                assert hasattr(road, key)
                setattr(road, key, value)
            if "linked" in changes:
                self._link(name)

        self.at(START + when, apply)

    def run(self, until):
        end = START + until
        while True:
            deadline = next_deadline(self.state, Instant(self.now))
            when = self._queue[0][0] if self._queue else end
            if min(deadline, when) > end:
                self.now = end
                return self
            if deadline < when:
                # A deadline in the past would spin: the engine must always move on.
                assert deadline > self.now or self._progress(deadline)
                self.now = max(self.now, deadline)
                self.feed(Tick())
            else:
                self.now = max(self.now, when)
                heapq.heappop(self._queue)[2]()

    def _progress(self, deadline):
        """A due deadline may be met once at the same instant, never twice."""
        before = self.state
        self.feed(Tick())
        return (
            self.state is not before
            and next_deadline(self.state, Instant(self.now)) != deadline
        )

    # What the world does

    def feed(self, event):
        self.events += 1
        before, now = self.state, Instant(self.now)
        self.state, actions = step(before, event, now)
        if self.journal is not None:
            self.journal.record(before, event, now, actions)
        for action in actions:
            match action:
                case SendProbe():
                    self._probe(action)
                case SendCheck():
                    self._check(action)
                case _:
                    self.log.append((round(self.now - START, 3), action))

    def _link(self, name):
        linked = self.roads[name].linked
        self.feed(LinkSeen(name, present=True, carrier=linked, routed=linked))

    def _probe(self, action):
        road = self.roads[action.uplink]
        self.sent[action.uplink] += 1
        if not road.linked:
            at = self.now + 0.0001
            self.at(at, lambda: self.feed(ProbeNotSent(action.probe_id, "no carrier")))
            return
        road.tx += 1
        if road.silent or action.target in road.dead_targets:
            return
        if self.random.random() < road.loss:
            return
        rtt = max(0.001, road.rtt_s + self.random.gauss(0, road.jitter_s))

        def answer():
            if not self.roads[action.uplink].silent:
                road.rx += 1
                self.feed(ProbeAnswered(action.probe_id, rtt))

        self.at(self.now + rtt, answer)

    def _check(self, action):
        self.checks_sent[action.uplink] += 1
        road = self.roads[action.uplink]
        verdict, after_s = road.checks, 4 * road.rtt_s
        if action.target in self.dead_checks:
            verdict = CheckVerdict.RESET
        if road.silent or not road.linked:
            verdict, after_s = CheckVerdict.TIMEOUT, 5.0
        done = CheckDone(action.check_id, verdict, "as the story says", 3000)
        self.at(self.now + after_s, lambda: self.feed(done))

    def _sample(self):
        period = 0.05 if self.traffic_per_s else 1.0
        for name, road in self.roads.items():
            if name == self.state.active and road.linked:
                road.tx += self.traffic_per_s * period
                if not road.silent:
                    road.rx += self.traffic_per_s * period
            road.rx += road.rx_anyway_per_s * period
            self.feed(
                TrafficSeen(
                    name,
                    int(road.rx),
                    int(road.tx),
                    int(road.rx * PACKET_BYTES),
                    int(road.tx * PACKET_BYTES),
                )
            )
            if name == self.state.active and road.resets_per_s + road.ignored_per_s:
                self._resets += road.resets_per_s * period
                self._ignored += road.ignored_per_s * period
                done = int(self._resets)
                asked = done + int(self._ignored)
                self.feed(FlowsSeen(name, asked, done, done, 0, 0))
        self.at(self.now + period, self._sample)

    # What was seen

    def moves(self):
        return [
            (at, a.rule, a.uplink) for at, a in self.log if isinstance(a, SelectUplink)
        ]

    def healths(self, name):
        return [
            (at, a.new.value)
            for at, a in self.log
            if isinstance(a, ReportHealth) and a.uplink == name
        ]
