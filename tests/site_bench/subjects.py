"""Who is compared: each starts something (or nothing) on the Pi, and goes back.

A subject keeps the site on the first uplink while all is well; after the lab was
repaired `reset` brings it there again, as if nothing had happened.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar

from demo.stage import BIN, REGION
from jaga_agent import config as config_module
from lab import topology
from lab.clock import boottime_s, sleep_until
from lab.errors import LabError
from lab.namespace import TESTS, end, ready_line
from site_bench import gateway, models
from site_bench.cases import ACTIVE, STANDBY

if TYPE_CHECKING:
    from pathlib import Path

    from lab import Lab

START_S = 30.0
RETURN_S = 120.0
ROOT = TESTS.parent
LOOK_S = 0.1
SIREKAP = "sirekap"
"""Name of the agent's target that is the real thing."""


class Subject:
    """Nobody watches: the plain router, and the base of all others."""

    name: ClassVar[str]
    heading: ClassVar[str]
    note: ClassVar[str]
    patience_s: ClassVar[float] = 30.0
    """How long after a fault it is watched if the site is not back."""
    runs: ClassVar[int | None] = None
    """At most so many of each case: it is slow."""
    idle_s: ClassVar[float] = 120.0
    """How long its idle costs are measured."""
    idle_rounds: ClassVar[bool] = False
    """A shorter time would miss its rounds altogether."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.process: subprocess.Popen[Any] | None = None
        self.names: Path | None = None
        """Directory of the LAN's resolver, once there is one."""

    def serve_names(self) -> None:
        """Start the LAN's resolver on the Pi, if this checkout has one.

        It asks the lab's DNS by whichever way the Pi's own traffic goes.
        """
        self._resolve(servers=f"server={topology.DNS}\n")

    def _resolve(self, **options: str) -> None:
        start = getattr(self.lab, "start_resolver", None)
        if start is not None:
            self.names = start(**options).directory

    def start(self) -> None:
        """Make it guard the site; the first uplink carries on return."""
        raise NotImplementedError

    def reset(self) -> None:
        """After a repair: bring the site to the first uplink."""
        raise NotImplementedError

    def tell(self) -> None:
        """A fault came, and there is somewhere better: only the floor listens."""

    def tell_back(self) -> None:
        """The last uplink came back."""

    def reports(self, what: str, since_s: float) -> bool | None:
        """Return whether it said this by name since then; None: it has no voice."""
        del what, since_s

    def stop(self) -> None:
        """End what it started."""
        if self.process is not None:
            end([self.process])
            self.process = None


class Plain(Subject):
    """A plain router: what every peer builds on."""

    name = "kernel"
    heading = "kernel only"
    note = (
        "no daemon: three default routes by metric and `ignore_routes_with_linkdown`, "
        "so the kernel leaves a link that lost its carrier, and no other."
    )
    runs = 3

    def start(self) -> None:
        """Set the Pi up once."""
        pi, plans = self.lab.pi, self.lab.plans
        pi.sysctl(gateway.SYSCTLS | self.sysctls())
        pi.ip(*gateway.rules(plans))
        pi.nft(gateway.nat(plans))
        self.reset()

    def sysctls(self) -> dict[str, int]:
        """Return what it needs beside the common ones."""
        return dict(gateway.LINKDOWN)

    def reset(self) -> None:
        """Put tables and defaults in order, also of a re-plugged device."""
        pi, plans = self.lab.pi, self.lab.plans
        pi.ip(*gateway.tables(plans), *self.defaults())

    def defaults(self) -> list[str]:
        """Return the lines of the site's default routes."""
        return [
            gateway.default(plan.device, plan.gateway, plan.index + 1)
            for plan in self.lab.plans
        ]


class Model(Plain):
    """A daemon of others, as a model in a process of its own."""

    payload_bytes: ClassVar[int] = 1
    """Of its pings."""

    def sysctls(self) -> dict[str, int]:
        """Leave the kernel's own failover out: the originals do not use it."""
        return {}

    def defaults(self) -> list[str]:
        """Return one default, which the model moves."""
        first = self.lab.plans[0]
        return [gateway.default(first.device, first.gateway)]

    def reset(self) -> None:
        """Begin anew, with the history of a good line."""
        self.stop()
        super().reset()
        plan = {
            "kind": self.name,
            "uplinks": [
                {
                    "device": uplink.device,
                    "gateway": uplink.gateway,
                    # A monitor address of its own for each, as these demand.
                    "monitor": topology.PING_TARGETS[uplink.index],
                    "mark": gateway.mark(uplink),
                    "payload_bytes": self.payload_bytes,
                }
                for uplink in self.lab.plans
            ],
            "check": [topology.SIREKAP, 80, "/check_network_status.txt"],
            # Anywhere in its round, as a fault finds it.
            "first_check_s": random.uniform(1, models.NM_INTERVAL_S),
        }
        self.process = _start_module(self.lab, "site_bench.peer", json.dumps(plan))
        # The first replies are in, and the window is filled.
        sleep_until(boottime_s() + 4 * models.OPNSENSE.send_interval_s)


