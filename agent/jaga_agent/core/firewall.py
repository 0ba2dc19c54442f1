"""The nftables ruleset as text: masquerade, flow marks, resets, counters. Pure.

It never changes on a switch, so nft stays out of the switch path. It filters nothing
of what a site does.
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
                f'oifname "{u.device}" ct state new ct mark set '
                f"ct mark & {~MARK_MASK & 0xFFFFFFFF:#010x} | {u.mark:#010x}"
                for u in config.uplinks
            ),
        ),
        _chain(
            "source_nat",
            "type nat hook postrouting priority srcnat",
            f"{out} masquerade",
        ),
        _chain(
            "reset_own",
            "type filter hook output priority filter",
            f"{out} {_MIDSTREAM}",
        ),
    ]
    if config.lan_devices:
        lan_out = f"iifname {_set(config.lan_devices)} {out}"
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


def _chain(name: str, hook: str, *rules: str) -> str:
    lines = (f"{hook}; policy accept;", *rules)
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _set(devices: Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{device}"' for device in devices) + " }"
