"""A phone behind the site in virtual time: what it sends, and the silence that is its own.

Most of the day nobody uses it. Then somebody browses or uploads a photograph, and much
of what looks like a dead link is innocent: a server that thinks before it answers, a
host that is down (SYN at 0, 1, 3 and 7 s and nothing else), a UDP port that is filtered,
a queue full of one's own upload. Flows are generators that yield how long they wait.

Sources of the figures: RFC 6298 for retransmission (1 s at first, doubled; Linux's floor
0.2 s); Padhye et al. 1998 for TCP's rate under loss; all lengths of use and of thought
come from the task of a polling site and are assumptions.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

MSS_BYTES, ACK_BYTES, SYN_BYTES, DNS_BYTES = 1400, 52, 60, 80
RTO_FIRST_S, RTO_FLOOR_S = 1.0, 0.2
PATIENCE_S = 20.0
"""After it an app gives a request up."""
UPLOAD_PATIENCE_S = 180.0
OFFERED = 1.5
"""Of the link's rate, while TCP has not yet lost anything: between slow start's 2 and 1."""
TICK_S = 0.05


class Moved(Exception):  # noqa: N818 - not a fault: the flow's uplink was changed
    """The site left the uplink this flow had its address on."""


def tcp_bytes_per_s(loss, rtt_s, rto_s=2 * RTO_FLOOR_S):
    """Return what TCP carries under loss: Padhye et al. 1998, formula 30, b = 2.

    A satellite's accelerator hides its delay from TCP, so callers cap the round trip.
    """
    if not 0 < loss < 1:
        return math.inf
    holes = rtt_s * math.sqrt(4 * loss / 3)
    stalls = rto_s * min(1.0, 3 * math.sqrt(3 * loss / 4)) * loss * (1 + 32 * loss**2)
    return MSS_BYTES / (holes + stalls)


@dataclass
class Phone:
    """One phone's day. `idle_mean_s`: between uses; `dead_ratio`: of requests."""

    seed: int = 1
    idle_mean_s: float = 240.0
    idle_least_s: float = 20.0
    push_mean_s: float = 150.0
    """Background keep-alives of messengers, also while nobody uses it."""
    dead_ratio: float = 0.08
    """Requests to hosts that do not answer: advertisements, a blocked UDP port."""
    uses: tuple[tuple[str, float], ...] = (("browse", 0.5), ("upload", 0.5))
    gave_up: int = 0
    uploads: list[float] = field(default_factory=list)
    """How long each finished upload took, s."""
    photo_rest_s: tuple[float, float] = (5.0, 30.0)
    """Between two photographs of one use."""
    sent_at: float = -math.inf

    def plug(self, world):
        self.world = world
        self.draw = random.Random(f"phone {self.seed}")  # noqa: S311 - repeatable
        self._run(self._use())
        self._run(self._push())

    # Machinery

    def _count(self, name, **more):
        if "tx_packets" in more:
            self.sent_at = self.world.now
        self.world.count(name, **more)

    def _run(self, flow):
        def go_on():
            wait_s = next(flow, None)
            if wait_s is not None:
                self.world.at(self.world.now + wait_s, go_on)

        self.world.at(self.world.now, go_on)

    def _exponential(self, mean_s):
        return -math.log(1.0 - self.draw.random()) * mean_s

    def _between(self, low, high):
        return low + (high - low) * self.draw.random()

    # The day

    def _use(self):
        yield 2.0
        while True:
            rest_s = self._exponential(self.idle_mean_s)
            yield max(self.idle_least_s, min(6 * self.idle_mean_s, rest_s))
            drawn = self.draw.random()
            for use, share in self.uses:
                drawn -= share
                if drawn < 0:
                    yield from getattr(self, use)()
                    break

    def _push(self):
        while True:
            yield 5.0 + self._exponential(self.push_mean_s)
            yield from self._patiently(lambda: self._ask(200, 0.05, 200))

    def _patiently(self, flow):
        """Run a flow; begin again on the new way after a move, as an app does."""
        for _ in range(4):
            try:
                return (yield from flow())
            except Moved:
                yield RTO_FIRST_S
        return False

    def browse(self):
        """A page: a handful of requests, some to hosts that are dead."""
        for _ in range(self.draw.randrange(3, 9)):
            if self.draw.random() < self.dead_ratio:
                # Beside the others half of the time, and alone half of the time.
                dead = (
                    self._dead_host() if self.draw.random() < 0.7 else self._dead_udp()
                )
                if self.draw.random() < 0.5:
                    self._run(dead)
                else:
                    yield from dead
            elif not (yield from self._patiently(self._request)):
                self.gave_up += 1
            yield self._between(0.1, 2.0)

    def upload(self):
        """Photographs of the count: one to three, 1–3 MB each."""
        for _ in range(self.draw.randrange(1, 4)):
            began = self.world.now
            if (yield from self._patiently(self._upload_photo)):
                self.uploads.append(self.world.now - began)
            else:
                self.gave_up += 1
            yield self._between(*self.photo_rest_s)

    # Flows

    def _request(self):
        if not (yield from self._open()):
            return False
        think_s = self._between(0.2, 3.0) if self.draw.random() < 0.3 else 0.1
        return (yield from self._ask(600, think_s, int(self._between(5e3, 3e5))))

    def _upload_photo(self):
        if not (yield from self._open()):
            return False
        if not (yield from self._send(int(self._between(1e6, 3e6)))):
            return False
        # The server stores it: the last ACK is in, the answer takes its time.
        return (yield from self._ask(300, self._between(0.2, 3.0), 400))

    def _open(self):
        """Resolve, connect, TLS."""
        way = self._way()
        reached = (
            yield from self._ask(DNS_BYTES, self._between(0.0, 0.2), DNS_BYTES, "dns")
        ) and (yield from self._ask(SYN_BYTES, 0.0, SYN_BYTES, "syn"))
        if not reached:
            return False
        if way in self.world.cut_off:
            # Quota used up: the ClientHello is answered with a reset.
            yield from self._ask(500, 0.0, ACK_BYTES, "reset")
            return False
        return (yield from self._ask(500, 0.02, 4500)) and (
            yield from self._ask(300, 0.02, 300)
        )

    def _ask(self, up_bytes, think_s, down_bytes, kind="data"):
        """Send one segment until it is answered; the ACK comes before the answer does."""
        world, name = self.world, self._way()
        if name is None:
            yield 1.0
            return False
        out = {"syn": {"syn_out": 1}, "dns": {"dns_out": 1}}.get(kind, {})
        rto_s, began = RTO_FIRST_S, world.now
        while True:
            rtt_s = world.travel(name)
            self._count(name, tx_packets=1, tx_bytes=up_bytes, **out)
            if rtt_s is not None:
                if rtt_s <= rto_s:
                    break
                # Late: it counts as life, but the segment goes out once more.
                self._acknowledge(name, rtt_s, 1)
            yield rto_s
            self._still(name)
            rto_s *= 2
            if world.now - began > PATIENCE_S:
                return False
        yield rtt_s
        self._still(name)
        if not world.working(name):
            return False
        if think_s and kind == "data":
            self._count(name, rx_packets=1, rx_bytes=ACK_BYTES)
        yield from self._pause(name, think_s)
        return (yield from self._receive(name, down_bytes, kind))

    def _pause(self, name, wait_s):
        if wait_s:
            yield wait_s
            self._still(name)

    def _receive(self, name, down_bytes, kind):
        """The answer: a burst at the path's rate; lost ones are sent again by the server."""
        world, began = self.world, self.world.now
        into = {
            "syn": {"synack_in": 1},
            "dns": {"dns_in": 1},
            "reset": {"rst_in": 1},
        }.get(kind, {})
        left = max(1, math.ceil(down_bytes / MSS_BYTES))
        rto_s = RTO_FLOOR_S * 2
        while left:
            loss = world.loss_now(name)
            batch = min(left, 20 if loss < 0.15 else 2)
            came = sum(self.draw.random() >= loss for _ in range(batch))
            if not came:
                yield rto_s
                self._still(name)
                rto_s *= 2
                if world.now - began > PATIENCE_S:
                    return False
                continue
            rto_s = RTO_FLOOR_S * 2
            left -= came
            self._count(
                name,
                rx_packets=came,
                rx_bytes=came * min(MSS_BYTES, max(ACK_BYTES, down_bytes)),
                tx_packets=(came + 1) // 2,
                tx_bytes=(came + 1) // 2 * ACK_BYTES,
                **into,
            )
            into = {}
            if left:
                yield TICK_S
                self._still(name)
        return True

    def _send(self, size_bytes):
        """An upload: data at the path's rate, an ACK for two segments a round trip later."""
        world, name = self.world, self._way()
        if name is None:
            yield 1.0
            return False
        model = world.behaviours[name].model
        rate = model.up_bytes_per_s
        left, stalled_s, began = size_bytes, 0.0, world.now
        srtt_s = rto_s = 2 * RTO_FLOOR_S
        while left > 0:
            if world.now - began > UPLOAD_PATIENCE_S:
                return False
            loss = world.loss_now(name)
            tcp = tcp_bytes_per_s(loss, min(model.base_rtt_s, 0.1))
            per_s = min(rate, tcp) / MSS_BYTES
            segments = 1 if stalled_s else max(1, int(per_s * TICK_S))
            rtt_s = world.travel(name)
            self._count(name, tx_packets=segments, tx_bytes=segments * MSS_BYTES)
            kept = 0 if rtt_s is None else self._survivors(segments, loss)
            if not kept:
                # Tail loss probe first (RFC 8985, 7.2), then the timeouts.
                wait_s = rto_s if stalled_s else 2 * srtt_s
                rto_s *= 2 if stalled_s else 1
                yield wait_s
                self._still(name)
                stalled_s += wait_s
                if stalled_s > PATIENCE_S:
                    return False
                continue
            srtt_s, rto_s, stalled_s = rtt_s, RTO_FLOOR_S + 2 * rtt_s, 0.0
            left -= kept * MSS_BYTES
            self._acknowledge(name, rtt_s, (kept + 1) // 2)
            wait_s = max(TICK_S, segments / per_s)
            # A sender below its own limits offers more than the link takes.
            work_s = segments * MSS_BYTES / rate
            world.queue_up(name, wait_s * OFFERED if tcp >= rate else work_s)
            yield wait_s
            self._still(name)
        return True

    def _survivors(self, segments, loss):
        return sum(self.draw.random() >= loss for _ in range(segments))

    def _acknowledge(self, name, after_s, packets):
        def come():
            if self.world.working(name):
                self._count(name, rx_packets=packets, rx_bytes=packets * ACK_BYTES)

        self.world.at(self.world.now + after_s, come)

    def _dead_host(self):
        """The name resolves, the host does not answer: SYN at 0, 1, 3 and 7 s."""
        if not (yield from self._patiently(self._resolve)):
            return
        for wait_s in (1.0, 2.0, 4.0, 1.0):
            if (name := self._way()) is None:
                return
            self.world.travel(name)
            self._count(name, tx_packets=1, tx_bytes=SYN_BYTES, syn_out=1)
            yield wait_s

    def _resolve(self):
        return (yield from self._ask(DNS_BYTES, 0.02, DNS_BYTES, "dns"))

    def _dead_udp(self):
        """QUIC where UDP is filtered: the Initial again after 0.3, 0.9 and 2.1 s."""
        for wait_s in (0.3, 0.6, 1.2, 0.5):
            if (name := self._way()) is None:
                return
            self.world.travel(name)
            self._count(name, tx_packets=1, tx_bytes=1252)
            yield wait_s

    def _way(self):
        return self.world.state.active

    def _still(self, name):
        if self.world.state.active != name:
            raise Moved
