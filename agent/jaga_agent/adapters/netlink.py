"""The kernel's links, routes and rules, by pyroute2's AsyncIPRoute. Decides nothing.

One socket for requests, another for events (a socket that has made a request cannot be
bound to groups any more). IPv4 only: the layout has no IPv6, and `family` is always
passed because pyroute2 does not guess it for every request.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import aclosing
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING, Any, Self

from jaga_agent.core.routes import (
    PRIORITIES,
    ROUTE_PROTOCOL,
    TABLES,
    AddRule,
    DeleteRoute,
    DeleteRule,
    Link,
    PutRoute,
    Route,
    RoutingState,
    RoutingStep,
    Rule,
)
from jaga_agent.errors import NetlinkError
from jaga_agent.ports import KernelEvent, KernelView
from jaga_agent.pyroute2_door import (
    AsyncIPRoute,
    KernelRefusal,
    NetlinkDumpInterrupted,
    rtnl,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping
    from types import TracebackType

Message = Any
"""pyroute2 has no types; a decoded netlink message is a dict with `get_attr`."""

_FAMILY = socket.AF_INET
_UP, _POINT_TO_POINT = 0x1, 0x10
"""IFF_UP, IFF_POINTOPOINT of linux/if.h."""
_ONLINK = 4
"""RTNH_F_ONLINK of linux/rtnetlink.h: the gateway need not be in a known network."""
_UNICAST, _UNREACHABLE = 1, 7
"""RTN_* of linux/rtnetlink.h."""
_TO_TABLE = 1
"""FR_ACT_TO_TBL of linux/fib_rules.h."""
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_NO_SUPPRESSION = 0xFFFFFFFF

_GROUPS = (
    rtnl.RTMGRP_LINK
    | rtnl.RTMGRP_IPV4_IFADDR
    | rtnl.RTMGRP_IPV4_ROUTE
    | rtnl.RTMGRP_IPV4_RULE
)
_LINK_EVENTS = {"RTM_NEWLINK", "RTM_DELLINK"}
_DUMP_ATTEMPTS = 5
_REOPEN_DELAY_S = 0.1


class NetlinkKernel:
    """`ports.Kernel` on rtnetlink. Use as an asynchronous context."""

    def __init__(self, *, event_buffer_bytes: int = 1 << 20) -> None:
        self._event_buffer_bytes = event_buffer_bytes
        self._requests: AsyncIPRoute | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    async def links(self, devices: Collection[str]) -> Mapping[str, Link]:
        """Read these devices; one that does not exist is absent.

        Raises:
            NetlinkError: the kernel could not be read.

        """
        return (await self.observe(devices)).links

    async def observe(self, devices: Collection[str]) -> KernelView:
        """Read these devices, and every route and rule that is ours.

        Raises:
            NetlinkError: the kernel could not be read.

        """
        rules = await self._dump("rule")
        routes = await self._dump("route")
        addresses = await self._dump("addr")
        links = await self._dump("link")
        names = {m["index"]: m.get_attr("IFLA_IFNAME") for m in links}
        return KernelView(
            links={
                name: _link(message, name, addresses, routes)
                for message in links
                if (name := names[message["index"]]) in devices
            },
            ours=RoutingState(
                frozenset(_route(m, names) for m in routes if _is_our_route(m)),
                frozenset(_rule(m) for m in rules if _is_our_rule(m)),
            ),
        )

    async def apply(self, step: RoutingStep) -> None:
        """Carry out one step; what is already so is no error.

        Raises:
            NetlinkError: the kernel refused, or the device is gone or down.

        """
        try:
            match step:
                case PutRoute(route, replace):
                    await self._request("route", "replace" if replace else "add", route)
                case DeleteRoute(route):
                    await self._request("route", "del", route)
                case AddRule(rule):
                    await self._request("rule", "add", rule)
                case DeleteRule(rule):
                    await self._request("rule", "del", rule)
        except KernelRefusal as error:
            if isinstance(step, DeleteRoute | DeleteRule):
                if error.code in {errno.ESRCH, errno.ENOENT, errno.ENODEV}:
                    return
            elif isinstance(step, AddRule) and error.code == errno.EEXIST:
                return
            raise _refusal(error, of=str(step)) from error
        except OSError as error:
            self._close()
            raise _refusal(error, of=str(step)) from error

    async def _request(self, what: str, verb: str, subject: Route | Rule) -> None:
        keys = (
            self._route_keys(subject)
            if isinstance(subject, Route)
            else _rule_keys(subject)
        )
        method = getattr(self._socket(), what)
        await method(verb, family=_FAMILY, **keys)

    def _socket(self) -> AsyncIPRoute:
        if self._requests is None:
            self._requests = AsyncIPRoute(ext_ack=True)
        return self._requests

    @staticmethod
    def _route_keys(route: Route) -> dict[str, Any]:
        keys: dict[str, Any] = {
            "table": route.table,
            "dst": route.destination,
            "priority": route.metric,
            "proto": ROUTE_PROTOCOL,
        }
        if route.device is None:
            return keys | {"type": _UNREACHABLE, "scope": _SCOPE_UNIVERSE}
        try:
            # By name at the time of use: an index remembered may be another device.
            keys["oif"] = socket.if_nametoindex(route.device)
        except OSError as error:
            raise KernelRefusal(errno.ENODEV, f"no device {route.device}") from error
        keys["type"] = _UNICAST
        if route.gateway is None:
            keys["scope"] = _SCOPE_LINK
        else:
            keys |= {"gateway": route.gateway, "flags": _ONLINK}
            keys["scope"] = _SCOPE_UNIVERSE
        if route.source is not None:
            keys["prefsrc"] = route.source
        if route.mtu is not None:
            keys["metrics"] = {"mtu": route.mtu}
        return keys

    async def _dump(self, what: str) -> list[Message]:
        for _ in range(_DUMP_ATTEMPTS):
            try:
                method = getattr(self._socket(), what)
                return [m async for m in await method("dump", family=_dumped(what))]
            except NetlinkDumpInterrupted:
                continue  # The kernel changed under the dump: what came is no picture.
            except (KernelRefusal, OSError) as error:
                self._close()
                raise _refusal(error, of=f"read of every {what}") from error
        msg = f"read of every {what}: the kernel changed under each of the attempts"
        raise NetlinkError(msg)

    async def watch(self) -> AsyncGenerator[KernelEvent, None]:
        """Yield what kind of thing changed, for as long as the caller iterates.

        Starts with EVENTS_LOST once it listens, so that a caller who reads then misses
        nothing; yields it again when the kernel dropped events (ENOBUFS kills the
        socket, a new one takes over).

        Raises:
            NetlinkError: no event socket could be opened.

        """
        while True:
            async with AsyncIPRoute(rcvbuf=self._event_buffer_bytes) as events:
                try:
                    await events.bind(_GROUPS)
                except (KernelRefusal, OSError, KeyError) as error:
                    msg = f"cannot listen to kernel events: {error}"
                    raise NetlinkError(msg) from error
                yield KernelEvent.EVENTS_LOST
                try:
                    while True:
                        async with aclosing(events.get()) as batch:
                            async for message in batch:
                                event = _event(message)
                                if event is not None:
                                    yield event
                except (KernelRefusal, OSError) as error:
                    if _code(error) not in {errno.ENOBUFS, errno.ECONNRESET}:
                        raise _refusal(error, of="read of kernel events") from error
            await asyncio.sleep(_REOPEN_DELAY_S)


def _dumped(what: str) -> int:
    return socket.AF_UNSPEC if what == "link" else _FAMILY


def _event(message: Message) -> KernelEvent | None:
    if message["event"] in _LINK_EVENTS:
        return KernelEvent.LINK
    if message["event"] == "RTM_NEWROUTE" and message["proto"] == ROUTE_PROTOCOL:
        return None  # Our own step's echo.
    return KernelEvent.ROUTING


def _link(
    message: Message, device: str, addresses: list[Message], routes: list[Message]
) -> Link:
    index = message["index"]
    interface = next(
        (
            IPv4Interface(f"{a.get_attr('IFA_LOCAL')}/{a['prefixlen']}")
            for a in addresses
            if a["index"] == index
            and a["scope"] == _SCOPE_UNIVERSE
            and a.get_attr("IFA_LOCAL") is not None
        ),
        None,
    )
    gateways = sorted(
        (route.get_attr("RTA_PRIORITY") or 0, _table(route), gateway)
        for route in routes
        if route["dst_len"] == 0 and route["proto"] != ROUTE_PROTOCOL
        for gateway in _next_hops(route, index)
    )
    return Link(
        device=device,
        index=index,
        admin_up=bool(message["flags"] & _UP),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        address=None if interface is None else str(interface.ip),
        subnet=None if interface is None else str(interface.network),
        gateway=gateways[0][2] if gateways else None,
        point_to_point=bool(message["flags"] & _POINT_TO_POINT),
    )


def _next_hops(route: Message, index: int) -> list[str]:
    hops = [(route.get_attr("RTA_OIF"), route.get_attr("RTA_GATEWAY"))]
    hops += [
        (hop["oif"], hop.get_attr("RTA_GATEWAY"))
        for hop in route.get_attr("RTA_MULTIPATH") or ()
    ]
    return [gateway for oif, gateway in hops if oif == index and gateway is not None]


def _table(message: Message) -> int:
    table = message.get_attr("RTA_TABLE")
    return int(message["table"] if table is None else table)


def _is_our_route(message: Message) -> bool:
    return (
        message["proto"] == ROUTE_PROTOCOL
        and message["type"] in {_UNICAST, _UNREACHABLE}
        and _table(message) in TABLES
    )


def _route(message: Message, names: Mapping[int, str]) -> Route:
    prefix = message.get_attr("RTA_DST")
    index = message.get_attr("RTA_OIF")
    unreachable = message["type"] == _UNREACHABLE
    metrics = message.get_attr("RTA_METRICS")
    return Route(
        table=_table(message),
        destination=(
            "default" if message["dst_len"] == 0 else f"{prefix}/{message['dst_len']}"
        ),
        metric=message.get_attr("RTA_PRIORITY") or 0,
        # An index without a name: the device went between two dumps.
        device=None if unreachable else names.get(index, f"?{index}"),
        gateway=message.get_attr("RTA_GATEWAY"),
        source=message.get_attr("RTA_PREFSRC"),
        mtu=None if metrics is None else metrics.get_attr("RTAX_MTU"),
    )


def _is_our_rule(message: Message) -> bool:
    return (
        message.get_attr("FRA_PROTOCOL") == ROUTE_PROTOCOL
        and (message.get_attr("FRA_PRIORITY") or 0) in PRIORITIES
        and message["action"] == _TO_TABLE
    )


def _rule(message: Message) -> Rule:
    suppressed = message.get_attr("FRA_SUPPRESS_PREFIXLEN")
    table = message.get_attr("FRA_TABLE")
    return Rule(
        priority=message.get_attr("FRA_PRIORITY"),
        table=message["table"] if table is None else table,
        oif=message.get_attr("FRA_OIFNAME"),
        mark=message.get_attr("FRA_FWMARK"),
        mask=message.get_attr("FRA_FWMASK"),
        suppress_default=suppressed not in {None, _NO_SUPPRESSION},
    )


def _rule_keys(rule: Rule) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "priority": rule.priority,
        "table": rule.table,
        "protocol": ROUTE_PROTOCOL,
    }
    if rule.oif is not None:
        keys["oifname"] = rule.oif
    if rule.mark is not None:
        keys |= {"fwmark": rule.mark, "fwmask": rule.mask}
    if rule.suppress_default:
        # "suppress_prefixlength", iproute2's word, would be silently ignored.
        keys["suppress_prefixlen"] = 0
    return keys


def _code(error: KernelRefusal | OSError) -> int:
    return (error.code if isinstance(error, KernelRefusal) else error.errno) or 0


def _refusal(error: KernelRefusal | OSError, *, of: str) -> NetlinkError:
    code = _code(error)
    if code in {errno.EPERM, errno.EACCES}:
        return NetlinkError(
            f"{of}: no permission: needs CAP_NET_ADMIN (run as root or by systemd unit)"
        )
    if code == errno.EEXIST:
        return NetlinkError(f"{of}: another program's route stands in that place")
    return NetlinkError(f"{of}: {error.args[-1] if error.args else error}")
