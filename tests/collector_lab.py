"""Real things to try a collector with: scripted sites, a publisher, a process, a page.

Whoever starts one stops it; the fixtures in `tests/server/conftest.py` do.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from jaga_agent.wire.evidence import (
    CODE_OF,
    NO_HASH,
    Digest,
    Histogram,
    History,
    HistoryItem,
    UplinkHistogram,
    pack,
)
from jaga_agent.wire.messages import (
    Event,
    HealthCode,
    Heartbeat,
    HostBeat,
    ModeCode,
    Status,
    UplinkBeat,
    UplinkIdentity,
    encode,
)
from jaga_server.site_list import COLUMNS
from support.ports import free_port
from support.waiting import until

REGION = "6408"


def ended(process, number=signal.SIGTERM, timeout_s=20):
    """Send a signal and return the exit status."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    return process.returncode


@dataclass
class ScriptedSite:
    """Makes what a test wants an agent to send; counts like one."""

    site: str
    boot: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    seq: int = 0
    connection: int = 1
    uplinks: tuple = ("telkomsel", "indosat")
    started_ms: int = field(
        default_factory=lambda: time.time_ns() // 1_000_000 - 60_000
    )

    def topic(self, leaf):
        return f"jaga/1/{REGION}/{self.site}/{leaf}"

    def _stamp(self, t_ms):
        self.seq += 1
        t_ms = t_ms or time.time_ns() // 1_000_000
        if self.seq == 1:
            self.started_ms = min(self.started_ms, t_ms - 60_000)
        return {
            "boot": self.boot,
            "seq": self.seq,
            "at_ms": t_ms - self.started_ms,
            "wall_ms": t_ms,
        }

    def heartbeat(self, *, t_ms=None, clock_age_s=5, health=None, active=None, **more):
        values = self._stamp(t_ms) | {
            "clock_age_s": clock_age_s,
            "mode": ModeCode.POLLING_DAY,
            "active": active or self.uplinks[0],
            "uplinks": tuple(
                UplinkBeat(
                    name,
                    (health or {}).get(name, HealthCode.UP),
                    10,
                    1,
                    0,
                    20_000,
                    40_000,
                    90_000,
                    1000,
                    500,
                    -71,
                )
                for name in self.uplinks
            ),
            "host": HostBeat(60, 120, 300, 410, 515),
        }
        return Heartbeat(**values | more)

    def event(self, *, t_ms=None, **more):
        values = self._stamp(t_ms) | {
            "clock_age_s": 5,
            "kind": "decision",
            "rule": "failover",
            "uplink": "indosat",
            "old": "telkomsel",
            "new": "indosat",
            "reason": "telkomsel silent on every target",
            "detected_ms": 800,
            "switched_ms": 1,
            "evidence": {"sirekap": "lost 6 of 6"},
        }
        return Event(**values | more)

    def histogram(self, *, t_ms=None, **more):
        values = self._stamp(t_ms) | {"clock_age_s": 5}
        values |= {
            "begin_ms": max(0, values["at_ms"] - 300_000),
            "uplinks": tuple(
                UplinkHistogram(
                    name,
                    300,
                    2,
                    0,
                    120,
                    (3, 290, 5),
                    12_345_678,
                    9,
                    8,
                    (0, 300_000, 0, 0),
                )
                for name in self.uplinks
            ),
        }
        return Histogram(**values | more)

    def digest(self, **more):
        values = self._stamp(None) | {
            "clock_age_s": 5,
            "of": self.boot,
            "first": 1,
            "last": self.seq - 1,
            "missing": (),
            "root": bytes(32),
            "prev": NO_HASH,
            "signature": b"signed",
        }
        return Digest(**values | more)

    def history(self, records, lost=()):
        """Return the records (or items) in a history."""
        items = tuple(
            one
            if isinstance(one, HistoryItem)
            else HistoryItem(CODE_OF[type(one).__name__.lower()], encode(one))
            for one in records
        )
        return History(pack(items) if items else b"", tuple(lost))

    def status(self, online=True, **more):
        values = {
            "online": online,
            "boot": self.boot,
            "connection": self.connection,
            "version": "0.1.0",
            "config_hash": "abc",
            "uplinks": tuple(
                UplinkIdentity(name, name.capitalize(), f"wan{n}", n)
                for n, name in enumerate(self.uplinks)
            ),
        }
        return Status(**values | more)


