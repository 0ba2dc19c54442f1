"""The nftables ruleset as text: marks, NAT, resets, counters, IPv6, MSS. Pure.

It never changes on a switch, so nft stays out of the switch path. Of what a site does
by IPv4 it filters nothing; IPv6, which the layout does not steer, is refused. There is
no flowtable: an offloaded flow would pass by the route that a switch replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from jaga_agent.core.routes import MARK_MASK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.routes import RoutedUplink, RoutingConfig

FAMILY = "inet"
TABLE = "jaga"

# New-state TCP without SYN, RST or FIN: a flow whose conntrack entry was flushed with
# its uplink. Carrier NATs drop it mid-stream and say nothing; a reset makes the client
# connect anew at its next packet.
_MIDSTREAM = "ct state new tcp flags & (syn | rst | fin) == 0 reject with tcp reset"

# Masquerade, marks and resets belong to the routes, and those are of IPv4 only.
_V4 = "meta nfproto ipv4"

# Neighbour discovery and everything else that stays on a link.
_V6_BEYOND = "ip6 daddr != { fe80::/10, ff00::/8 }"
# A reset ends a connection attempt at once on every system; for the rest RFC 4443 (3.1)
# has "administratively prohibited".
_RESET_TCP = "meta l4proto tcp reject with tcp reset"
_PROHIBITED = "reject with icmpv6 admin-prohibited"
_ICMPV6 = 58
"""By number: nft looks the name up in /etc/protocols, which a small Debian has not."""

# Of both SYN and SYN-ACK: each tells the other side how much it may send. The kernel
# takes the lesser of the routes there and back, and never raises what was said.
_CLAMP = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"


# What is counted of each uplink: the flows' own evidence, which costs no data. A sign of
# life is asked for (out) and given (in). Retransmissions count again, on purpose: they
# say how hard somebody tries. ICMP, our probes among it, is in none.
_COUNTED_OUT = (
    # Not SYN+ACK: that answers whoever connects to us.
    ("syn_out", "tcp flags & (syn | ack) == syn"),
    ("dns_out", "udp dport 53"),
)
_COUNTED_IN = (
    ("synack_in", "tcp flags & (syn | ack) == (syn | ack)"),
    ("rst_in", "tcp flags & rst == rst"),
    ("dns_in", "udp sport 53"),
)
FLOW_COUNTERS = tuple(name for name, _ in (*_COUNTED_OUT, *_COUNTED_IN))


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What `nft -f -` takes, in one transaction, and the stamp it leaves in the table."""

    text: str
    stamp: str


def ruleset(config: RoutingConfig) -> Ruleset:
    """Return the ruleset of the site.

    The first two lines make the load idempotent: whatever stood in our table goes,
    and goes only if the new rules are taken.
    """
    body = _body(config)
    stamp = sha256(body.encode()).hexdigest()[:16]
    text = (
        f"table {FAMILY} {TABLE}\n"
        f"delete table {FAMILY} {TABLE}\n"
        f"table {FAMILY} {TABLE} {{\n"
        f'\tcomment "{stamp}"\n'
        f"{body}"
        "}\n"
    )
    return Ruleset(text, stamp)


def _body(config: RoutingConfig) -> str:
    if not config.uplinks:
        return ""
    out = f"oifname {_set(config.devices)}"
    chains = [
        _chain(
            "mark_flows",
            "type filter hook postrouting priority mangle",
            *(
                f'{_V4} oifname "{u.device}" ct state new ct mark set '
                f"ct mark & {~MARK_MASK & 0xFFFFFFFF:#010x} | {u.mark:#010x}"
                for u in config.uplinks
            ),
        ),
        _chain(
            "source_nat",
            "type nat hook postrouting priority srcnat",
            f"{_V4} {out} masquerade",
        ),
        _chain(
            "reset_own",
            "type filter hook output priority filter",
            f"{_V4} {out} {_MIDSTREAM}",
        ),
    ]
    if config.lan_devices:
        lan_out = f"{_V4} iifname {_set(config.lan_devices)} {out}"
        chains.append(
            _chain(
                "reset_lan",
                "type filter hook forward priority filter",
                f"{lan_out} {_MIDSTREAM}",
                # Conntrack translates no invalid packet: it would leave with the LAN's
                # own source address and could not come back.
                f"{lan_out} ct state invalid drop",
            )
        )
        chains.append(_clamp_mss(config))
    if config.refuse_ipv6:
        chains += _refuse_ipv6(config)
    return _counters(config) + "".join(chains) + "".join(_count_chains(config))


