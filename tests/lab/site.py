"""Build the whole site, hand out its parts, take it down again.

    with Lab.create() as lab:
        lab.uplinks["telkomsel"].blackhole()

Only namespaces of its own are touched, whose names carry the lab's tag. Whatever
happens while it is built, it is taken down: by `close`, at exit, at SIGTERM, and when
it was killed by the next lab's `sweep`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any, Self

from lab import certificates, leftovers, topology
from lab.broker import Broker
from lab.errors import LabError
from lab.faults import Internet, Uplink
from lab.leftovers import ETC_NETNS, Record, process_start
from lab.links import RelayClient
from lab.measure import Phone
from lab.namespace import Namespace, command, end, find, ready_line, require
from lab.resolver import Resolver

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


PREFIX = "jaga"
FOLLOWED = '"$@" & trap "kill $! 2>/dev/null" TERM; wait'
"""A shell that hands our death on: dnsmasq sets its credentials, at which the kernel
forgets PR_SET_PDEATHSIG (prctl(2))."""


class Lab:
    """A polling site: phone, Pi, modems, carriers, internet. Make it with `create`."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.plans = topology.UPLINKS
        self.directory = Path(tempfile.gettempdir()) / f"{PREFIX}-lab-{tag}"
        """The lab's files (logs, broker); removed when it closes."""
        self.ca = self.directory / "tls" / "ca.crt"
        """Certificate of the authority behind the Sirekap stand-in's TLS."""
        self.pi = Namespace(self._name("pi"))
        self.phone = Phone(self._name("phone"), self.directory)
        self.internet = Internet(self._name("internet"))
        self.carrier = Namespace(self._name("carrier"))
        self.modems = {p.modem: Namespace(self._name(p.modem)) for p in self.plans}
        self.namespaces: dict[str, Namespace] = {
            "phone": self.phone,
            "pi": self.pi,
            "carrier": self.carrier,
            "internet": self.internet,
            **self.modems,
        }
        self.uplinks: dict[str, Uplink] = {}
        self._relay: RelayClient | None = None
        self._services: list[subprocess.Popen[Any]] = []
        self._record: Record | None = None
        self._owner = os.getpid()

    def _name(self, role: str) -> str:
        return f"{PREFIX}-{self.tag}-{role}"

    @classmethod
    def create(cls, tag: str | None = None) -> Self:
        """Build a lab. Raises LabError (one line) when it cannot; nothing is left."""
        require("ip", "nft", "openssl")
        if not Path("/dev/net/tun").exists():
            msg = "/dev/net/tun is missing: modprobe tun"
            raise LabError(msg)
        leftovers.sweep()
        lab = cls(tag or secrets.token_hex(3))
        _guard()
        try:
            for step in lab.steps():
                step()
        except BaseException:
            lab.close()
            raise
        return lab

    def steps(self) -> list[Callable[[], None]]:
        """Return how it is built, in order."""
        return [
            self._claim,
            self._add_namespaces,
            self._connect,
            self._configure,
            self._start_links,
            self._start_services,
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take everything down. Repeatable; a forked child's call does nothing."""
        if os.getpid() != self._owner or self._record is None:
            return
        if self._relay is not None:
            self._relay.close()
        end([p for space in self.namespaces.values() for p in space.processes])
        leftovers.remove(self._record)
        self._record = None
        _open.discard(self)

    @staticmethod
    def sweep() -> list[str]:
        """Remove what killed labs left; return their tags."""
        return leftovers.sweep()

    def start_broker(self, config: str | None = None) -> Broker:
        """Start Mosquitto in the internet; see `Broker` for `config`."""
        return Broker(
            self.directory / "broker",
            address=topology.BROKER,
            port=topology.BROKER_PORT,
            config=config,
            start=self.internet.popen,
        ).start()

    def start_resolver(self, servers: str | None = None, extra: str = "") -> Resolver:
        """Start the LAN's resolver on the Pi, with the shipped configuration.

        `servers` is its list at the start: without it, the lab's DNS through every
        uplink. `extra` is a drop-in (e.g. DHCP).
        """
        if servers is None:
            servers = "".join(
                f"server={topology.DNS}@{plan.device}\n" for plan in self.plans
            )

        def start(arguments: list[str]) -> subprocess.Popen[Any]:
            program = find("dnsmasq") or "dnsmasq"
            # Root may go on as root: its files are in the lab's directory.
            return self.pi.popen(
                ["sh", "-c", FOLLOWED, "sh", program, "--user=root", *arguments]
            )

        return Resolver(self.directory / "dns", start, servers, extra)

    def restore(self) -> None:
        """Undo every fault of every uplink and of the internet."""
        for uplink in self.uplinks.values():
            uplink.restore()
        self.internet.restore()

    def _claim(self) -> None:
        start = process_start(self._owner)
        if start is None:
            msg = "/proc does not show this process: mount /proc"
            raise LabError(msg)
        names = [space.name for space in self.namespaces.values()]
        record = Record(self.tag, self._owner, start, names, str(self.directory))
        if record.path.exists() or self.directory.exists():
            msg = f"a lab {self.tag} exists already: choose another tag"
            raise LabError(msg)
        self._record = record
        _open.add(self)
        record.write()
        self.directory.mkdir(mode=0o755)

    def _add_namespaces(self) -> None:
        names = [space.name for space in self.namespaces.values()]
        command(["ip", "-batch", "-"], "".join(f"netns add {n}\n" for n in names))
        for space in (self.pi, self.phone):
            # `ip netns exec` puts it over /etc/resolv.conf for the programs in there.
            own = ETC_NETNS / space.name
            own.mkdir(parents=True)
            (own / "resolv.conf").write_text(f"nameserver {topology.DNS}\n")

    def _connect(self) -> None:
        self.phone.ip(f"link add eth0 type veth peer name lan0 netns {self.pi.name}")
        self.carrier.ip(
            f"link add core0 type veth peer name core0 netns {self.internet.name}"
        )
        for plan in self.plans:
            self.pi.ip(*topology.plug_lines(plan, self.modems[plan.modem].name))

    def _configure(self) -> None:
        self._relay = RelayClient.start(
            self.carrier, self.directory / "relay.sock", self.plans, self.namespaces
        )
        leases = [line for plan in self.plans for line in topology.lease_lines(plan)]
        work: list[Callable[[], None]] = [
            lambda: self._role("internet", topology.internet_lines(self.plans)),
            lambda: self.internet.nft(topology.internet_nft()),
            lambda: self._role("carrier", topology.carrier_lines(self.plans)),
            lambda: self.carrier.nft(topology.carrier_nft(self.plans)),
            lambda: self._role("phone", topology.phone_lines()),
            lambda: self._role("pi", [*topology.pi_lines(), *leases]),
        ]
        for plan in self.plans:
            modem = self.modems[plan.modem]
            work += [
                partial(modem.sysctl, topology.FORWARD),
                partial(modem.nft, topology.modem_nft()),
                partial(modem.ip, *topology.modem_lan_lines(plan)),
            ]
        _together(work)

    def _role(self, role: str, lines: list[str]) -> None:
        self.namespaces[role].sysctl(topology.SYSCTLS[role])
        self.namespaces[role].ip(*lines)

    def _start_links(self) -> None:
        certificates.make(self.ca.parent)
        self._services.append(
            self.internet.python(
                "lab.services", str(self.ca.parent), stdin=PIPE, stdout=PIPE
            )
        )
        relay = self._relay
        if relay is None:
            msg = "the relay is started when the namespaces are configured"
            raise LabError(msg)
        relay.wait_ready()
        work: list[Callable[[], None]] = [
            lambda: self.carrier.ip(
                *(line for p in self.plans for line in topology.carrier_wan_lines(p))
            )
        ]
        for plan in self.plans:
            modem = self.modems[plan.modem]
            work.append(partial(modem.ip, *topology.modem_wan_lines(plan)))
            self.uplinks[plan.name] = Uplink(plan, self.pi, modem, self.carrier, relay)
        _together(work)

    def _start_services(self) -> None:
        dnsmasq = find("dnsmasq")
        if dnsmasq:
            self.internet.popen(
                [
                    *("sh", "-c", FOLLOWED, "sh", dnsmasq),
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--pid-file=",
                    "--user=root",
                    "--no-resolv",
                    "--no-hosts",
                    "--bind-interfaces",
                    f"--listen-address={topology.DNS}",
                    "--local=/#/",
                    *(f"--address=/{name}/{ip}" for name, ip in topology.NAMES.items()),
                ],
            )
        for process in self._services:
            ready_line(process, "the internet's services")


def _together(work: list[Callable[[], None]]) -> None:
    """Do independent steps side by side; the first failure is raised."""
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(step) for step in work]:
            done.result()


_open: set[Lab] = set()
"""Labs of this process that are not closed."""


@atexit.register
def _close_all() -> None:
    for lab in list(_open):
        lab.close()


def _guard() -> None:
    """Let SIGTERM and SIGHUP run our exits, unless the program handles them itself."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):
                signal.signal(number, _leave)


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)