class Publisher:
    """One MQTT connection that publishes and waits for the broker's word."""

    def __init__(self, port, will=None):
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"test-{secrets.token_hex(4)}",
            protocol=paho.MQTTv5,
        )
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(500)
        if will is not None:
            self._client.will_set(will[0], will[1], qos=1, retain=True)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the publisher connects")

    def send(self, topic, payload, *, retain=False):
        body = payload if isinstance(payload, bytes) else encode(payload)
        return self._client.publish(topic, body, qos=1, retain=retain)

    def all(self, messages):
        """Publish (topic, payload) pairs; return when the broker has them all."""
        for handle in [self.send(*message) for message in messages]:
            handle.wait_for_publish(20)
            assert handle.is_published()

    def vanish(self):
        """Drop the connection without a word, as a power cut does."""
        self._client.socket().shutdown(socket.SHUT_RDWR)
        self.close()

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


SITES = ("tps-6408012001-001", "tps-6408012001-002", "kpu-kutim")


class CollectorProcess:
    """`jaga-collector run` in a process of its own."""

    def __init__(self, folder, broker_port, *, sites=None, extra="", web_port=None):
        self.folder = folder
        self.port = web_port or free_port()
        self.database = folder / "collector.db"
        self.log = folder / "collector.log"
        self.config = folder / "collector.toml"
        if sites is None:
            sites = folder / "sites.csv"
            rows = [
                f"{site},Site {site},umum,Senyiur,Muara Ancalong,,0.5,116.4,"
                "Telkomsel,Indosat,"
                for site in SITES
            ]
            sites.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
        self.config.write_text(
            f'[collector]\nregion = "{REGION}"\ndistrict = "Kutai Timur"\n'
            f'sites = "{sites}"\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {broker_port}\ntls = false\n'
            '[store]\npath = "collector.db"\n'
            f"[web]\nport = {self.port}\n{extra}"
        )
        self.process = None
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self, *words):
        return [sys.executable, "-m", "jaga_server", *words, "--config", self.config]

    def start(self, *, ready=True):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run"), stdout=log, stderr=log, start_new_session=True
            )
        if ready:
            until(self._answers, "the collector answers")

    def _answers(self):
        if self.process.poll() is not None:
            pytest.fail(self.log.read_text())
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        return False

    def get(self, path, **parameters):
        answer = httpx.get(f"{self.url}{path}", params=parameters, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def metrics(self):
        """Return name{labels} → value."""
        text = httpx.get(f"{self.url}/metrics", timeout=10).text
        return {
            name: float(value)
            for name, value in (
                line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"
            )
        }

    def connected(self):
        return self.get("/api/1/summary")["broker_connected"]

    def wait_connected(self):
        until(self.connected, "the collector hears the broker")

    def records(self, leaf=None):
        """Return (site, boot, seq) of every stored record."""
        db = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return [
                tuple(row)
                for row in db.execute(
                    "SELECT site, boot, seq FROM record JOIN boot USING (boot_no)"
                    " JOIN site USING (site_no) WHERE ? IN ('', leaf)",
                    (leaf or "",),
                )
            ]
        finally:
            db.close()

    def stop(self, number=signal.SIGTERM):
        return ended(self.process, number) if self.process else None


class Stream:
    """Follows /api/1/stream on a thread and keeps each update."""

    def __init__(self, url):
        self.updates = []
        self.headers = None
        self.ended = threading.Event()
        self._client = httpx.Client(timeout=httpx.Timeout(5, read=30))
        self._url = url
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        until(lambda: self.updates, "the first update")

    def _follow(self):
        with (
            contextlib.suppress(httpx.HTTPError, httpx.StreamError),
            self._client.stream("GET", self._url) as answer,
        ):
            self.headers = answer.headers
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.updates.append(json.loads(line[6:]))
        self.ended.set()

    def close(self):
        self._client.close()
