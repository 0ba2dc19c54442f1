"""A lab for each test, and a gateway made by hand on its Pi.

The gateway is what the agent will do, reduced to what proves the lab: policy rules,
NAT, one default route that is moved when the test says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

RESETS = """
table inet resets {
 chain forward {
  type filter hook forward priority filter; policy accept;
  iifname "lan0" ct state new tcp flags & (syn | rst | fin) == 0 reject with tcp reset
 }
}
"""


@dataclass
class Gateway:
    """A Pi set up by hand; nobody watches, the test switches."""

    lab: Lab

    def start(self) -> None:
        pi = self.lab.pi
        # rp_filter 0, not 2: the loose check too wants a route back, and drops every
        # probe's reply while the active table has nothing but `unreachable`.
        pi.sysctl({"net.ipv4.conf.all.rp_filter": 0, "net.ipv4.ip_forward": 1})
        rules = ["rule add priority 1000 lookup main suppress_prefixlength 0"]
        routes = ["route add unreachable default metric 4294967295 table 100"]
        for uplink in self.lab.uplinks.values():
            rules.append(self.rule(uplink.name))
            routes += self.routes(uplink.name)
        rules.append("rule add priority 2000 lookup 100")
        pi.ip(*rules, *routes)
        pi.nft(
            "table ip nat { chain postrouting {"
            " type nat hook postrouting priority srcnat; policy accept;\n"
            ' oifname "wan*" masquerade\n} \n}\n'
        )

    def rule(self, name: str) -> str:
        plan = self.lab.uplinks[name].plan
        table = 101 + plan.index
        return f"rule add priority {1000 + table} oif {plan.device} lookup {table}"

    def routes(self, name: str) -> list[str]:
        """A table for the probes that are bound to the device."""
        plan = self.lab.uplinks[name].plan
        table = f"table {101 + plan.index}"
        return [
            f"route replace {plan.network} dev {plan.device} scope link {table}",
            f"route replace default via {plan.gateway} dev {plan.device} {table}",
            f"route replace unreachable default metric 4294967295 {table}",
        ]

    def switch(self, name: str) -> None:
        plan = self.lab.uplinks[name].plan
        self.lab.pi.ip(
            f"route replace default via {plan.gateway} dev {plan.device} table 100"
        )

    def forget_connections(self) -> None:
        self.lab.pi.run(["conntrack", "-F"])

    def send_resets(self) -> None:
        self.lab.pi.nft(RESETS)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.create() as made:
        yield made


@pytest.fixture
def gateway(lab: Lab) -> Gateway:
    gateway = Gateway(lab)
    gateway.start()
    return gateway


@dataclass
class Ping:
    sent: int
    answered: int
    mean_ms: float | None


@pytest.fixture
def ping(lab: Lab):
    """Ping from the Pi, bound to an uplink's device as a probe is."""

    def send(
        uplink: str, target: str = "203.0.113.1", count: int = 5, wait_s: float = 0.5
    ) -> Ping:
        device = lab.uplinks[uplink].device
        argv = ["ping", "-nq", f"-c{count}", "-i0.02", f"-W{wait_s}"]
        done = lab.pi.run([*argv, "-I", device, target])
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
        assert counts, done.stdout + done.stderr
        mean = re.search(r"= [\d.]+/([\d.]+)/", done.stdout)
        return Ping(int(counts[1]), int(counts[2]), float(mean[1]) if mean else None)

    return send
