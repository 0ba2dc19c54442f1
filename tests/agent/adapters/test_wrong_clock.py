"""The real agent on a Pi whose wall clock is wrong, or jumps: real TLS, Mosquitto, probes.

Only the wall clock is not real: Debian's libfaketime moves it for the agent alone, and
leaves CLOCK_BOOTTIME and CLOCK_MONOTONIC as they are.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path

import pytest

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.wire import echo, messages
from jaga_server.adapters import clock as server_clock
from lab import Broker
from lab.namespace import end, popen
from support.certificates import Issued
from support.dated_certificates import ADDRESS, CA_EXTENSION, Pki
from support.echo import MASTER, PORT, SITE, Far
from support.places import ROOT
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

NOW = datetime.now(tz=UTC)  # noqa: TID251 (what the agent does not know)
DAY = timedelta(days=1)
WOKEN_1970 = "@1970-01-01 00:10:00"
HOUR_MS = 3_600_000
BROKER_PORT = 8883
STAMP_MS = 2
"""Two readings of the clock, and milliseconds cut off."""


def faketime():
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "install Debian's faketime: make setup"
    return str(found[0])


class Pi:
    """jaga-agent in the namespace `here`, its wall clock, and what the broker got of it."""

    def __init__(self, wire, home, pki, *, targets, echo_key=None):
        self.wire, self.home, self.pki = wire, home, pki
        self.process = None
        self._clock = home / "faketime"
        self._received = home / "received"
        for n in (0, 1):
            route = ["default", "via", f"10.9.{n}.1", "dev", f"wan{n}"]
            wire.ip(wire.here, "route", "add", *route, "metric", str(100 + n))
        echo_table = ""
        if echo_key is not None:
            (home / "echo.key").write_text(echo_key.hex() + "\n")
            (home / "echo.key").chmod(0o600)
            echo_table = f'[echo]\nkey_file = "{home / "echo.key"}"\n'
        (home / "agent.toml").write_text(
            f'[site]\nid = "{SITE}"\n'
            '[[uplink]]\nname = "telkomsel"\ndevice = "wan0"\n'
            '[[uplink]]\nname = "xl"\ndevice = "wan1"\n'
            f'[[target]]\nname = "ping"\nurl = "icmp://{ADDRESS}"\n{targets}'
            f'[mqtt]\nhost = "{ADDRESS}"\nport = {BROKER_PORT}\n'
            f'ca = "{pki.path("root")}"\ncert = "{pki.path("site")}"\n'
            f'key = "{pki.path("site", "key")}"\n{echo_table}'
            f'[decide]\nprobe_interval_s = 2\n[state]\ndirectory = "{home}"\nsocket = "{home / "agent.sock"}"\n'
            f'journal = "{home / "journal.jsonl"}"\n'
        )

    def set_wall(self, how):
        """As libfaketime has it: "+3600" is an hour ahead of the real time."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(how + "\n")
        fresh.replace(self._clock)

    def start(self):
        ntp = BoottimeClock().ntp()
        program = [str(ROOT / "tests/support/agent_without_ntp.py")]
        if ntp is not None and not ntp.is_synchronised:
            program = ["-m", "jaga_agent"]
        moved = {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "TZ": "UTC",
        }
        command = ["ip", "netns", "exec", self.wire.here, "env"]
        command += [f"{name}={value}" for name, value in moved.items()]
        command += [sys.executable, *program]
        with (self.home / "agent.log").open("ab") as log:
            self.process = popen(
                [*command, "run", "--config", str(self.home / "agent.toml")],
                stdout=log,
                stderr=log,
                env=os.environ,
            )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @contextlib.contextmanager
    def running(self):
        self.start()
        try:
            yield self
        except BaseException:
            print(self.log())  # noqa: T201 (of a test that fails)
            raise
        finally:
            end([self.process], 8)

    @contextlib.contextmanager
    def broker(self, server):
        """A Mosquitto that asks for certificates, and somebody who listens to all."""
        lines = (
            f"cafile {self.pki.path('root')}\n"
            f"certfile {self.pki.path(server)}\nkeyfile {self.pki.path(server, 'key')}\n"
            "require_certificate true\nuse_identity_as_username true\n"
            "tls_version tlsv1.3\n"
        )

        def start(command, **options):
            return popen(["ip", "netns", "exec", self.wire.there, *command], **options)

        home = self.home / "broker"
        with (
            Broker(
                home, address=ADDRESS, port=BROKER_PORT, options=lines, start=start
            ) as broker,
            self._received.open("wb") as out,
        ):
            command = ["mosquitto_sub", "--unix", str(broker.socket_path), "-V", "5"]
            listener = popen([*command, "-t", "jaga/#", "-F", "%t %x"], stdout=out)
            try:
                yield broker
            finally:
                end([listener])

    def records(self, kind):
        """What the broker has passed on, as wire messages."""
        leaf = {messages.Heartbeat: "heartbeat", messages.Event: "event"}[kind]
        found = []
        for line in self._received.read_text().splitlines(keepends=True):
            topic, _, payload = line.partition(" ")
            if topic.endswith(f"/{leaf}") and line.endswith("\n"):
                found.append(messages.decode(bytes.fromhex(payload), kind))
        return found

    def beats(self):
        return self.records(messages.Heartbeat)

    def clock_events(self):
        return [e for e in self.records(messages.Event) if e.kind == "clock"]

    def status(self):
        command = [sys.executable, "-m", "jaga_agent", "status", "--json"]
        answer = subprocess.run(
            [*command, "--socket", str(self.home / "agent.sock")],
            capture_output=True,
            check=False,
            timeout=20,
        )
        return json.loads(answer.stdout) if answer.returncode == 0 else {}

    def log(self):
        return (self.home / "agent.log").read_text(errors="replace")


