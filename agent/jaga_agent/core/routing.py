"""The routing layout: what the kernel should hold, and the steps from what it holds.

Pure. It reads no kernel and keeps no memory: links, observed state and memory come in,
values go out. The layout (priorities, tables, metrics, marks) is decided here and
nowhere else:

    1000        lookup main, its default routes suppressed: connected networks first
    1100 + N    oif of uplink N: lookup table 100 + N (probes bound to the device)
    1200 + N    mark of uplink N: lookup table 100 + N (flows pinned while they drain)
    2000        lookup table 100: the default of the site

Table 100 + N holds the uplink's connected network and its default; table 100 a default
for every usable uplink, the active one at metric 1, all of them again at their rank.
So a switch is one `replace` of metric 1, and when a device loses carrier or vanishes
the kernel itself takes the next metric, even with the agent dead. An `unreachable`
default ends every table: without it a bound socket would ARP for the whole internet.

What is ours carries ROUTE_PROTOCOL and lies in the ranges below. Nothing else is ever
changed or deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from jaga_agent.core.routes import (
    ACTIVE_METRIC,
    ACTIVE_PRIORITY,
    ACTIVE_TABLE,
    LAST_METRIC,
    MAIN_PRIORITY,
    MAIN_TABLE,
    MARK_MASK,
    MARK_PRIORITY,
    OIF_PRIORITY,
    PRIORITIES,
    STANDBY_METRIC,
    TABLES,
    AddRule,
    DeleteRoute,
    DeleteRule,
    Link,
    PutRoute,
    Route,
    RoutedUplink,
    RoutingConfig,
    RoutingState,
    RoutingStep,
    Rule,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jaga_agent.core.model import UplinkName


@dataclass(frozen=True, slots=True)
class LearntGateway:
    """A gateway seen on a device, kept while the device stays the same."""

    index: int
    address: str
    gateway: str


def recall_gateways(
    config: RoutingConfig,
    links: Mapping[str, Link],
    memory: Mapping[str, LearntGateway],
    observed: RoutingState,
) -> tuple[dict[str, Link], dict[str, LearntGateway]]:
    """Fill in the gateways that the kernel no longer shows; return the new memory.

    Losing carrier or going down takes a DHCP client's default away, and it may not
    come back with the carrier. A gateway is believed again if the device kept its
    index and either its address or a network that holds the gateway. After a restart
    of the agent our own table is the memory: the kernel empties it when the device is
    re-enumerated.
    """
    known: dict[str, Link] = {}
    learnt: dict[str, LearntGateway] = {}
    for uplink in config.uplinks:
        link = links.get(uplink.device)
        if link is None:
            continue
        before = memory.get(uplink.device)
        if before is not None and before.index != link.index:
            before = None
        gateway = link.gateway
        if gateway is None and link.address is not None:
            if before is not None and (
                before.address == link.address or _holds(link.subnet, before.gateway)
            ):
                gateway = before.gateway
            elif before is None:
                gateway = _own_gateway(uplink, link, observed)
        if gateway is not None and link.address is not None:
            before = LearntGateway(link.index, link.address, gateway)
        if before is not None:
            learnt[uplink.device] = before
        known[uplink.device] = replace(link, gateway=gateway)
    return known, learnt


def _own_gateway(
    uplink: RoutedUplink, link: Link, observed: RoutingState
) -> str | None:
    for route in observed.routes:
        if (
            (route.table, route.device) == (uplink.table, uplink.device)
            and route.gateway is not None
            and _holds(link.subnet, route.gateway)
        ):
            return route.gateway
    return None


def _holds(subnet: str | None, address: str) -> bool:
    return subnet is not None and IPv4Address(address) in IPv4Network(subnet)


def active_route(uplink: RoutedUplink, link: Link) -> Route:
    """Return the one route that decides where the site's traffic goes."""
    return Route(
        ACTIVE_TABLE,
        "default",
        ACTIVE_METRIC,
        uplink.device,
        gateway=link.gateway,
        mtu=uplink.mtu,
    )


