"""The table of what probes cost, against the kernel's own count of the packets."""

import asyncio
import json
import subprocess

import pytest

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.icmp import IcmpProber
from jaga_agent.core.cost import ICMP_ERROR_BYTES, PULSES, Spent
from support.waiting import until_async

pytestmark = pytest.mark.netns

# Bytes of IP, as `ip` has them in its total length; what is below is not counted.
COUNT = """
table inet weigh {
  counter requests { }
  counter replies { }
  counter errors { }
  chain out {
    type filter hook postrouting priority 0; policy accept;
    oifname "wan0" icmp type echo-request counter name requests
  }
  chain in {
    type filter hook prerouting priority 0; policy accept;
    iifname "wan0" icmp type echo-reply counter name replies
    iifname "wan0" icmp type destination-unreachable counter name errors
  }
}
"""


@pytest.fixture
def weighed(wire):
    def nft(*words, stdin=None):
        command = ["ip", "netns", "exec", wire.here, "nft", *words]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, input=stdin
        ).stdout

    def counters():
        listed = json.loads(nft("-j", "list", "counters", "table", "inet", "weigh"))
        return {
            each["counter"]["name"]: each["counter"]
            for each in listed["nftables"]
            if "counter" in each
        }

    nft("-f", "-", stdin=COUNT)
    return counters


class Weigher:
    """The prober's listener, which keeps the agent's account."""

    def __init__(self):
        self.spent, self.clock, self.heard = Spent(), BoottimeClock(), 0

    def ask(self, prober, probe_id, address):
        self.spent.sent(probe_id, "first", "icmp", self.clock.now())
        prober.send(probe_id, "wan0", address)

    def answered(self, probe_id, rtt_s):
        self.spent.answered(probe_id, self.clock.now())
        self.heard += 1

    def refused(self, probe_id, reason):
        self.spent.refused(probe_id, self.clock.now())
        self.heard += 1

    def not_sent(self, probe_id, reason):
        self.spent.not_sent(probe_id, self.clock.now())
        self.heard += 1


def probe(wire, *addresses):
    async def main():
        weigher = Weigher()
        prober = IcmpProber(weigher, weigher.clock)
        try:
            for probe_id, address in enumerate(addresses, 1):
                weigher.ask(prober, probe_id, address)
            await until_async(lambda: weigher.heard == len(addresses))
            await asyncio.sleep(0)
        finally:
            prober.close()
        return weigher.spent.of("first", weigher.clock.now())

    return wire.run(main)


def test_pings_weigh_what_the_table_says_to_the_byte(wire, weighed):
    spent = probe(wire, *[wire.target] * 20)
    seen = weighed()
    assert (seen["requests"]["packets"], seen["replies"]["packets"]) == (20, 20)
    assert seen["requests"]["bytes"] == 20 * PULSES["icmp"].request_bytes
    assert seen["replies"]["bytes"] == 20 * PULSES["icmp"].reply_bytes
    assert spent == seen["requests"]["bytes"] + seen["replies"]["bytes"] == 20 * 64


def test_an_icmp_error_weighs_what_linux_routers_send(wire, weighed):
    spent = probe(wire, "198.51.100.1")
    seen = weighed()
    assert (seen["errors"]["packets"], seen["errors"]["bytes"]) == (1, ICMP_ERROR_BYTES)
    assert spent == seen["requests"]["bytes"] + seen["errors"]["bytes"]


def test_what_is_not_sent_weighs_nothing(wire, weighed):
    wire.ip(wire.here, "link", "set", "wan0", "down")
    assert probe(wire, wire.target) == 0
    assert weighed()["requests"]["bytes"] == 0
