"""A site of namespaces: phone, Pi, and two HiLink twins; gone after each test."""

import json
import secrets
import select
import subprocess
import sys
from pathlib import Path

import pytest

IP = "ip"
WORKER = Path(__file__).with_name("worker.py")
MAC_OF_PI = "0c:5b:8f:27:9a:64"
MAC_OF_STICK = "02:50:f3:00:00:01"
ADDRESS = "192.168.8.100/24"
GATEWAY = "192.168.8.1"
TARGET = "203.0.113.1"
DEADLINE_S = 20

# The carrier's NAT: what is not begun here is dropped without a word.
CARRIER_NAT = """
table inet carrier {
  chain input {
    type filter hook input priority filter; policy accept;
    ct state new tcp flags & (syn | rst | fin) == 0 drop
    ct state invalid drop
  }
}
"""


def run(*command, stdin=None):
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class RemoteError(Exception):
    """What the worker's command raised: "Type: message"."""


class Worker:
    """A worker in a namespace; each of its commands is a method."""

    def __init__(self, namespace, *arguments):
        self._process = subprocess.Popen(
            [IP, "netns", "exec", namespace, sys.executable, WORKER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready\n"

    def _line(self):
        ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
        assert ready, "the worker does not answer"
        return self._process.stdout.readline()

    def __getattr__(self, name):
        def call(**arguments):
            self.begin(name, **arguments)
            return self.end()

        return call

    def begin(self, name, **arguments):
        """Send a command, and do not wait for it."""
        self._process.stdin.write(json.dumps([name, arguments]) + "\n")
        self._process.stdin.flush()

    def end(self):
        """Return what the command begun has returned."""
        line = self._line()
        assert line, "the worker died"
        reply = json.loads(line)
        if "error" in reply:
            raise RemoteError(reply["error"])
        return reply["ok"]

    def kill(self):
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class Monitor:
    """Every route, rule, link and address event of the Pi, as `ip monitor` prints it.

    Routes to 198.51.100.0/24, which nothing else uses, tell where it starts and ends.
    """

    def __init__(self, site):
        self._site = site
        self._process = subprocess.Popen(
            [IP, "-n", site.pi, "monitor", "route", "rule", "link", "address"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._read = b""

    def __enter__(self):
        attempts = iter(range(1, 250))
        while b"198.51.100." not in self._read:
            self._mark(next(attempts))
            if select.select([self._process.stdout], [], [], 0.1)[0]:
                self._read += self._process.stdout.read1()
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _mark(self, n):
        self._site.ip(self._site.pi, f"route add 198.51.100.{n}/32 dev lo")

    def heard_since_start(self):
        """Return the lines that are not our marks, up to now."""
        self._mark(250)
        while b"198.51.100.250" not in self._read:
            ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
            assert ready, "the monitor fell silent"
            self._read += self._process.stdout.read1()
        lines = self._read.decode().splitlines()
        return [line for line in lines if "198.51.100." not in line]


class Site:
    """Phone (10.7.0.2) - lan0 of the Pi - wan0 and wan1 - sticks 0 and 1."""

    def __init__(self):
        tag = secrets.token_hex(3)
        self.pi = f"jk-pi-{tag}"
        self.phone = f"jk-phone-{tag}"
        self.sticks = (f"jk-s0-{tag}", f"jk-s1-{tag}")
        self._workers = []

    def build(self):
        for namespace in (self.pi, self.phone, *self.sticks):
            run("ip", "netns", "add", namespace)
            self.ip(namespace, "link set lo up")
        # No duplicate address detection among the events that a test waits for.
        self.pi_sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        self.ip(self.pi, f"link add lan0 type veth peer name eth0 netns {self.phone}")
        self.ip(self.pi, "addr add 10.7.0.1/24 dev lan0")
        self.ip(self.pi, "link set lan0 up")
        self.ip(self.phone, "addr add 10.7.0.2/24 dev eth0")
        self.ip(self.phone, "link set eth0 up")
        self.ip(self.phone, "route add default via 10.7.0.1")
        for n, stick in enumerate(self.sticks):
            self.ip(stick, f"addr add {TARGET}/32 dev lo")
            self.plug(n)
            run("ip", "netns", "exec", stick, "nft", "-f", "-", stdin=CARRIER_NAT)
            self.start(stick, "serve", f"stick{n}")

    def plug(self, n, *, default=True):
        """Plug stick n in: the same MAC, network and address as its twin."""
        stick = self.sticks[n]
        self.ip(
            self.pi,
            f"link add wan{n} address {MAC_OF_PI} type veth "
            f"peer name eth0 address {MAC_OF_STICK} netns {stick}",
        )
        self.ip(stick, f"addr add {GATEWAY}/24 dev eth0")
        self.ip(stick, "link set eth0 up")
        self.ip(self.pi, f"link set wan{n} up")
        self.ip(self.pi, f"addr add {ADDRESS} dev wan{n} noprefixroute")
        if default:
            self.dhcp_default(n)

    def dhcp_default(self, n, gateway=GATEWAY, table="main"):
        """Add what a DHCP client adds."""
        self.ip(
            self.pi,
            f"route add default via {gateway} dev wan{n} onlink "
            f"metric {1000 + n} proto dhcp table {table}",
        )

    def carrier(self, n, state):
        """Pull the cable of stick n ("down") or put it back ("up")."""
        self.ip(self.sticks[n], f"link set eth0 {state}")

    def ip(self, namespace, words, stdin=None):
        return run("ip", "-n", namespace, *words.split(), stdin=stdin)

    def sh(self, namespace, script, stdin=None):
        return run("ip", "netns", "exec", namespace, "sh", "-c", script, stdin=stdin)

    def pi_sh(self, script):
        return self.sh(self.pi, script)

    def nft(self, words, stdin=None):
        return run("ip", "netns", "exec", self.pi, "nft", *words.split(), stdin=stdin)

    def monitor(self):
        return Monitor(self)

    def start(self, namespace, *arguments):
        worker = Worker(namespace, *arguments)
        self._workers.append(worker)
        return worker

    def agent(self, **settings):
        uplinks = [("first", "wan0", 1, 1), ("second", "wan1", 2, 2)]
        config = {"uplinks": uplinks, "lan": ["lan0"]} | settings
        return self.start(self.pi, "agent", json.dumps(config))

    def client(self):
        return self.start(self.phone, "client")

    def flows(self):
        """Return the tracked TCP connections by their mark."""
        listed = run("ip", "netns", "exec", self.pi, "conntrack", "-L", "-p", "tcp")
        marks = [
            int(word.removeprefix("mark="))
            for line in listed.splitlines()
            if "ESTABLISHED" in line
            for word in line.split()
            if word.startswith("mark=")
        ]
        return {mark: marks.count(mark) for mark in set(marks)}

    def demolish(self):
        for worker in self._workers:
            worker.kill()
        for namespace in (self.phone, self.pi, *self.sticks):
            subprocess.run([IP, "netns", "del", namespace], check=False)


@pytest.fixture
def site():
    place = Site()
    try:
        place.build()
        yield place
    finally:
        place.demolish()
