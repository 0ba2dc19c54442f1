"""udp-echo in the lab: loss by its way over a carrier, and the last resort of a site."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from jaga_server.site_list import COLUMNS
from lab.namespace import end
from lab.relay import enter
from lab.topology import BROKER, BROKER_PORT, PING_TARGETS, UPLINKS
from support.echo import PORT, SITE, Far, probing
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

BIN = Path(sys.executable).parent


def within(namespace, work):
    """Return what `work()` returns in a thread that lives in the namespace."""
    outcome = []

    def inside():
        try:
            enter(namespace.name)
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 (handed to the test below)
            outcome.append((None, error))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@pytest.mark.parametrize(("way", "want"), [("up", (0.2, 0.0)), ("down", (0.0, 0.2))])
def test_a_carrier_that_loses_one_way_only(lab, gateway, way, want):
    far = Far(listen=BROKER)
    lab.uplinks["telkomsel"].loss(0.2, way)

    async def main():
        async with probing() as (prober, heard):
            for n in range(800):
                for device in ("wan0", "wan1"):
                    prober.send(n, device, f"{BROKER}:{PORT}")
                await asyncio.sleep(0.003)
            with contextlib.suppress(TimeoutError):
                while True:
                    await heard.next(within_s=0.5)
            return {s.device: s for s in heard.samples}

    with far.running(
        lambda coroutine: within(lab.internet, lambda: asyncio.run(coroutine()))
    ):
        last = within(lab.pi, lambda: asyncio.run(main()))

    def ratios(counts):
        return counts.up_lost / counts.up_sent, counts.down_lost / counts.down_sent

    # Six standard deviations of 800 trials at 20 %: 8.5 percentage points.
    lossy = ratios(last["wan0"].counts)
    for got, wanted in zip(lossy, want, strict=True):
        assert got == pytest.approx(wanted, abs=0.085 if wanted else 0)
    assert ratios(last["wan1"].counts) == (0, 0)
    # The plan's two ways, 10 ms each; the reflector's own time is not in it.
    assert 0.015 < last["wan0"].rtt_s < 0.5
    assert abs(last["wan0"].clock.delay_ns / 1e9 - last["wan0"].rtt_s) < 1e-6


class District:
    """Broker, collector and one agent, all real; the collector in the internet."""

    def __init__(self, lab, folder, stack):
        self.lab = lab
        self.folder = folder
        self._stack = stack
        self.broker = lab.start_broker()
        stack.callback(self.broker.stop)
        self.config = folder / "collector.toml"
        (folder / "echo.secret").write_text("5a" * 32 + "\n")
        (folder / "echo.secret").chmod(0o600)
        row = f"{SITE},TPS 901,umum,Senyiur,Muara Ancalong,,0.5,116.4,Telkomsel,Indosat,Telkom"
        (folder / "sites.csv").write_text("\n".join([",".join(COLUMNS), row]) + "\n")
        self.config.write_text(
            '[collector]\nregion = "6408"\ndistrict = "Kutai Timur"\n'
            'sites = "sites.csv"\n'
            f'[mqtt]\nhost = "{BROKER}"\nport = {BROKER_PORT}\ntls = false\n'
            '[store]\npath = "collector.db"\n'
            f'[echo]\nlisten = "{BROKER}"\nsecret_file = "echo.secret"\n'
            "[presence]\nlast_resort_s = 5\n"
        )

    def start(self):
        self._run(self.lab.internet, "jaga-collector", self.config)
        until(self._connected, "the collector hears the broker")
        key = subprocess.run(
            [BIN / "jaga-collector", "echo-key", SITE, "--config", self.config],
            capture_output=True,
            check=True,
        )
        (self.folder / "echo.key").write_bytes(key.stdout)
        uplinks = "".join(
            f'[[uplink]]\nname = "{p.name}"\ndevice = "{p.device}"\n' for p in UPLINKS
        )
        targets = "".join(
            f'[[target]]\nname = "ping-{n}"\nurl = "icmp://{address}"\n'
            for n, address in enumerate(PING_TARGETS)
        )
        config = self.folder / "agent.toml"
        config.write_text(
            f'[site]\nid = "{SITE}"\n{uplinks}{targets}'
            f'[[target]]\nname = "collector"\nurl = "udp-echo://{BROKER}:{PORT}"\n'
            f'[echo]\nkey_file = "{self.folder / "echo.key"}"\n'
            f'[mqtt]\nhost = "{BROKER}"\ntls = false\nkeepalive_s = 5\n'
            "will_delay_s = 1\n[decide]\nprobe_interval_s = 0.2\n"
            f'[state]\ndirectory = "{self.folder}"\n'
            f'socket = "{self.socket}"\njournal = ""\n'
            f'run_directory = "{self.folder}"\n'
        )
        self._run(self.lab.pi, "jaga-agent", config)

    @property
    def socket(self):
        return self.folder / "agent.sock"

    def _run(self, namespace, program, config):
        with (self.folder / f"{program}.log").open("ab") as log:
            process = namespace.popen(
                [str(BIN / program), "run", "--config", str(config)],
                stdout=log,
                stderr=log,
            )
        self._stack.callback(end, [process], 8)

    def get(self, path):
        return within(
            self.lab.internet,
            lambda: httpx.get(f"http://127.0.0.1:8080{path}", trust_env=False),
        )

    def _connected(self):
        with contextlib.suppress(httpx.HTTPError):
            return self.get("/api/1/summary").json()["broker_connected"]
        return False

    def site(self):
        return self.get("/api/1/sites").json()["sites"][0]

    def status(self, *words):
        command = [BIN / "jaga-agent", "status", *words, "--socket", self.socket]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture
def district(lab, tmp_path):
    with contextlib.ExitStack() as stack:
        made = District(lab, tmp_path, stack)
        made.start()
        yield made


def test_a_site_without_mqtt_is_not_offline_while_its_echoes_come(lab, district):
    site = until(
        lambda: (s := district.site())["condition"] == "fine" and s,
        "the site is fine",
        40,
    )
    assert site["last_resort"] is None, "probes of a connected site carry no state"

    # The quota is used up everywhere: TCP is reset, ping and UDP pass.
    for uplink in lab.uplinks.values():
        uplink.quota()
    site = until(
        lambda: (s := district.site())["last_resort"] and s,
        "the last resort is heard",
        40,
    )
    site = until(
        lambda: (s := district.site())["presence"] == "overdue" and s,
        "the will stands, and the site is yet not offline",
        40,
    )
    last = site["last_resort"]
    assert site["condition"] == "degraded"
    assert site["last_seen_ms"] == last["at_ms"]
    assert last["through"] in {plan.name for plan in UPLINKS}
    assert last["active"] == "telkomsel"
    assert last["uplinks"] == ["up", "up", "up"]
    seen_ms = last["at_ms"]
    until(lambda: district.site()["last_resort"]["at_ms"] > seen_ms, "it comes again")
    assert district.site()["presence"] == "overdue"

    # Nor UDP any more: now it is offline.
    for uplink in lab.uplinks.values():
        uplink.blackhole()
    until(lambda: district.site()["presence"] == "offline", "it is offline", 40)

    for uplink in lab.uplinks.values():
        uplink.restore()
    site = until(
        lambda: (s := district.site())["presence"] == "online" and s,
        "heartbeats come again",
        60,
    )
    assert site["last_resort"] is None


def test_status_tells_loss_by_its_way_and_the_clocks_offset(lab, district):
    lab.uplinks["telkomsel"].loss(0.2, "up")

    def told():
        with contextlib.suppress(subprocess.CalledProcessError):
            answer = json.loads(district.status("--json"))
            counts = answer["one_way"].get("telkomsel", {"up_sent": 0})
            return counts["up_sent"] >= 60 and answer
        return None

    answer = until(told, "60 requests of telkomsel are accounted for", 120)
    lossy, clean = answer["one_way"]["telkomsel"], answer["one_way"]["indosat"]
    assert 0.02 < lossy["up_lost"] / lossy["up_sent"] < 0.45
    assert lossy["down_lost"] == 0
    assert (clean["up_lost"], clean["down_lost"]) == (0, 0)
    # One machine, one clock.
    offset = answer["clock_offset"]
    assert abs(offset["offset_ms"]) <= offset["uncertainty_ms"]
    screen = " ".join(district.status().split())
    assert "back from it 0 of" in screen
    assert "agrees with the collector's within" in screen

    metrics = district.get("/metrics").text
    assert 'jaga_echo_dropped_total{reason="replayed"} 0.0' in metrics
    assert "jaga_echo_flows 3.0" in metrics