class Pfsense(Model):
    """dpinger as pfSense starts it."""

    name = "pfsense"
    heading = "pfSense (dpinger)"
    note = (
        "model of dpinger with pfSense's defaults (a ping each 500 ms, averages over "
        "60 s, lost after 2 s, looked at each second, alarm above 20 % loss or 500 ms), "
        "a gateway group by tiers, states of the failed gateway killed."
    )
    patience_s = 120.0
    runs = 3


class Opnsense(Model):
    """dpinger as OPNsense starts it."""

    name = "opnsense"
    heading = "OPNsense (dpinger)"
    note = (
        "the same with OPNsense's defaults (a ping each second, lost after 4 s) and "
        "its watcher, which looks each second."
    )
    patience_s = 120.0
    runs = 3


class Mwan3(Model):
    """mwan3track with its defaults."""

    name = "mwan3"
    heading = "mwan3"
    note = (
        "model of mwan3track with its defaults (a ping each 10 s, timeout 4 s, down "
        "after 5, up after 5) and one `track_ip` for each interface; it flushes no "
        "connections unless told to."
    )
    patience_s = 120.0
    runs = 2
    payload_bytes = 56


class NetworkManager(Model):
    """NetworkManager's connectivity check."""

    name = "networkmanager"
    heading = "NetworkManager"
    note = (
        "model of its connectivity check (HTTP by each device each 300 s, timeout "
        "20 s; a device that is not FULL gets 20,000 added to its route's metric)."
    )
    patience_s = 330.0
    runs = 1
    idle_s = models.NM_INTERVAL_S
    idle_rounds = True


class Told(Subject):
    """This project's switch with perfect knowledge."""

    name = "told"
    heading = "told at once"
    note = (
        "the floor of this lab: our own switch (route, flush, resets), told by the "
        "benchmark at the instant of the fault. No detection can be faster."
    )

    def start(self) -> None:
        """Start it; it sets the Pi up as the agent does."""
        uplinks = [
            [plan.name, plan.device, plan.index + 1, plan.index + 1]
            for plan in self.lab.plans
        ]
        self.process = _start_module(self.lab, "site_bench.told", json.dumps(uplinks))

    def reset(self) -> None:
        """Mend the routes, then go back."""
        self._say([])
        self._say([ACTIVE, STANDBY])

    def tell(self) -> None:
        """Switch now."""
        self._say([STANDBY, ACTIVE])

    def tell_back(self) -> None:
        """Go to the one that came back."""
        self._say(["telkom-fibre", ACTIVE])

    def _say(self, order: list[str]) -> None:
        process = self.process
        if process is None or process.stdin is None:
            msg = "the told floor is not running: start it first"
            raise LabError(msg)
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        ready_line(process, "the told floor")


