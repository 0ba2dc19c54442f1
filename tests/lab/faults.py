"""Everything that can go wrong with an uplink, or with the internet, and back again.

Each fault takes effect at run time and returns an `Effect` with its instant. Faults
on one uplink add up; `restore` undoes them all.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lab import topology
from lab.clock import boottime_s, sleep_until
from lab.links import Way, initial
from lab.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.links import RelayClient
    from lab.topology import UplinkPlan
    from lab.wire import Counters, Shape

Ways = Literal["both", "up", "down"]

RADIOS: dict[str, dict[Way, dict[str, Any]]] = {
    # A handover about once a minute, 0.3–2 s, packets forwarded to the new cell; after
    # 10 s of silence the radio sleeps and takes 0.3–2 s to wake (RRC promotion).
    "lte": {
        "up": {
            "gap_every_s": 60.0,
            "gap_min_s": 0.3,
            "gap_max_s": 2.0,
            "gap_spread": 0.9,
            "gap_keeps": True,
            "wake_idle_s": 10.0,
            "wake_min_s": 0.3,
            "wake_max_s": 2.0,
        },
        # The site speaks first: what comes down finds the radio awake.
        "down": {
            "gap_every_s": 60.0,
            "gap_min_s": 0.3,
            "gap_max_s": 2.0,
            "gap_spread": 0.9,
            "gap_keeps": True,
        },
    },
    # A new slot every 15 s by the clock, and up to half a second lost with it.
    "starlink": {
        way: {"gap_every_s": 15.0, "gap_min_s": 0.05, "gap_max_s": 0.5}
        for way in ("up", "down")
    },
}
"""What a healthy radio does, by its kind; not a fault, and no reason to move."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A change of the lab took effect. Instants: CLOCK_BOOTTIME seconds."""

    what: str
    on: str
    at_s: float
    """When it took effect; not before this."""
    within_s: float = 0.0
    """And not later than this after `at_s` (0: exact, the relay's own instant)."""


def _timed(what: str, on: str, act: Callable[[], None]) -> Effect:
    start_s = boottime_s()
    act()
    return Effect(what, on, start_s, boottime_s() - start_s)


