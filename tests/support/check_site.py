"""A checker on a wire between two namespaces, and how a test puts faults on it."""

import asyncio
import subprocess

from jaga_agent import targets
from jaga_agent.adapters.checks import Caps, UplinkChecker
from jaga_agent.adapters.fakes import FakeClock

NAME = "sirekap.example"
HOST = "192.0.2.1"
PORTAL = "192.0.2.90"
RESOLVERS = (("192.0.2.53", 53), ("192.0.2.54", 53))
SHORT = Caps(dns_s=1.5, connect_s=0.6, tls_s=0.6, answer_s=0.6, linger_s=0.5)
"""For what ends in silence only."""
RESET_AFTER_HELLO = "tcp dport 443 meta length > 100 reject with tcp reset"


class Site:
    """A checker in the namespace `here`, and what it has told."""

    def __init__(self, wire, authority):
        self.wire = wire
        self.ca = str(authority.root)
        self.clock = FakeClock()

    def target(self, url, **more):
        if url.startswith(("tls", "https")):
            more.setdefault("ca", self.ca)
        return targets.parse("x", url, **more)

    def check(self, *asked, caps=None, between=lambda: None):
        """Check (device, target) pairs in turn with one checker; return the outcomes."""

        async def main():
            told = asyncio.Queue()

            class Listener:
                def checked(self, check_id, outcome):
                    told.put_nowait((check_id, outcome))

            checker = UplinkChecker(Listener(), self.clock, RESOLVERS, caps)
            outcomes = []
            for number, (device, target) in enumerate(asked):
                if number:
                    between()
                checker.send(number, device, target)
                check_id, outcome = await asyncio.wait_for(told.get(), 30)
                assert check_id == number
                outcomes.append(outcome)
            checker.close()
            assert told.empty()
            return outcomes

        return self.wire.run(main)

    def one(self, url, *, device="wan0", caps=None, **more):
        (outcome,) = self.check((device, self.target(url, **more)), caps=caps)
        return outcome

    def rule(self, rule, hook="input", kind="filter"):
        """Set the one rule that the far side has in this hook."""
        subprocess.run(
            ["ip", "netns", "exec", self.wire.there, "nft", "-f", "-"],
            input=(
                f"table ip {hook}\ndelete table ip {hook}\n"
                f"table ip {hook} {{\nchain only {{\n"
                f"type {kind} hook {hook} priority 0\n{rule}\n}}\n}}\n"
            ),
            text=True,
            check=True,
        )

    def to_portal(self, port):
        rule = f"tcp dport {port} dnat to {PORTAL}"
        self.rule(rule, hook="prerouting", kind="nat")


def verdict(outcome):
    return outcome.verdict.value


def reached(outcome):
    """Which phases have a time."""
    return [
        name
        for name in ("dns_s", "connect_s", "tls_s", "first_byte_s")
        if getattr(outcome.phases, name) is not None
    ]


def everything(far, cert):
    far.dns(RESOLVERS[0][0], {NAME: HOST, "kpu.go.id": "203.0.113.9"})
    far.web(HOST, 443, cert=cert)
    far.web(HOST, 80)
    far.tcp(HOST, 7000)