def off_ms(record):
    """By how much a record is dated wrong."""
    now = BoottimeClock().stamp()
    epoch_ms = (now.wall_ns - now.boot_ns) / 1e6
    return record.wall_ms - record.at_ms - epoch_ms


def uncertainty_ms(event):
    return int(event.evidence["uncertainty_ms"]) + 1


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.issue("root", NOW - 500 * DAY, 4000, extension=CA_EXTENSION)
    # Issued today: for a Pi in 1970 all of them are of the future.
    made.issue("site", NOW - DAY, 90, signer="root")
    made.issue("broker", NOW - DAY, 90, signer="root")
    made.issue("expired", NOW - 200 * DAY, 90, signer="root")
    for path in [made.directory, *made.directory.iterdir()]:
        path.chmod(0o755)
    return made


@pytest.fixture
def home(tmp_path_factory):
    # Short: a Unix socket's path is 107 bytes at most.
    return tmp_path_factory.mktemp("pi")


@pytest.fixture
def reflector(wire, monkeypatch):
    """The collector's, on a machine that NTP keeps (this one need not be)."""
    kept = server_clock.ClockError(0.002, synchronised=True)
    monkeypatch.setattr(server_clock, "error", lambda: kept)
    with Far(listen=ADDRESS).running(lambda main: wire.run(main, netns=wire.there)):
        yield


ECHO = f'[[target]]\nname = "collector"\nurl = "udp-echo://{ADDRESS}:{PORT}"\n'


@pytest.fixture
def pi(wire, home, pki):
    return Pi(wire, home, pki, targets=ECHO, echo_key=echo.site_key(MASTER, SITE))


def test_woken_in_1970_it_connects_and_the_reflector_dates_its_records(pi, reflector):
    pi.set_wall(WOKEN_1970)
    with pi.broker("broker"), pi.running():
        until(pi.clock_events, "the clock's event is at the broker", 60)
        (event,) = pi.clock_events()
        assert (event.old, event.new) == ("unknown", "reflector")
        assert abs(off_ms(event)) <= uncertainty_ms(event) + STAMP_MS
        offset_s = int(event.evidence["offset_ms"]) / 1000
        assert abs(offset_s - (time.time() - 600)) < 60  # noqa: TID251 (the truth)
        assert event.clock_age_s >= 0
        # The start was before: dated as the Pi thought, and said to be unsure.
        started = pi.records(messages.Event)[0]
        assert (started.kind, started.clock_age_s) == ("started", -1)
        assert started.wall_ms < 10**9
        beat = until(
            lambda: [b for b in pi.beats() if b.clock_age_s >= 0], "a beat", 30
        )[0]
        assert abs(off_ms(beat)) <= uncertainty_ms(event) + STAMP_MS
        shown = pi.status()["clock"]
        assert shown["source"] == "reflector"
        assert shown["uncertainty_ms"] < 1000