class Uplink:
    """One provider's way out, and what can happen to it.

    `plan` has its names and addresses. "Up" is from the site to the internet.
    """

    def __init__(
        self,
        plan: UplinkPlan,
        pi: Namespace,
        modem: Namespace,
        carrier: Namespace,
        relay: RelayClient,
    ) -> None:
        self.plan = plan
        self.name = plan.name
        self.device = plan.device
        self.modem = modem
        self.faults: list[str] = []
        """What is wrong with it now, oldest first; empty: healthy."""
        self._pi = pi
        self._carrier = carrier
        self._relay = relay
        self._lease = plan
        self._shapes: dict[Way, Shape] = {"up": initial(plan), "down": initial(plan)}

    # On the carrier link, by the relay: the modem itself still answers.

    def shape(self, ways: Ways = "both", **changes: Any) -> Effect:
        """Change fields of the link's `Shape` in one direction or both."""
        return self._shape("shape", ways, **changes)

    def blackhole(self, ways: Ways = "both") -> Effect:
        """Lose every packet silently; carrier and gateway stay as they are.

        `up`: nothing goes out. `down`: requests still arrive, nothing comes back.
        """
        return self._shape(f"blackhole {ways}", ways, blackhole=True)

    def loss(self, ratio: float, ways: Ways = "both") -> Effect:
        """Lose this share of the packets of each direction named."""
        return self._shape(f"loss {ratio:g} {ways}", ways, loss_ratio=ratio)

    def latency(self, extra_ms: float, ways: Ways = "both") -> Effect:
        """Add a standing delay to each direction named (both: twice that in RTT)."""
        delay_ms = self.plan.one_way_ms + extra_ms
        return self._shape(f"latency {extra_ms:g} ms {ways}", ways, delay_ms=delay_ms)

    def rate(
        self, bit_s: float, queue_bytes: int = 256_000, ways: Ways = "both"
    ) -> Effect:
        """Limit the rate, with a drop-tail queue (a large one is bufferbloat)."""
        return self._shape(
            f"rate {bit_s:g} bit/s {ways}",
            ways,
            rate_bit_s=bit_s,
            queue_bytes=queue_bytes,
        )

    def bufferbloat(
        self, bit_s: float = 1_000_000, queue_bytes: int = 256_000
    ) -> Effect:
        """Make the way up slow with a queue far too long: 2 s of it when it is full.

        By itself it harms nobody: it takes an upload that fills it.
        """
        return self.rate(bit_s, queue_bytes, "up")

    def radio(self, kind: str, seed: int = 0) -> Effect:
        """Let the link behave as a radio (`RADIOS`): gaps, and a wake-up after idle.

        Another seed has its gaps at other times.
        """
        shapes: dict[Way, Shape] = {
            way: dataclasses.replace(self._shapes[way], gap_seed=seed, **changes)
            for way, changes in RADIOS[kind].items()
        }
        return self._reshape(f"radio {kind}", shapes)

    def flap(self, for_s: float, down_s: float = 5.0, up_s: float = 5.0) -> Effect:
        """Fall silent and come back, again and again, for so long; return at its end.

        It ends healthy. The effect is that of the first fall.
        """
        first: Effect | None = None
        begin_s = boottime_s()
        turn_s = begin_s
        while turn_s + down_s <= begin_s + for_s:
            fallen = self.blackhole()
            first = first or fallen
            sleep_until(turn_s + down_s)
            self._reshape("", {w: initial(self.plan) for w in self._shapes})
            self.faults.remove(fallen.what)
            turn_s += down_s + up_s
            sleep_until(min(turn_s, begin_s + for_s))
        if first is None:
            msg = f"flap for {for_s:g} s: shorter than one fall of {down_s:g} s"
            raise ValueError(msg)
        return first

    def counters(self) -> dict[Way, Counters]:
        """Return what became of the packets, by direction, since the lab was built."""
        return self._relay.counters(self.name)

    # Between the Pi and the modem.

    def carrier_loss(self) -> Effect:
        """Take the far end down: the Pi's device has NO-CARRIER."""
        return self._fault("carrier loss", lambda: self.modem.ip("link set lan0 down"))

    def hang(self) -> Effect:
        """Let the modem hang: carrier, but no answer, not even to ARP."""
        return self._fault("hang", lambda: self.modem.nft(topology.HANG_NFT))

    def unplug(self) -> Effect:
        """Remove the Pi's device, as a pulled USB stick; `restore` plugs it in."""
        return self._fault("unplug", lambda: self._pi.ip(f"link delete {self.device}"))

    def reenumerate(self) -> Effect:
        """Remove the device and make it anew at once: same name, new ifindex."""
        effect = _timed(
            "re-enumerate", self.name, lambda: self._pi.ip(f"link delete {self.device}")
        )
        self._plug()
        return effect

    def change_address(self, address: str) -> Effect:
        """Give the Pi another address of the modem's network (a new lease)."""

        def act() -> None:
            self._pi.ip(f"address flush dev {self.device}")
            self._pi.ip(*topology.lease_lines(self._lease))

        self._lease = dataclasses.replace(self.plan, address=address)
        return self._fault(f"address {address}", act)

    # At the carrier.

    def quota(self) -> Effect:
        """Use the quota up: ping and DNS pass, HTTP goes to a portal.

        Other TCP connects, and is reset at the client's first data (its ClientHello).
        """
        return self._fault("quota", lambda: self._at_carrier("add", "used_up"))

    def dns_dead(self) -> Effect:
        """Drop all DNS through this provider; everything else passes."""
        return self._fault("DNS dead", lambda: self._at_carrier("add", "dns_dead"))

    def isolate(self) -> Effect:
        """Cut the carrier off from the internet; modem and carrier still answer."""
        return self._fault("isolated", lambda: self._at_carrier("add", "cut"))

    def restore(self) -> Effect:
        """Undo every fault; where the link was cut the "DHCP client" renews.

        The instant is that of the last repair.
        """
        if "quota" in self.faults:
            self._at_carrier("delete", "used_up")
        if "DNS dead" in self.faults:
            self._at_carrier("delete", "dns_dead")
        if "isolated" in self.faults:
            self._at_carrier("delete", "cut")
        if "hang" in self.faults:
            self.modem.nft("delete table netdev modem_hang")
        self._shapes = {"up": initial(self.plan), "down": initial(self.plan)}
        at_s = self._relay.shape([(self.name, w, s) for w, s in self._shapes.items()])
        effect = Effect("restore", self.name, at_s)
        if self._lease is not self.plan:
            self._lease = self.plan
            effect = _timed("restore", self.name, self._renew)
        if "carrier loss" in self.faults and "unplug" not in self.faults:
            effect = _timed("restore", self.name, self._carrier_back)
        if "unplug" in self.faults:
            effect = _timed("restore", self.name, self._plug)
        self.faults.clear()
        return effect

    def _shape(self, what: str, ways: Ways, **changes: Any) -> Effect:
        named: tuple[Way, ...] = ("up", "down") if ways == "both" else (ways,)
        return self._reshape(
            what,
            {w: dataclasses.replace(self._shapes[w], **changes) for w in named},
        )

    def _reshape(self, what: str, shapes: dict[Way, Shape]) -> Effect:
        at_s = self._relay.shape([(self.name, w, s) for w, s in shapes.items()])
        self._shapes |= shapes
        if what:
            self.faults.append(what)
        return Effect(what, self.name, at_s)

    def _fault(self, what: str, act: Callable[[], None]) -> Effect:
        if what in self.faults:
            return Effect(what, self.name, boottime_s())
        effect = _timed(what, self.name, act)
        self.faults.append(what)
        return effect

    def _at_carrier(self, verb: str, name: str) -> None:
        self._carrier.nft(f'{verb} element ip cgnat {name} {{ "{self.plan.tun}" }}')

    def _carrier_back(self) -> None:
        self.modem.ip("link set lan0 up")
        # The kernel dropped the routes or marked them; a client renews its lease.
        self._pi.ip(*topology.lease_lines(self._lease))

    def _plug(self) -> None:
        self._pi.ip(*topology.plug_lines(self.plan, self.modem.name))
        self.modem.ip(*topology.modem_lan_lines(self.plan))
        self._pi.ip(*topology.lease_lines(self._lease))

    def _renew(self) -> None:
        self._pi.ip(f"address flush dev {self.device}")
        self._pi.ip(*topology.lease_lines(self._lease))


class Internet(Namespace):
    """The far end: its services, and which of them are dead for everybody."""

    def target_dead(self, address: str) -> Effect:
        """Let one address (a ping target, Sirekap, DNS, broker) answer nobody."""
        return _timed("target dead", address, lambda: self._dead("add", address))

    def target_back(self, address: str) -> Effect:
        """Let it answer again."""
        return _timed("target back", address, lambda: self._dead("delete", address))

    def restore(self) -> Effect:
        """Let every address answer again."""
        return _timed(
            "restore", "internet", lambda: self.nft("flush set ip internet dead")
        )

    def _dead(self, verb: str, address: str) -> None:
        self.nft(f"{verb} element ip internet dead {{ {address} }}")
