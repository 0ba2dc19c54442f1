"""The words of routing: links, uplinks, routes, rules, and steps that change them.

Values only. What they should be is decided in `core.routing`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_agent.errors import ConfigError

if TYPE_CHECKING:
    from jaga_agent.core.model import UplinkName

ROUTE_PROTOCOL = 74
"""Marks our routes and rules ("J"); not taken in iproute2's rt_protos."""

ACTIVE_TABLE = 100
TABLES = range(100, 200)
MAIN_TABLE = 254

MAIN_PRIORITY = 1000
OIF_PRIORITY = 1100
MARK_PRIORITY = 1200
ACTIVE_PRIORITY = 2000
PRIORITIES = range(1000, 2001)

ACTIVE_METRIC = 1
STANDBY_METRIC = 10
"""Added to the uplink's rank by preference; a rank is stable, so is its slot."""
LAST_METRIC = 0xFFFFFFFF

MARK_MASK = 0x0000FF00
"""The bits of skb and conntrack marks that are ours; other programs keep the rest."""

MAX_UPLINKS = 99

# IFNAMSIZ is 16 with the terminating zero. The kernel allows odder names than these,
# but "*" is a wildcard to nft, "/" is a path in /proc/sys, and quotes end a string.
_DEVICE = re.compile(r"[A-Za-z0-9_.@-]{1,15}")


def _require_device_name(device: str) -> None:
    if not _DEVICE.fullmatch(device) or device in {".", ".."}:
        msg = (
            f"device name {device!r} cannot be used: 1 to 15 letters, digits, "
            "'.', '_', '-' or '@'"
        )
        raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Link:
    """A device as the kernel shows it now."""

    device: str
    index: int
    """The kernel's ifindex; a new one means that the device was re-enumerated."""
    admin_up: bool
    carrier: bool
    address: str | None
    """First global IPv4 address, or None."""
    subnet: str | None
    """The network of `address`, e.g. "192.168.8.0/24"."""
    gateway: str | None
    """Next hop of a default route that is not ours, in whichever table, or None."""
    point_to_point: bool = False
    """Needs no gateway: whatever is sent reaches the one other end (ppp, wwan)."""

    @property
    def routed(self) -> bool:
        """It has an IPv4 address and a way out is known."""
        return self.address is not None and (
            self.gateway is not None or self.point_to_point
        )


@dataclass(frozen=True, slots=True)
class RoutedUplink:
    """An uplink as the routing layout sees it."""

    name: UplinkName
    device: str
    index: int
    """N of the layout, 1…99: its table, its rule priorities, its mark."""
    preference: int
    """Lower first."""
    mtu: int | None = None
    """What the provider carries in one packet, if its device claims more."""

    def __post_init__(self) -> None:
        _require_device_name(self.device)
        if not 1 <= self.index <= MAX_UPLINKS:
            msg = f"uplink {self.name!r}: index {self.index} is not in 1…{MAX_UPLINKS}"
            raise ConfigError(msg)

    @property
    def table(self) -> int:
        return ACTIVE_TABLE + self.index

    @property
    def mark(self) -> int:
        """Of its flows, within MARK_MASK."""
        return self.index << 8


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """What the operator wants routed. LAN devices empty: the Pi guards only itself."""

    uplinks: tuple[RoutedUplink, ...]
    lan_devices: tuple[str, ...] = ()
    refuse_ipv6: bool = True
    """Nobody leaves by an uplink on IPv6, which this layout does not steer."""

    def __post_init__(self) -> None:
        for device in self.lan_devices:
            _require_device_name(device)
        for what, values in (
            ("name", [u.name for u in self.uplinks]),
            ("index", [u.index for u in self.uplinks]),
            ("device", [*(u.device for u in self.uplinks), *self.lan_devices]),
        ):
            seen: set[object] = set()
            for value in values:
                if value in seen:
                    msg = f"{what} {value!r} is used twice"
                    raise ConfigError(msg)
                seen.add(value)

    @property
    def devices(self) -> tuple[str, ...]:
        """The uplinks' devices."""
        return tuple(uplink.device for uplink in self.uplinks)

    def by_preference(self) -> tuple[RoutedUplink, ...]:
        return tuple(sorted(self.uplinks, key=lambda u: (u.preference, u.index)))

    def uplink(self, name: UplinkName) -> RoutedUplink:
        """Return the uplink of that name.

        Raises:
            ConfigError: there is none.

        """
        for uplink in self.uplinks:
            if uplink.name == name:
                return uplink
        msg = f"no uplink is named {name!r}"
        raise ConfigError(msg)


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 route of ours. Its slot (table, destination, metric) is its identity."""

    table: int
    destination: str
    """ "default" or a network."""
    metric: int
    device: str | None
    """None: unreachable."""
    gateway: str | None = None
    """None with a device: on-link, scope link."""
    source: str | None = None
    mtu: int | None = None
    """None: the device's."""

    @property
    def slot(self) -> tuple[int, str, int]:
        return (self.table, self.destination, self.metric)

    def __str__(self) -> str:
        words = [self.destination if self.device else f"unreachable {self.destination}"]
        if self.gateway:
            words.append(f"via {self.gateway}")
        if self.device:
            words.append(f"dev {self.device}")
        words.append(f"table {self.table}")
        if self.source:
            words.append(f"src {self.source}")
        words.append(f"metric {self.metric}")
        if self.mtu:
            words.append(f"mtu {self.mtu}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Rule:
    """An IPv4 policy rule of ours; all fields together are its identity."""

    priority: int
    table: int
    oif: str | None = None
    mark: int | None = None
    mask: int | None = None
    suppress_default: bool = False
    """Ignore what the table says by a route of prefix length 0."""

    def __str__(self) -> str:
        words = [f"{self.priority}: from all"]
        if self.mark is not None:
            words.append(f"fwmark {self.mark:#x}/{self.mask or 0xFFFFFFFF:#x}")
        if self.oif is not None:
            words.append(f"oif {self.oif}")
        words.append(f"lookup {self.table}")
        if self.suppress_default:
            words.append("suppress_prefixlength 0")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class RoutingState:
    """Our routes and rules, as they are or as they should be."""

    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()

    def __str__(self) -> str:
        rules = sorted(self.rules, key=lambda r: (r.priority, str(r)))
        routes = sorted(
            self.routes, key=lambda r: (r.table, r.metric, r.destination, str(r))
        )
        return "\n".join(str(line) for line in (*rules, *routes))


@dataclass(frozen=True, slots=True)
class PutRoute:
    """Make the slot hold this route, in one step."""

    route: Route
    replace: bool
    """False: the slot is empty of ours; whoever else stands in it must not be hurt."""

    def __str__(self) -> str:
        return f"{'replace' if self.replace else 'add'} route {self.route}"


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    route: Route

    def __str__(self) -> str:
        return f"delete route {self.route}"


@dataclass(frozen=True, slots=True)
class AddRule:
    rule: Rule

    def __str__(self) -> str:
        return f"add rule {self.rule}"


@dataclass(frozen=True, slots=True)
class DeleteRule:
    rule: Rule

    def __str__(self) -> str:
        return f"delete rule {self.rule}"


RoutingStep = PutRoute | DeleteRoute | AddRule | DeleteRule
