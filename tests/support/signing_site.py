"""A scripted site with a real key: its records by hand, its digests by the agent's code.

Boots and runs end as they are told to; the clock is a test's. What it recorded is sent
as an agent sends it: heartbeats and events on topics of their own, the rest in histories.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from types import SimpleNamespace

import msgspec

from jaga_agent.adapters.fakes import FakeClock, MemorySpool
from jaga_agent.adapters.signing import SiteKey
from jaga_agent.config import Config
from jaga_agent.runtime.digests import Digests
from jaga_agent.runtime.troubles import Troubles
from jaga_agent.wire.base import encode
from jaga_agent.wire.evidence import (
    CODE_OF,
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
    UplinkBeat,
)

REGION = "6408"
CONFIG = """
[site]
id = "{site}"
region = "6408"
[mqtt]
host = "broker"
tls = false
[[uplink]]
name = "telkomsel"
device = "wan0"
"""


class Spool(MemorySpool):
    """Keeps earlier boots' records too."""

    def __init__(self, boot, earlier):
        super().__init__(boot, max_records=100_000)
        self.earlier = earlier

    def boots(self):
        return [*((s.boot, s.next_seq() - 1) for s in self.earlier), *super().boots()]

    def select(self, boot, first, last):
        spools = [MemorySpool, *self.earlier]
        found = [
            s.select(boot, first, last)
            if s is not MemorySpool
            else super(Spool, self).select(boot, first, last)
            for s in spools
        ]
        return [record for part in found for record in part if record.boot == boot]

    def last_digest(self):
        heads = [super().last_digest(), *(s.last_digest() for s in self.earlier[::-1])]
        return next((head for head in heads if head is not None), None)


class SigningSite:
    """One site over all its boots."""

    def __init__(self, site, begin_ms, files=None):
        """Begin at this Unix time; `files` are its key and certificate, None: none."""
        self.site = site
        self.config = msgspec.toml.decode(CONFIG.format(site=site), type=Config)
        self.files = files
        self.clock = FakeClock(20.0, wall_ms=begin_ms)
        self.spools = []
        self.boot()

    def boot(self, off_s=0.0):
        """Start the Pi, after so long without power."""
        wall_ms = self.clock.wall_ms() + round(off_s * 1000)
        self.clock = FakeClock(20.0, wall_ms=wall_ms)
        # Each spool hands over what is older than itself alone.
        self.spool = Spool(secrets.token_bytes(8), [])
        for older in self.spools:
            older.earlier = []
        self.spool.earlier = list(self.spools)
        self.spools.append(self.spool)
        self.run()

    def run(self):
        """Start the agent: what earlier runs left is covered, then it is `started`."""
        signer = None
        if self.files is not None:
            signer = SiteKey(self.files.key, self.files.certificate)
        doors = SimpleNamespace(spool=self.spool, clock=self.clock, signer=signer)
        self.digests = Digests(
            self.config,
            doors=doors,
            troubles=Troubles(),
            recorded=lambda _: None,
        )
        self.digest()
        self.event("started")

    def lose_spool(self):
        """Begin anew with an empty spool, as when the card's file was damaged."""
        self.spools_lost = self.spools
        self.spools = []
        self.boot(5)

    def digest(self):
        """Cover what is not covered yet."""
        asyncio.run(self.digests.close())

    def pass_(self, seconds, *, every_s=10):
        """Let time pass, with heartbeats, and digests at each five minutes."""
        for _ in range(round(seconds / every_s)):
            before = self.clock.now() // 300
            self.clock.advance(every_s)
            self.heartbeat()
            if self.clock.now() // 300 > before:
                self.histogram()
                self.digest()

    def _stamp(self):
        return {
            "boot": self.spool.boot,
            "seq": self.spool.next_seq(),
            "at_ms": round(self.clock.now() * 1000),
            "wall_ms": self.clock.wall_ms(),
            "clock_age_s": 5,
        }

    def _keep(self, leaf, message):
        return self.spool.append(message.seq, leaf, encode(message))

    def event(self, kind="health", reason="silent on every target"):
        message = Event(
            **self._stamp(), kind=kind, rule=None, uplink="telkomsel", old="up",
            new="down", reason=reason, evidence={"target": "sirekap"},
        )  # fmt: skip
        return self._keep("event", message)

    def heartbeat(self):
        seq = self.spool.next_seq()
        uplinks = tuple(
            UplinkBeat(
                name, HealthCode.UP, 10, seq % 3, 0, 20_000 + seq, 40_000, 90_000,
                1000 + seq, 500, -71,
            )
            for name in ("telkomsel", "indosat")
        )  # fmt: skip
        host = HostBeat(60 + seq, 120, 300, 410, 515)
        message = Heartbeat(
            **self._stamp(), mode=ModeCode.POLLING_DAY, active="telkomsel",
            uplinks=uplinks, host=host,
        )  # fmt: skip
        return self._keep("heartbeat", message)

    def histogram(self):
        stamp = self._stamp()
        uplinks = tuple(
            UplinkHistogram(
                name, 300, 2, 0, 120, (3, 290, 5), 12_345_678, 9, 8, (0, 300_000, 0, 0)
            )
            for name in ("telkomsel", "indosat")
        )
        begin_ms = max(0, stamp["at_ms"] - 300_000)
        message = Histogram(**stamp, begin_ms=begin_ms, uplinks=uplinks)
        return self._keep("histogram", message)

    def records(self):
        """Return everything recorded, oldest first."""
        return [
            record
            for spool in self.spools
            for record in spool.select(spool.boot, 1, spool.next_seq())
        ]

    def messages(self, *, apart=200):
        """Yield (topic, payload) as the records travel, `apart` of them in a history."""
        waiting = []
        for record in self.records():
            if record.leaf in {"heartbeat", "event"}:
                yield self.topic(record.leaf), record.payload
            else:
                waiting.append(HistoryItem(CODE_OF[record.leaf], record.payload))
        for first in range(0, len(waiting), apart):
            history = History(pack(waiting[first : first + apart]))
            yield self.topic("history"), encode(history)

    def topic(self, leaf):
        return f"jaga/1/{REGION}/{self.site}/{leaf}"

    def renewed(self, files):
        """Put other files in the place of the site's."""
        self.files.key.write_bytes(files.key.read_bytes())
        self.files.certificate.write_bytes(files.certificate.read_bytes())
        self.files = replace(self.files, serial=files.serial)