def desired(
    config: RoutingConfig,
    links: Mapping[str, Link],
    active: UplinkName | None,
    observed: RoutingState,
) -> RoutingState:
    """Return what the kernel should hold.

    With `active` None, or without a usable link for it, whatever carries the site now
    stays: the last route is never taken away. `links` come from `recall_gateways`.
    Carrier is not asked: the kernel itself passes over a link without it.
    """
    rules = {
        Rule(MAIN_PRIORITY, MAIN_TABLE, suppress_default=True),
        Rule(ACTIVE_PRIORITY, ACTIVE_TABLE),
    }
    routes = {Route(ACTIVE_TABLE, "default", LAST_METRIC, None)}
    carrying = _carrying(config, links, observed)
    by_name: dict[UplinkName, Route] = {}
    by_device: dict[str | None, Route] = {}
    for rank, uplink in enumerate(config.by_preference()):
        n, table = uplink.index, uplink.table
        rules.add(Rule(OIF_PRIORITY + n, table, oif=uplink.device))
        rules.add(Rule(MARK_PRIORITY + n, table, mark=uplink.mark, mask=MARK_MASK))
        routes.add(Route(table, "default", LAST_METRIC, None))
        link = links.get(uplink.device)
        if link is None or not (link.admin_up and link.routed):
            continue
        default = active_route(uplink, link)
        routes.add(replace(default, table=table))
        routes.add(replace(default, metric=STANDBY_METRIC + rank))
        if link.subnet is not None and not link.subnet.endswith("/32"):
            routes.add(
                Route(
                    table, link.subnet, ACTIVE_METRIC, uplink.device, None, link.address
                )
            )
        by_name[uplink.name] = by_device[uplink.device] = default
    chosen = None if active is None else by_name.get(active)
    if chosen is None and carrying is not None:
        # The same uplink goes on, by the gateway that it has now if one is known.
        chosen = by_device.get(carrying.device, carrying)
    if chosen is not None:
        routes.add(chosen)
    return RoutingState(frozenset(routes), frozenset(rules))


def _carrying(
    config: RoutingConfig, links: Mapping[str, Link], observed: RoutingState
) -> Route | None:
    for route in observed.routes:
        if route.slot == (ACTIVE_TABLE, "default", ACTIVE_METRIC):
            link = links.get(route.device or "")
            if route.device in config.devices and link is not None and link.admin_up:
                return route
    return None


def adopted_active(
    config: RoutingConfig, links: Mapping[str, Link], observed: RoutingState
) -> UplinkName | None:
    """Return the uplink that carries the site by the routes found, or None.

    The lowest metric whose device has carrier, as the kernel chooses; with no carrier
    anywhere the lowest metric.
    """
    names = {uplink.device: uplink.name for uplink in config.uplinks}
    defaults = sorted(
        (route.metric, route.device)
        for route in observed.routes
        if route.table == ACTIVE_TABLE
        and route.device is not None
        and route.device in names
    )
    devices = [device for _, device in defaults]
    for device in devices:
        link = links.get(device)
        if link is not None and link.admin_up and link.carrier:
            return names[device]
    return names[devices[0]] if devices else None


def diff(wanted: RoutingState, observed: RoutingState) -> tuple[RoutingStep, ...]:
    """Return the steps from observed to wanted: make before break.

    Routes first, then the rules that lead to them (connected networks before the
    default), then what is no longer wanted in the opposite order. At no step is a
    destination without a route that had one before and is to have one after.
    """
    ours = _within_ranges(observed)
    slots = {route.slot for route in ours.routes}
    return (
        *(
            PutRoute(route, replace=route.slot in slots)
            for route in _by_metric(wanted.routes - ours.routes)
        ),
        *(AddRule(rule) for rule in _by_priority(wanted.rules - ours.rules)),
        *(DeleteRule(rule) for rule in _by_priority(ours.rules - wanted.rules)[::-1]),
        *(
            DeleteRoute(route)
            for route in _by_metric(ours.routes - wanted.routes)
            if route.slot not in {put.slot for put in wanted.routes}
        ),
    )


def prune(observed: RoutingState) -> tuple[RoutingStep, ...]:
    """Return the steps that remove all that is ours; traffic falls back to main."""
    return diff(RoutingState(), observed)


def _within_ranges(state: RoutingState) -> RoutingState:
    return RoutingState(
        frozenset(route for route in state.routes if route.table in TABLES),
        frozenset(rule for rule in state.rules if rule.priority in PRIORITIES),
    )


def _by_metric(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda r: (r.metric, r.table, r.destination, str(r)))


def _by_priority(rules: Iterable[Rule]) -> list[Rule]:
    return sorted(rules, key=lambda r: (r.priority, str(r)))


def kernel_settings(config: RoutingConfig, links: Mapping[str, Link]) -> dict[str, str]:
    """Return the sysctls that the layout needs, by path below /proc/sys.

    Forwarding comes first: writing it resets other settings. Only devices that exist
    are named; a new one takes over `default` until it is named here.
    """
    settings: dict[str, str] = {}
    if config.lan_devices:
        settings["net/ipv4/ip_forward"] = "1"
    for device in ("all", "default", *(d for d in config.devices if d in links)):
        conf = f"net/ipv4/conf/{device}"
        # Loose: strict drops every reply that comes by a standby uplink.
        settings[f"{conf}/rp_filter"] = "2"
        settings[f"{conf}/ignore_routes_with_linkdown"] = "1"
        if device in links:
            # Twins have the same address: each answers for its own device only.
            settings[f"{conf}/arp_ignore"] = "1"
            settings[f"{conf}/arp_announce"] = "2"
            if config.refuse_ipv6:
                # No address or default by IPv6 that programs would try first.
                settings[f"net/ipv6/conf/{device}/accept_ra"] = "0"
    # With 0 a flow whose entry was flushed is "invalid" and would hang, not be reset.
    settings["net/netfilter/nf_conntrack_tcp_loose"] = "1"
    return settings