class Jaga(Subject):
    """The real `jaga-agent`, as a site runs it; only hold-down is short."""

    name = "jaga"
    heading = "**Jaga**"
    note = (
        "the real `jaga-agent` of this checkout, with its defaults (hold-down apart) "
        "and a real Mosquitto behind the uplinks."
    )
    patience_s = 60.0
    settings: ClassVar[str] = ""
    """Lines for `[decide]`, from the command line."""
    hold_down: ClassVar[str] = "hold_down_s = 1\nhold_down_cap_s = 2\n"
    check: ClassVar[str] = ""
    """Lines for the check of Sirekap itself."""

    @property
    def home(self) -> Path:
        return self.lab.directory / "agent"

    def serve_names(self) -> None:
        """Start it with its own list, which the agent then keeps."""
        self._resolve()

    def start(self, active: str | None = None) -> None:
        """Start the agent and wait until it guards the site.

        All uplinks are up then and the first carries; or, with something broken, the
        one that is said does.
        """
        self.home.mkdir(exist_ok=True)
        config = self.home / "agent.toml"
        decide = self.hold_down + self.settings
        config.write_text(
            agent_config(self.home, self.lab.ca, self.names, decide, self.check)
        )
        with (self.home / "agent.log").open("ab") as log:
            self.process = self.lab.pi.popen(
                [str(BIN / "jaga-agent"), "run", "--config", str(config)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        self._wait_active(START_S, active)

    def reset(self) -> None:
        """Wait until it has gone back by itself."""
        self._wait_active(RETURN_S)

    def reports(self, what: str, since_s: float) -> bool:
        """Look in its status, and in the chain for what it said since then."""
        if what == "busy":
            # Said already, and true still, is said.
            now = any(uplink["busy"] for uplink in self.status()["uplinks"])
            return now or self._decided("busy", since_s)
        name = next((n for n, a in targets().items() if a.endswith(what)), SIREKAP)
        return name in self.status().get("faulty_targets", [])

    def status(self) -> dict[str, Any]:
        """Return what the agent says of itself."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            client.connect(str(self.home / "agent.sock"))
            client.sendall(b'{"get": "status"}\n')
            answer = b""
            while not answer.endswith(b"\n") and (more := client.recv(65536)):
                answer += more
        return dict(json.loads(answer))

    def _decided(self, code: str, since_s: float) -> bool:
        """Look for it in the decision chain (the journal in RAM is soon rotated)."""
        lines = (self.home / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
        entries = (json.loads(line) for line in lines if f'"code":"{code}"' in line)
        return any(
            entry["code"] == code and entry["at_ms"] / 1000 >= since_s
            for entry in entries
        )

    def _wait_active(self, within_s: float, said: str | None = None) -> None:
        deadline_s = boottime_s() + within_s
        last: object = "it does not answer"
        while boottime_s() < deadline_s:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                status = self.status()
            except OSError as error:
                last = error
            else:
                wanted = said or ACTIVE
                if status.get("active") == wanted and (said or _all_up(status)):
                    return
                last = f"active {status.get('active')}"
            sleep_until(boottime_s() + LOOK_S)
        log = (self.home / "agent.log").read_text(errors="replace").splitlines()[-3:]
        msg = f"jaga-agent does not use {said or ACTIVE}: {last}; {' | '.join(log)}"
        raise LabError(msg)


class JagaAsShipped(Jaga):
    """The same with the default hold-down: nobody waits until it has gone back."""

    hold_down = ""

    def reset(self) -> None:
        """Leave it where it is."""


def _all_up(status: dict[str, Any]) -> bool:
    """Return whether every uplink is up again: a race must find its standby."""
    return all(uplink["health"] == "up" for uplink in status["uplinks"])


def targets() -> dict[str, str]:
    """Return the agent's ping targets: name to URL."""
    return {
        f"target-{n}": f"icmp://{address}"
        for n, address in enumerate(topology.PING_TARGETS, 1)
    }


def agent_config(
    home: Path, ca: Path, names: Path | None, decide: str, check: str = ""
) -> str:
    """Return the agent's configuration: its defaults, `decide`'s and `check`'s lines.

    Sirekap itself is checked if this agent can; `names` is the directory of the LAN's
    resolver, if there is one for it to keep.
    """
    uplinks = "".join(
        f'[[uplink]]\nname = "{plan.name}"\ndevice = "{plan.device}"\n\n'
        for plan in topology.UPLINKS
    )
    probed = "".join(
        f'[[target]]\nname = "{name}"\nurl = "{url}"\n\n'
        for name, url in targets().items()
    )
    if "ca" in config_module.Target.__struct_fields__:
        probed += (
            f'[[target]]\nname = "{SIREKAP}"\nurl = "https://{topology.SIREKAP_NAME}/"\n'
            f'role = "app"\nca = "{ca}"\n{check}\n'
        )
    lan = state = ""
    if names is not None:
        lan = f'dns = true\nresolvers = ["{topology.DNS}"]\n'
        state = f'dns_directory = "{names}"\n'
    return (
        f'[site]\nid = "tps-bench"\nregion = "{REGION}"\nmode = "polling-day"\n\n'
        f'{uplinks}{probed}[lan]\ndevices = ["lan0"]\n{lan}\n'
        f'[mqtt]\nhost = "{topology.BROKER}"\ntls = false\n\n'
        f"[decide]\n{decide}\n\n"
        f'[state]\ndirectory = "{home}"\nsocket = "{home / "agent.sock"}"\n'
        f'journal = "{home / "journal.jsonl"}"\nrun_directory = "{home}"\n{state}'
    )


SUBJECTS: dict[str, type[Subject]] = {
    subject.name: subject
    for subject in (Jaga, Told, Plain, Pfsense, Opnsense, Mwan3, NetworkManager)
}


def _start_module(lab: Lab, module: str, *arguments: str) -> subprocess.Popen[Any]:
    process = lab.pi.python(
        module, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    ready_line(process, module)
    return process
