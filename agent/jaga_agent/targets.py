"""What is probed: a target's URL taken apart. Text in, values out; asks no network.

icmp://1.1.1.1            udp-echo://192.0.2.1:7007              pulses
tcp://host:443            tls://host:8883                        checks
dns://8.8.8.8/kpu.go.id   (the server; the name asked for)
http://host/path          https://host/path
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Never
from urllib.parse import urlsplit

from jaga_agent.core.model import PULSE_KINDS, Role, TargetKind, TargetName

CHECK_INTERVAL_S: Final = 900.0
"""One light request in 15 min through each uplink: 435,000 polling sites would be 480
requests a second to the national tally system."""

_PORTS = {
    TargetKind.ICMP: None,
    TargetKind.DNS: 53,
    TargetKind.HTTP: 80,
    TargetKind.HTTPS: 443,
}
"""Without a port in the URL; the other kinds must name one."""
_WITH_PATH = frozenset({TargetKind.DNS, TargetKind.HTTP, TargetKind.HTTPS})
_LITERAL = frozenset({TargetKind.ICMP, TargetKind.DNS, TargetKind.UDP_ECHO})
_EXAMPLE = {
    TargetKind.ICMP: "icmp://1.1.1.1",
    TargetKind.UDP_ECHO: "udp-echo://192.0.2.1:7007",
    TargetKind.TCP: "tcp://host.example:443",
    TargetKind.DNS: "dns://8.8.8.8/kpu.go.id",
    TargetKind.TLS: "tls://host.example:443",
    TargetKind.HTTP: "http://host.example/",
    TargetKind.HTTPS: "https://host.example/",
}

# RFC 1123 (2.1) with the underscore that some names have; RFC 1035 (2.3.4) lengths.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NAME_BYTES = 253


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """One target, ready to be asked."""

    name: TargetName
    kind: TargetKind
    role: Role
    host: str
    """An IPv4 address, or a name in small letters without a final dot."""
    port: int | None
    """None: the kind has no ports (icmp)."""
    path: str = ""
    """http, https: path and query, from the slash on."""
    query_name: str | None = None
    """dns: the name to ask for."""
    expect_status: tuple[int, ...] = ()
    """http, https: statuses that are right; empty: 200 to 399 on the same host."""
    expect_text: str | None = None
    """http, https: stands in the first 4 KiB of the body."""
    ca: str | None = None
    """tls, https: file of the CAs that are trusted; None: the system's."""
    interval_s: float = CHECK_INTERVAL_S
    """Checks only: between two through the same uplink."""

    @property
    def is_pulse(self) -> bool:
        """Whether heartbeats and races use it; otherwise it is a check."""
        return self.kind in PULSE_KINDS

    @property
    def address(self) -> str:
        """What a prober takes: "host" where there are no ports, else "host:port"."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def is_literal(self) -> bool:
        """Whether the host is an address, so that nothing must be resolved."""
        return _address(self.host) is not None


def parse(
    name: str,
    url: str,
    role: Role = Role.REFERENCE,
    *,
    expect_status: tuple[int, ...] = (),
    expect_text: str | None = None,
    ca: str | None = None,
    interval_s: float | None = None,
) -> ProbeTarget:
    """Return the target that a URL names; raises ValueError with the fix."""
    kind = _kind(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        _refuse(url, f"not a URL; write it like {_EXAMPLE[kind]}")
    if parts.username is not None or parts.fragment:
        _refuse(url, f"no user and no `#`; write it like {_EXAMPLE[kind]}")
    host = _host(url, kind, parts.hostname or "")
    port = _port(url, kind, port)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    query_name = None
    if kind not in _WITH_PATH and path not in {"", "/"}:
        _refuse(url, f"{kind.value}:// has no path; leave `{path}` out")
    if kind is TargetKind.DNS:
        query_name = host_name(path.removeprefix("/"))
        if query_name is None:
            _refuse(url, f"name what to ask for, like {_EXAMPLE[kind]}")
    web = kind in {TargetKind.HTTP, TargetKind.HTTPS}
    return ProbeTarget(
        name=TargetName(name),
        kind=kind,
        role=role,
        host=host,
        port=port,
        path=(path or "/") if web else "",
        query_name=query_name,
        expect_status=expect_status,
        expect_text=expect_text,
        ca=ca,
        interval_s=CHECK_INTERVAL_S if interval_s is None else interval_s,
    )


def host_name(text: str) -> str | None:
    """Return a host name as it is kept here, or None if `text` is none."""
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _NAME_BYTES or not all(map(_LABEL.fullmatch, labels)):
        return None
    # All digits at the end is an address, and a wrong one (RFC 1123, 2.1).
    return None if labels[-1].isdigit() else name


def _kind(url: str) -> TargetKind:
    # urlsplit drops line ends and tabs without a word; in a request they would be
    # somebody's header.
    if not re.fullmatch(r"[!-~]*", url):
        _refuse(url, "holds a space or a letter that is not ASCII; write it as %XX")
    scheme, separator, _ = url.partition("://")
    try:
        return TargetKind(scheme if separator else "")
    except ValueError:
        kinds = ", ".join(f"{kind.value}://" for kind in TargetKind)
        _refuse(url, f"begin it with one of {kinds}")


def _host(url: str, kind: TargetKind, host: str) -> str:
    if not host:
        _refuse(url, f"names no host; write it like {_EXAMPLE[kind]}")
    if ":" in host:
        _refuse(url, "IPv6 is not probed: the site's uplinks carry IPv4")
    if _address(host) is not None:
        return host
    if kind in _LITERAL:
        _refuse(
            url,
            f"want {kind.value}:// and an IPv4 address: a name would be "
            "resolved through one provider and blamed on another",
        )
    name = host_name(host)
    if name is None:
        _refuse(url, f"`{host}` is neither a host name nor an IPv4 address")
    return name


def _port(url: str, kind: TargetKind, port: int | None) -> int | None:
    if port == 0:
        _refuse(url, "port 0 is none; want 1 to 65535")
    if kind is TargetKind.ICMP:
        if port is not None:
            _refuse(url, f"ICMP has no ports; leave `:{port}` out")
        return None
    if port is None and kind not in _PORTS:
        _refuse(url, f"add the port, like {_EXAMPLE[kind]}")
    return _PORTS[kind] if port is None else port


def _address(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def _refuse(url: str, problem: str) -> Never:
    msg = f"`{url}`: {problem}"
    raise ValueError(msg)
