"""The Pi as a plain router, for peers: what any multi-WAN set-up needs, as text.

Policy rules, a table for each device, masquerade, one default in table 100. Flows are
marked by uplink so that a peer that kills states can find them. No resets: that is
this project's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab import UplinkPlan

MARK_MASK = 0xFF
SYSCTLS = {
    # 0, not 2: the loose check too drops the replies to probes of a standby.
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.ip_forward": 1,
}
LINKDOWN = {"net.ipv4.conf.all.ignore_routes_with_linkdown": 1}
LAST = "metric 4294967295"


def mark(plan: UplinkPlan) -> int:
    """Return the connection mark of an uplink's flows."""
    return plan.index + 1


def default(device: str, gateway: str, metric: int = 1) -> str:
    """Return the `ip` line that makes a device carry (or stand by, by metric)."""
    return f"route replace default via {gateway} dev {device} table 100 metric {metric}"


def rules(plans: Iterable[UplinkPlan]) -> list[str]:
    """Return the policy rules, once for each Pi."""
    return [
        "rule add priority 1000 lookup main suppress_prefixlength 0",
        *(
            f"rule add priority {1101 + p.index} oif {p.device} lookup {101 + p.index}"
            for p in plans
        ),
        "rule add priority 2000 lookup 100",
        f"route add unreachable default {LAST} table 100",
    ]


def tables(plans: Iterable[UplinkPlan]) -> list[str]:
    """Return each device's table; repeatable, and needed again after a re-plug."""
    lines = []
    for plan in plans:
        table = f"table {101 + plan.index}"
        lines += [
            f"route replace {plan.network} dev {plan.device} scope link {table}",
            f"route replace default via {plan.gateway} dev {plan.device} {table}",
            f"route replace unreachable default {LAST} {table}",
        ]
    return lines


def nat(plans: Iterable[UplinkPlan]) -> str:
    """Return masquerade and the flows' marks."""
    marks = "\n  ".join(
        f'oifname "{p.device}" ct state new ct mark set {mark(p)}' for p in plans
    )
    return f"""
table ip gateway {{
 chain marks {{
  type filter hook postrouting priority mangle; policy accept;
  {marks}
 }}
 chain postrouting {{
  type nat hook postrouting priority srcnat; policy accept;
  oifname "wan*" masquerade
 }}
}}
"""
