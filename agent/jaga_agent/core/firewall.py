"""The nftables ruleset as text: masquerade, flow marks, resets. Pure.

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

    from jaga_agent.core.routes import RoutingConfig

FAMILY = "inet"
TABLE = "jaga"

# New-state TCP without SYN, RST or FIN: a flow whose conntrack entry was flushed with
# its uplink. Carrier NATs drop it mid-stream and say nothing; a reset makes the client
# connect anew at its next packet.
_MIDSTREAM = "ct state new tcp flags & (syn | rst | fin) == 0 reject with tcp reset"


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
    return "".join(chains)


def _chain(name: str, hook: str, *rules: str) -> str:
    lines = (f"{hook}; policy accept;", *rules)
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _set(devices: Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{device}"' for device in devices) + " }"
