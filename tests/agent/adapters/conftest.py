import asyncio
import contextlib
import ctypes
import secrets
import subprocess
import threading
from dataclasses import dataclass

import pytest

from support.certificates import Authority
from support.check_site import NAME, PORTAL, RESOLVERS, Site
from support.far_side import FarSide

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Wire:
    """Two namespaces of this test alone: `here` has wan0 and wan1, both to `there`.

    `target` is an address of `there` that both devices lead to.
    """

    here: str
    there: str
    target: str = "192.0.2.1"

    def ip(self, netns, *args):
        subprocess.run(["ip", "-n", netns, *args], check=True)

    def sysctl(self, netns, *settings):
        command = ["ip", "netns", "exec", netns, "sysctl", "-qw", *settings]
        subprocess.run(command, check=True)

    def plug(self, n):
        """Create wan<n> with its other end, as a USB modem appears."""
        pair = [f"wan{n}", "type", "veth", "peer", "name", f"far{n}"]
        self.ip(self.here, "link", "add", *pair, "netns", self.there)
        self.ip(self.here, "addr", "add", f"10.9.{n}.2/24", "dev", f"wan{n}")
        self.ip(self.there, "addr", "add", f"10.9.{n}.1/24", "dev", f"far{n}")
        self.ip(self.there, "link", "set", f"far{n}", "up")
        self.up(n)

    def up(self, n):
        """Set wan<n> up, with the routes that a fall has taken away."""
        self.ip(self.here, "link", "set", f"wan{n}", "up")
        for network in ("192.0.2.0/24", "198.51.100.0/24"):
            route = [network, "via", f"10.9.{n}.1", "dev", f"wan{n}"]
            self.ip(self.here, "route", "add", *route, "metric", str(n + 1))

    def unplug(self, n):
        self.ip(self.here, "link", "del", f"wan{n}")

    def run(self, main, *, netns=None):
        """Run a coroutine function in a thread that lives in the namespace."""
        outcome = {}

        def inside():
            with open(f"/run/netns/{netns or self.here}") as ns:  # noqa: PTH123 (a descriptor is what is needed)
                if LIBC.setns(ns.fileno(), CLONE_NEWNET) != 0:
                    outcome["error"] = OSError(ctypes.get_errno(), "setns")
                    return
            try:
                outcome["value"] = asyncio.run(main())
            except BaseException as error:  # noqa: BLE001 (handed to the test below)
                outcome["error"] = error

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]


@pytest.fixture
def wire():
    tag = secrets.token_hex(4)
    wire = Wire(f"jaga-here-{tag}", f"jaga-there-{tag}")
    with contextlib.ExitStack() as stack:
        for netns in (wire.here, wire.there):
            subprocess.run(["ip", "netns", "add", netns], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", netns], check=True)
            wire.ip(netns, "link", "set", "lo", "up")
            quiet = [f"net.ipv4.conf.{c}.rp_filter=0" for c in ("all", "default")]
            wire.sysctl(netns, *quiet, "net.ipv4.conf.all.arp_ignore=1")
        wire.ip(wire.there, "addr", "add", f"{wire.target}/32", "dev", "lo")
        wire.sysctl(wire.there, "net.ipv4.ip_forward=1")
        wire.ip(wire.there, "route", "add", "unreachable", "198.51.100.0/24")
        for n in (0, 1):
            wire.plug(n)
        yield wire


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def cert(authority):
    others = [f"{n}.sirekap.example" for n in ("www", "api", "web", "upload", "info")]
    return authority.issue("sirekap", NAME, *others, "kpu.example", "www.kpu.example")


@pytest.fixture
def far(wire):
    for n in (0, 1):
        wire.sysctl(wire.here, f"net.ipv6.conf.wan{n}.disable_ipv6=1")
        wire.sysctl(wire.there, f"net.ipv6.conf.far{n}.disable_ipv6=1")
    for address in (PORTAL, *(server for server, _ in RESOLVERS)):
        wire.ip(wire.there, "addr", "add", f"{address}/32", "dev", "lo")
    with FarSide(wire.there) as far:
        yield far


@pytest.fixture
def site(wire, authority):
    return Site(wire, authority)
