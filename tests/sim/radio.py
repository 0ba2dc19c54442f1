"""A site in virtual time whose uplinks behave like real radio, and a phone that uses it.

`RadioWorld` adds to `World`: each uplink's round trips, losses and gaps come from a
`traces.behaviour.Behaviour`; radios sleep and wake; queues swell under an upload; the
counters are sampled as the agent samples them (at 20 Hz while busy, and only what has
changed). Scripted faults (`World.change`) lie on top: `silent`, `loss`, `dead_targets`,
`linked`, and `rtt_s` beyond its default.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaga_agent.core import events
from jaga_agent.core.actions import SelectUplink
from jaga_agent.core.events import (
    CheckDone,
    CheckVerdict,
    ProbeAnswered,
    ProbeNotSent,
    TrafficSeen,
)
from sim.world import START, Road, World
from traces.behaviour import quantile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_agent.core.model import UplinkName
    from sim.phone import Phone
    from traces.behaviour import Behaviour

SAMPLE_BUSY_S, SAMPLE_IDLE_S, BUSY_FOR_S = 0.05, 0.2, 5.0
"""As in jaga_agent.runtime.sampling."""
PROBE_BYTES = 32
"""IPv4 20, ICMP 8, nonce 4."""
FULL_QUEUE_LOSS_RATIO = 0.05
RECOVERED_WITHIN_S = 3.0
"""A move away from an uplink that works again so soon was needless: less than a reply
may take before it counts as lost (RFC 2680, the policy's `lost_after_s`)."""


@dataclass(slots=True)
class Counters:
    """What the kernel would count on one device, totals."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    syn_out: int = 0
    synack_in: int = 0
    rst_in: int = 0
    dns_out: int = 0
    dns_in: int = 0


@dataclass(slots=True)
class Radio:
    """What one uplink's radio and queue do at the moment."""

    heard_or_sent_at: float = -math.inf
    awake_at: float = -math.inf
    queue_empty_at: float = -math.inf
    """When the modem has sent what the site's own upload put into its queue."""
    queue_full: bool = False

    def queued_s(self, now):
        """Return the delay of a packet that joins the queue now, s."""
        return max(0.0, self.queue_empty_at - now)


@dataclass(frozen=True, slots=True)
class Move:
    """One change of the uplink in use, with what was true when it happened."""

    at_s: float
    rule: str
    left: UplinkName
    to: UplinkName
    needless: bool
    """The uplink that was left worked, or worked again within RECOVERED_WITHIN_S."""
    away_s: float
    """Until the site used the left uplink or a more preferred one, or the run's end;
    0 if the move itself was to such a one."""
    returned: bool
    reason: str


@dataclass
class RadioWorld(World):
    """See the module. `behaviours` must name every uplink of the policy."""

    behaviours: Mapping[UplinkName, Behaviour] = field(default_factory=dict)
    phone: Phone | None = None
    cut_off: set[UplinkName] = field(default_factory=set)
    """Quota used up: probes, DNS and connecting pass, what follows is reset."""

    def __post_init__(self):
        self.counters = {u.name: Counters() for u in self.policy.uplinks}
        self.radios = {u.name: Radio() for u in self.policy.uplinks}
        self._changed = set()
        self._sampling_at = None
        self._last_sent_at = -math.inf
        super().__post_init__()
        if self.phone is not None:
            self.phone.plug(self)

    # The air

    def travel(self, name):
        """Return the round trip of a packet sent on an uplink now, s; None: no answer.

        Also counts as use of the radio: it wakes.
        """
        road, radio, behaviour = (
            self.roads[name],
            self.radios[name],
            self.behaviours[name],
        )
        draw = self.random.random
        sleep = behaviour.model.sleep
        asleep_loss = 0.0
        if sleep is not None:
            if self.now - radio.heard_or_sent_at > sleep.after_s:
                radio.awake_at = self.now + quantile(sleep.wake_s, draw())
            if self.now < radio.awake_at:
                asleep_loss = sleep.loss_ratio
        radio.heard_or_sent_at = self.now
        if not road.linked or road.silent:
            return None
        queued_s = radio.queued_s(self.now)
        if radio.queue_full and queued_s and draw() < FULL_QUEUE_LOSS_RATIO:
            return None
        if draw() < road.loss or draw() < asleep_loss:
            return None
        at_s = max(self.now, radio.awake_at) - START + queued_s
        rtt_s = behaviour.round_trip(at_s, draw(), draw())
        if rtt_s is None:
            return None
        more_s = road.rtt_s - Road.rtt_s
        return max(0.001, at_s - (self.now - START) + rtt_s + more_s)

    def loss_now(self, name):
        """Return the loss ratio a sender meets on average; 1 in a gap or a blackhole."""
        road, at_s = self.roads[name], self.now - START
        if not road.linked or road.silent or self.behaviours[name].gap_at(at_s):
            return 1.0
        _, loss = self.behaviours[name].standing(at_s)
        return 1.0 - (1.0 - loss) * (1.0 - road.loss)

    def working(self, name):
        """Return whether an answer that arrives now is heard."""
        road = self.roads[name]
        return road.linked and not road.silent

    def queue_up(self, name, work_s):
        """Put so many seconds of sending into the modem's queue, as far as it holds."""
        radio, limit_s = self.radios[name], self.behaviours[name].model.queue_s
        queued_s = radio.queued_s(self.now) + work_s
        radio.queue_full = queued_s >= limit_s
        radio.queue_empty_at = self.now + min(limit_s, queued_s)

    # Counters

    def count(self, name, **more):
        """Add to an uplink's counters, and let the sampler see it in its time."""
        of = self.counters[name]
        for key, value in more.items():
            setattr(of, key, getattr(of, key) + value)
        if more.get("rx_packets"):
            self.radios[name].heard_or_sent_at = self.now
        self._changed.add(name)
        if self._sampling_at is None:
            period = SAMPLE_BUSY_S if self._busy() else SAMPLE_IDLE_S
            self._sample_after(period, aligned=True)

    def _busy(self):
        return self.now - self._last_sent_at < BUSY_FOR_S

    def _sample_after(self, period, *, aligned=False):
        when = self.now + period
        if aligned:
            when = START + math.ceil((self.now - START) / period + 1e-9) * period
        self._sampling_at = when
        self.at(when, self._sample)

    def _sample(self):
        self._sampling_at = None
        active = self.state.active
        changed, self._changed = self._changed, set()
        if active in changed:
            per = self.state.of(active)
            if self.counters[active].tx_packets != (per.traffic.tx_packets or 0):
                self._last_sent_at = self.now
        for name in self.roads:
            if (
                name in changed
                or self.state.of(name).traffic.unanswered_since is not None
            ):
                self._feed_counters(name)
        open_questions = any(
            p.traffic.unanswered_since is not None for p in self.state.per
        )
        if self._sampling_at is None and (changed or open_questions):
            self._sample_after(SAMPLE_BUSY_S if self._busy() else SAMPLE_IDLE_S)

    def _feed_counters(self, name):
        of = dataclasses.asdict(self.counters[name])
        road = self.roads[name]
        road.rx, road.tx = of["rx_packets"], of["tx_packets"]
        for kind in (TrafficSeen, getattr(events, "FlowsSeen", None)):
            if kind is not None:
                wanted = [
                    f.name for f in dataclasses.fields(kind) if f.name != "uplink"
                ]
                self.feed(kind(name, **{key: of[key] for key in wanted}))

    # Probes

    def _probe(self, action):
        name = action.uplink
        road = self.roads[name]
        self.sent[name] += 1
        if not road.linked:
            at = self.now + 0.0001
            self.at(at, lambda: self.feed(ProbeNotSent(action.probe_id, "no carrier")))
            return
        rtt_s = self.travel(name)
        self.count(name, tx_packets=1, tx_bytes=PROBE_BYTES)
        if rtt_s is None or action.target in road.dead_targets:
            return

        def answer():
            if self.working(name):
                self.count(name, rx_packets=1, rx_bytes=PROBE_BYTES)
                self.feed(ProbeAnswered(action.probe_id, rtt_s))

        self.at(self.now + rtt_s, answer)

    def _repeated(self, name):
        """Return a round trip with TCP's repeats: after 1 s and 3 s; None: all lost."""
        for waited_s in (0.0, 1.0, 3.0):
            rtt_s = self.travel(name)
            if rtt_s is not None:
                return waited_s + rtt_s
        return None

    def _check(self, action):
        name = action.uplink
        self.checks_sent[name] += 1
        trips = [self._repeated(name) for _ in range(4)]
        if None in trips or not self.working(name):
            verdict, after_s = CheckVerdict.TIMEOUT, 5.0
        else:
            cut = name in self.cut_off
            verdict = CheckVerdict.RESET if cut else CheckVerdict.OK
            after_s = sum(trips)
        done = CheckDone(action.check_id, verdict, "", 3000)
        self.at(self.now + after_s, lambda: self.feed(done))

    # What was seen

    def judged_moves(self):
        """Return the moves away from an uplink (failbacks are returns) as `Move`s.

        Only for uplinks without scripted faults: the truth is the behaviour's alone.
        """
        made = [
            (at, a)
            for at, a in self.log
            if isinstance(a, SelectUplink) and a.previous is not None
        ]
        order = [uplink.name for uplink in self.policy.uplinks]
        found = []
        for place, (at_s, action) in enumerate(made):
            if action.rule == "failback":
                continue
            gap = self.behaviours[action.previous].gap_at(at_s)
            left_s = 0.0 if gap is None else gap.end_s - at_s
            # A return is a move to the one that was left, or to a more preferred one.
            good = order[: order.index(action.previous) + 1]
            back = next((at for at, a in made[place:] if a.uplink in good), None)
            found.append(
                Move(
                    at_s,
                    action.rule,
                    action.previous,
                    action.uplink,
                    left_s <= RECOVERED_WITHIN_S,
                    (self.now - START if back is None else back) - at_s,
                    back is not None,
                    action.reason,
                )
            )
        return found