def test_hours_to_and_fro_and_back_to_1970_bend_nothing(pi, reflector):
    pi.set_wall("+0")
    with pi.broker("broker"), pi.running():
        until(pi.clock_events, "somebody told the time", 60)
        began = len(pi.beats())
        for how in ("+3600", "-3600", WOKEN_1970):
            pi.set_wall(how)
            beats = len(pi.beats())
            # Two, so that a whole interval lies after the jump.
            until(lambda n=beats: len(pi.beats()) >= n + 2, "two more beats", 40)
        events = pi.clock_events()
        within_ms = max(map(uncertainty_ms, events)) + STAMP_MS
        for record in (*pi.beats()[1:], *events):
            assert abs(off_ms(record)) <= within_ms
        first = next(e for e in events if e.evidence["step_ms"] != "0")
        assert int(first.evidence["step_ms"]) == pytest.approx(HOUR_MS, abs=50)
        assert {(e.old, e.new) for e in events} <= {
            ("unknown", "reflector"),
            ("reflector", "reflector"),
        }
        measured = [u for beat in pi.beats()[began:] for u in beat.uplinks]
        # A busy machine may lose or delay one; a bent clock all of them, by an hour.
        sent, lost = sum(u.sent for u in measured), sum(u.lost for u in measured)
        assert sent > 10
        assert lost * 4 < sent
        assert sum(u.not_sent for u in measured) == 0
        rtts_us = [u.rtt_max_us for u in measured if u.rtt_max_us is not None]
        assert 0 < max(rtts_us) < 60_000_000
        assert pi.status()["broker"]["connected"]


def test_the_date_of_a_verified_answer_dates_records(wire, home, pki, far):
    def answer(_request):
        now_s = time.time()  # noqa: TID251 (a server with a right clock)
        date = formatdate(now_s, usegmt=True)
        return f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()

    served = Issued(pki.path("broker"), pki.path("broker", "key"))
    far.web(ADDRESS, 443, cert=served, answer=answer)
    target = f'[[target]]\nname = "web"\nurl = "https://{ADDRESS}/"\nca = "{pki.path("root")}"\n'
    pi = Pi(wire, home, pki, targets=target)
    pi.set_wall(WOKEN_1970)
    with pi.broker("broker"), pi.running():
        until(pi.clock_events, "the clock's event is at the broker", 60)
        (event,) = pi.clock_events()
        assert (event.old, event.new) == ("unknown", "http-date")
        assert 500 <= uncertainty_ms(event) < 1500
        assert abs(off_ms(event)) <= uncertainty_ms(event) + STAMP_MS


def test_a_killed_agent_knows_the_time_again_without_anybody(pi, wire, monkeypatch):
    kept = server_clock.ClockError(0.002, synchronised=True)
    monkeypatch.setattr(server_clock, "error", lambda: kept)
    pi.set_wall(WOKEN_1970)
    with pi.broker("broker"):
        far = Far(listen=ADDRESS)
        with (
            far.running(lambda main: wire.run(main, netns=wire.there)),
            pi.running(),
        ):
            until(pi.clock_events, "somebody told the time", 60)
            pi.kill()
        (event,) = pi.clock_events()
        pi.set_wall("+3600")
        with pi.running():
            started = until(
                lambda: [e for e in pi.records(messages.Event) if e.kind == "started"][
                    1:
                ],
                "the second start is at the broker",
                60,
            )[0]
    assert started.clock_age_s >= 0
    assert abs(off_ms(started)) <= uncertainty_ms(event) + STAMP_MS


def test_a_broker_whose_certificate_had_expired_when_the_card_was_issued(pi):
    pi.set_wall(WOKEN_1970)
    with pi.broker("expired"), pi.running():
        until(
            lambda: "is not good: certificate has expired" in pi.log(),
            "the broker is refused",
            60,
        )
        assert pi.status()["broker"]["connected"] is False
        assert pi.beats() == []
