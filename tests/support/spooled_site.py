"""A scripted site that forgets nothing until the collector's watermark covers it.

What the agent's spool does, in a few lines and in RAM: with it a test shows that nothing is
lost in the end, whatever broker and collector went through.
"""

from __future__ import annotations

import secrets
import threading
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from collector_lab import ScriptedSite
from jaga_agent.wire.evidence import BOOTS, CODE_OF, HistoryItem, Watermark
from jaga_agent.wire.messages import decode, encode
from support.waiting import until

BATCH = 200
PATIENCE_S = 3.0
"""How long it waits for a watermark before it sends again."""


class SpooledSite:
    """Publishes live, reads its watermark, sends again what that does not cover."""

    def __init__(self, site, port):
        self.script = ScriptedSite(site)
        self.records = {}
        """(boot, seq) → (leaf, payload) of all that was ever recorded."""
        self.marks = []
        """Every watermark that was taken, oldest first."""
        self._known = {}
        """boot → the last that was said of it."""
        self.stale = 0
        """Watermarks of a revision that is not above the last."""
        self._lock = threading.Lock()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{site}-{secrets.token_hex(4)}",
            protocol=paho.MQTTv5,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.max_queued_messages_set(0)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the site connects")

    def _subscribe(self, client, *_):
        client.subscribe([(self.script.topic("watermark"), SubscribeOptions(qos=1))])

    def _take(self, _client, _userdata, message):
        mark = decode(message.payload, Watermark)
        with self._lock:
            last = self.marks[-1] if self.marks else None
            if last and last.store == mark.store and mark.revision <= last.revision:
                self.stale += 1
            else:
                self.marks.append(mark)
                # With places to spare, nothing is held of a boot that has none. With all
                # taken nothing is said of the others.
                if len(mark.boots) < BOOTS:
                    self._known.clear()
                self._known |= {one.boot: one for one in mark.boots}

    @property
    def connected(self):
        return self._client.is_connected()

    def reboot(self):
        self.script = ScriptedSite(self.script.site)

    def record(self, count, *, live=True):
        """Record so many heartbeats, an event among ten; return the broker's handles."""
        handles = []
        for _ in range(count):
            script = self.script
            record = script.event() if script.seq % 10 == 9 else script.heartbeat()
            leaf = type(record).__name__.lower()
            payload = encode(record)
            self.records[script.boot, record.seq] = (leaf, payload)
            if live:
                handles.append(self._client.publish(script.topic(leaf), payload, qos=1))
        return handles

    def pending(self):
        """Return what the watermarks do not cover, oldest first."""
        with self._lock:
            known = dict(self._known)

        def covered(boot, seq):
            one = known.get(boot)
            if one is None:
                return False
            if seq <= one.through:
                return True
            return seq <= one.highest and not any(a <= seq <= b for a, b in one.gaps)

        return [key for key in self.records if not covered(*key)]

    def resend(self):
        """Send what is pending as histories; return how many records that were."""
        pending = self.pending()
        for first in range(0, len(pending), BATCH):
            chunk = pending[first : first + BATCH]
            items = [
                HistoryItem(CODE_OF[self.records[key][0]], self.records[key][1])
                for key in chunk
            ]
            self._client.publish(
                self.script.topic("history"),
                encode(self.script.history(items)),
                qos=1,
            )
        return len(pending)

    def settle(self, within_s=60):
        """Send again until a watermark covers everything; return how many were resent."""
        deadline_s = time.perf_counter() + within_s
        resent = 0
        while self.pending():
            assert time.perf_counter() < deadline_s, (
                f"{len(self.pending())} not covered; last: {self.marks[-1:]}"
            )
            wait_s = time.perf_counter() + PATIENCE_S
            seen = len(self.marks)
            while self.pending() and time.perf_counter() < wait_s:
                time.sleep(0.05)
                if len(self.marks) > seen:
                    break
            if self.connected:
                resent += self.resend()
        return resent

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()