def counter_names(config: RoutingConfig) -> dict[str, tuple[UplinkName, str]]:
    """Return each named counter of our table: whose it is, and which of FLOW_COUNTERS.

    By the uplink's index, as its table and its mark: a name may hold what nft's
    identifiers may not.
    """
    return {
        _counter(kind, uplink): (uplink.name, kind)
        for uplink in config.uplinks
        for kind in FLOW_COUNTERS
    }


def _counter(kind: str, uplink: RoutedUplink) -> str:
    return f"{kind}_{uplink.index}"


def _counters(config: RoutingConfig) -> str:
    return "".join(f"\tcounter {name} {{ }}\n" for name in counter_names(config))


def _count_chains(config: RoutingConfig) -> tuple[str, str]:
    """Return the chains that count: one lookup for each kind, however many uplinks.

    Where everything passes once, forwarded and the Pi's own alike: behind all that may
    still drop or reject on the way out, before all of it (conntrack, too) on the way in.
    """
    out = _chain(
        "count_out",
        "type filter hook postrouting priority srcnat + 10",
        *(f"{what} {_by_device(config, 'oif', kind)}" for kind, what in _COUNTED_OUT),
    )
    into = _chain(
        "count_in",
        "type filter hook prerouting priority raw",
        *(f"{what} {_by_device(config, 'iif', kind)}" for kind, what in _COUNTED_IN),
    )
    return out, into


def _by_device(config: RoutingConfig, way: str, kind: str) -> str:
    of = ", ".join(f'"{u.device}" : "{_counter(kind, u)}"' for u in config.uplinks)
    return f"counter name {way}name map {{ {of} }}"


def _clamp_mss(config: RoutingConfig) -> str:
    """Tell both ends of a LAN's connection what the way between them carries.

    Somewhere upstream "fragmentation needed" is often filtered, and an upload hangs
    after its first full segment (RFC 2923, 2.1).
    """
    lan, out = _set(config.lan_devices), _set(config.devices)
    return _chain(
        "clamp_mss",
        "type filter hook forward priority mangle",
        f"iifname {lan} oifname {out} {_CLAMP}",
        f"iifname {out} oifname {lan} {_CLAMP}",
    )


def _refuse_ipv6(config: RoutingConfig) -> list[str]:
    """Refuse at once what would leave by an uplink on IPv6, so that IPv4 is tried.

    Silence would cost a phone its connection timeout. Before routing, because a Pi that
    forwards no IPv6 drops such packets without a word, and one that does must not.
    """
    chains = []
    if config.lan_devices:
        beyond = (
            f"iifname {_set(config.lan_devices)} {_V6_BEYOND} fib daddr type != local"
        )
        chains.append(
            _chain(
                "refuse_ipv6_lan",
                "type filter hook prerouting priority filter",
                # A refusal would follow the default route, out by an uplink.
                f"{beyond} fib saddr . iif oif missing drop",
                f"{beyond} {_RESET_TCP}",
                f"{beyond} {_PROHIBITED}",
            )
        )
    own = f"oifname {_set(config.devices)} {_V6_BEYOND} ct state new"
    chains.append(
        _chain(
            "refuse_ipv6_own",
            "type filter hook output priority filter",
            f"{own} {_RESET_TCP}",
            # Neighbours are asked by ICMPv6, also at global addresses.
            f"{own} meta l4proto != {_ICMPV6} {_PROHIBITED}",
        )
    )
    return chains


def _chain(name: str, hook: str, *rules: str) -> str:
    lines = (f"{hook}; policy accept;", *rules)
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _set(devices: Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{device}"' for device in devices) + " }"
