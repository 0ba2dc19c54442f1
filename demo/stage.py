"""Everything the demo runs, started in order and ended in reverse, whatever happens.

The real programs, each a process of its own: Mosquitto in the lab's internet,
jaga-collector on this machine, 701 simulated sites, and one real jaga-agent in the
lab's Pi. Nothing is added to this machine's own network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from jaga_server import site_list
from lab import Lab
from lab.namespace import end, popen
from lab.topology import BROKER, PING_TARGETS, SIREKAP, SIREKAP_PORT, UPLINKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Broker

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
PROVIDERS: Final = {
    "telkomsel": "Telkomsel",
    "indosat": "Indosat",
    "telkom-fibre": "Telkom",
}
HOLD_DOWN_S: Final = 20
HOLD_DOWN_CAP_S: Final = 40
"""Each round of the demo is a flap, so the wait grows; a spectator's patience does not."""
REGION: Final = "6408"
START_S: Final = 30.0


class DemoError(Exception):
    """The demo cannot go on; one line for whoever started it."""


class Stage:
    """The lab site, the district around it, and the collector that watches both."""

    def __init__(
        self,
        data: Path,
        port: int,
        fleet: int | None,
        say: Callable[[str], None],
        *,
        hold_down_s: tuple[float, float] = (HOLD_DOWN_S, HOLD_DOWN_CAP_S),
    ) -> None:
        self._data = data
        self._port = port
        self._fleet = fleet
        self._say = say
        self._hold_down_s = hold_down_s
        self._stack = ExitStack()
        self._running: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self.base = f"http://127.0.0.1:{port}"
        self.site = lab_site(data / "kutim-sites.csv")
        self.total = 0
        self.lab: Lab
        self.broker: Broker
        self.agent: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        try:
            for step in (
                self._start_lab,
                self._start_broker,
                self._start_collector,
                self._start_fleet,
                self.start_agent,
            ):
                step()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def directory(self) -> Path:
        """Configurations, logs, database; gone with the lab."""
        return self.lab.directory

    def check(self) -> None:
        """Raise DemoError if one of the programs has ended by itself."""
        for name, process, log in self._running:
            if process.poll() is not None:
                raise DemoError(_last_words(name, process, log))

    def get(self, path: str) -> Any:
        """Return the collector's answer as JSON."""
        answer = httpx.get(self.base + path, timeout=10, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def agent_status(self) -> dict[str, Any]:
        """Return what `jaga-agent status --json` says."""
        answer = subprocess.run(
            [BIN / "jaga-agent", "status", "--json", "--socket", self._agent_socket],
            capture_output=True,
            check=True,
            timeout=10,
        )
        return dict(json.loads(answer.stdout))

    @property
    def _agent_socket(self) -> Path:
        return self.directory / "agent" / "agent.sock"

    def _start_lab(self) -> None:
        self.lab = self._stack.enter_context(Lab.create())
        self._say(
            f"lab: phone → Pi → {len(UPLINKS)} modems → internet ({self.lab.tag})"
        )

    def _start_broker(self) -> None:
        self.broker = self.lab.start_broker()
        self._stack.callback(self.broker.stop)
        self._say("broker: Mosquitto runs")

    def _start_collector(self) -> None:
        config = self.directory / "collector.toml"
        config.write_text(
            f'[collector]\nregion = "{REGION}"\ndistrict = "Kutai Timur"\n'
            f'sites = "{self._data / "kutim-sites.csv"}"\n'
            f'kecamatan = "{self._data / "kutim-kecamatan.geojson"}"\n\n'
            f'[mqtt]\nsocket = "{self.broker.socket_path}"\n\n'
            f'[store]\npath = "{self.directory / "collector.sqlite3"}"\n\n'
            f'[web]\nhost = "127.0.0.1"\nport = {self._port}\n'
        )
        arguments = [BIN / "jaga-collector", "run", "--config", config]
        self._start("jaga-collector", arguments, popen)
        self._wait(
            "jaga-collector", lambda: self.get("/api/1/summary")["broker_connected"]
        )
        self._say(f"collector: jaga-collector runs; its page is at {self.base}")

    def _start_fleet(self) -> None:
        sites = site_list.read(self._data / "kutim-sites.csv")
        others = len(sites) - 1 if self._fleet is None else self._fleet
        self.total = others + 1
        if others == 0:
            return
        arguments = [
            sys.executable,
            "-m",
            "demo.fleet",
            f"--sites={self._data / 'kutim-sites.csv'}",
            f"--exclude={self.site}",
            f"--socket={self.broker.socket_path}",
            f"--region={REGION}",
            f"--limit={others}",
        ]
        self._start("fleet", arguments, popen)
        self._say(f"district: {others} simulated sites publish over the same broker")

    def start_agent(self) -> None:
        """Start the real agent in the Pi; also after it was killed."""
        home = self.directory / "agent"
        home.mkdir(exist_ok=True)
        config = home / "agent.toml"
        config.write_text(agent_config(self.site, home, self._hold_down_s))
        arguments = [BIN / "jaga-agent", "run", "--config", config]
        self.agent = self._start("jaga-agent", arguments, self.lab.pi.popen)
        self._wait("jaga-agent", lambda: self.agent_status()["active"] is not None)
        self._say(f"agent: jaga-agent guards {self.site}")

    def _start(
        self,
        name: str,
        arguments: list[Any],
        start: Callable[..., subprocess.Popen[bytes]],
    ) -> subprocess.Popen[bytes]:
        log = self.directory / f"{name}.log"
        with log.open("ab") as file:
            process = start(
                [str(a) for a in arguments],
                stdout=file,
                stderr=file,
                cwd=ROOT,
            )
        self._running = [r for r in self._running if r[0] != name]
        self._running.append((name, process, log))
        self._stack.callback(end, [process], 8)
        return process

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while True:
            self.check()
            try:
                if ready():
                    return
            except (httpx.TransportError, subprocess.CalledProcessError) as error:
                last: object = error
            else:
                last = "not yet"
            if time.monotonic() > deadline:
                msg = f"{name} was not ready within {START_S:.0f} s: {last}"
                raise DemoError(msg)
            time.sleep(0.1)


def agent_config(site: str, home: Path, hold_down_s: tuple[float, float]) -> str:
    """Return the lab agent's configuration."""
    uplinks = "".join(
        f'[[uplink]]\nname = "{plan.name}"\nprovider = "{PROVIDERS[plan.name]}"\n'
        f'device = "{plan.device}"\npreference = {plan.index + 1}\n\n'
        for plan in UPLINKS
    )
    targets = "".join(
        f'[[target]]\nname = "target-{n}"\nurl = "icmp://{address}"\n\n'
        for n, address in enumerate(PING_TARGETS, 1)
    )
    targets += (
        f'[[target]]\nname = "sirekap"\nurl = "tcp://{SIREKAP}:{SIREKAP_PORT}"\n'
        'role = "app"\n\n'
    )
    return (
        f'[site]\nid = "{site}"\nregion = "{REGION}"\nmode = "polling-day"\n\n'
        f'{uplinks}{targets}[lan]\ndevices = ["lan0"]\ndns = false\n\n'
        f'[mqtt]\nhost = "{BROKER}"\ntls = false\n\n'
        f"[decide]\nprobe_interval_s = 2\nhold_down_s = {hold_down_s[0]}\n"
        f"hold_down_cap_s = {hold_down_s[1]}\n\n"
        f'[state]\ndirectory = "{home}"\nsocket = "{home / "agent.sock"}"\n'
        f'journal = "{home / "journal.jsonl"}"\nrun_directory = "{home}"\n'
    )


def lab_site(sites: Path) -> str:
    """Return the first polling site of the list whose providers are the lab's."""
    wanted = tuple(PROVIDERS.values())
    for site in site_list.read(sites):
        if site.providers == wanted and site.site.startswith("tps-"):
            return site.site
    msg = f"{sites}: no polling site has the lab's providers {', '.join(wanted)}"
    raise DemoError(msg)


def _last_words(name: str, process: subprocess.Popen[bytes], log: Path) -> str:
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    return f"{name} ended (status {process.returncode}): {' | '.join(said) or 'silent'}"
