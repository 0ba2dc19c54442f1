"""The rest of the district: every listed site as one real MQTT 5 connection.

    python -m demo.fleet --sites CSV --exclude tps-… --socket PATH

Each site has its own client id, last will, retained presence and numbered records, as
its Pi would. One process and one thread drive them all from an asyncio loop. What the
sites measured is `demo.district`'s; this module only talks to the broker. Standard
output is one JSON line every few seconds; the last one has `"done": true`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import secrets
import signal
import sys
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from demo.district import Moment, SimulatedSite, weather
from jaga_agent.wire.messages import Event, encode
from jaga_agent.wire.topics import Topic
from jaga_server import site_list
from jaga_server.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paho.mqtt.client import DisconnectFlags, SocketLike
    from paho.mqtt.reasoncodes import ReasonCode

    from jaga_server.core.model import Site

KEEPALIVE_S = 60
SESSION_EXPIRY_S = 3_600
"""Longer than any will delay: a session's end would fire the will at once (MQTT 5,
3.1.2.5)."""
WAITING_MAX = 1_000
"""Records a site keeps while the broker is away: nearly three hours at 10 s."""
BACKOFF_FIRST_S = 1.0
BACKOFF_CAP_S = 30.0
CLOSE_WITHIN_S = 5.0
REPORT_CONNECTING_S = 0.5
FILES_BESIDE_SITES = 64


@dataclass(slots=True)
class Tally:
    """What the whole fleet has done so far."""

    sites: int = 0
    connected: int = 0
    connections: int = 0
    dials_failed: int = 0
    """Nobody listened, or the broker refused."""
    made: int = 0
    """Records given a number: heartbeats and events."""
    acknowledged: int = 0
    """Records the broker answered for."""
    dropped: int = 0
    """Records lost because a site already kept WAITING_MAX."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker listens: a Unix socket's path, or host and port."""

    socket: str | None
    host: str
    port: int


@dataclass(slots=True)
class Publisher:
    """One site's connection: dials, says online, sends each beat, dials again."""

    loop: asyncio.AbstractEventLoop
    site: SimulatedSite
    region: str
    broker: Broker
    will_delay_s: int
    tally: Tally
    _client: Client = field(init=False)
    _connection: int = 0
    _attempts: int = 0
    _connected: bool = False
    _closing: bool = False
    _records: set[int] = field(default_factory=set)
    """Message ids of records the broker has not answered for."""
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.site.listed.site,
            protocol=MQTTProtocolVersion.MQTTv5,
            transport="tcp" if self.broker.socket is None else "unix",
            reconnect_on_failure=False,
        )
        client.max_queued_messages_set(WAITING_MAX)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_wrote

    def start(self, connect_in_s: float, beat_in_s: float) -> None:
        """Dial and beat for the first time after these delays."""
        self._later("dial", self.loop.time() + connect_in_s, self._dial)
        due = self.loop.time() + beat_in_s
        self._later("beat", due, self._beat, due)

    async def close(self) -> None:
        """Say offline and disconnect cleanly, so that no will is sent."""
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        if not self._connected:
            return
        self._client.publish(
            self._topic("status"), self._status(online=False), qos=1, retain=True
        )
        self._client.disconnect()
        await self._closed.wait()

    # -- the connection ------------------------------------------------------------

    def _dial(self) -> None:
        self._connection += 1
        self._attempts += 1
        will = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]  # paho has no types here
        will.WillDelayInterval = self.will_delay_s
        self._client.will_set(
            self._topic("status"),
            self._status(online=False),
            qos=1,
            retain=True,
            properties=will,
        )
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        try:
            # The port is not used on a Unix socket, but paho wants one.
            self._client.connect(
                self.broker.socket or self.broker.host,
                self.broker.port or 1883,
                keepalive=KEEPALIVE_S,
                # Never clean, not even first: Mosquitto 2.0.11 keeps no session over
                # its restart that began clean, whatever its expiry.
                clean_start=False,
                properties=properties,
            )
        except OSError:
            # Nobody listens, or not yet: counted, and tried again.
            self.tally.dials_failed += 1
            self._dial_later()

    def _dial_later(self) -> None:
        """Full jitter: 701 sites must not return in one second (as the agent does)."""
        ceiling_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(self._attempts, 10))
        delay_s = random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, no secret
        self._later("dial", self.loop.time() + delay_s, self._dial)

    def _on_connect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            # The broker closes the connection next, and _on_disconnect dials again.
            self.tally.dials_failed += 1
            return
        self._attempts = 0
        self._connected = True
        self.tally.connected += 1
        self.tally.connections += 1
        self._client.publish(
            self._topic("status"), self._status(online=True), qos=1, retain=True
        )

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._connected:
            self._connected = False
            self.tally.connected -= 1
        if self._closing:
            self._closed.set()
        else:
            self._dial_later()

    # -- records -------------------------------------------------------------------

    def _beat(self, due: float) -> None:
        interval_s = self.site.interval_s
        self._client.loop_misc()
        for record in self.site.advance(_now()):
            leaf = "event" if isinstance(record, Event) else "heartbeat"
            info = self._client.publish(self._topic(leaf), encode(record), qos=1)
            self.tally.made += 1
            if info.rc is MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                self.tally.dropped += 1
            else:
                self._records.add(info.mid)
        # From the time planned, not from now: the rhythm must not drift. A process that
        # was stopped for long does not make up for the beats it missed.
        due = max(due + interval_s, self.loop.time())
        self._later("beat", due, self._beat, due)

    def _on_publish(
        self,
        _client: Client,
        _userdata: Any,
        mid: int,
        _reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        if mid in self._records:
            self._records.remove(mid)
            self.tally.acknowledged += 1

    # -- the event loop ------------------------------------------------------------

    def _on_socket_open(
        self, _client: Client, _userdata: Any, sock: SocketLike
    ) -> None:
        self.loop.add_reader(sock.fileno(), self._client.loop_read)

    def _on_socket_close(
        self, _client: Client, _userdata: Any, sock: SocketLike
    ) -> None:
        self.loop.remove_reader(sock.fileno())
        self.loop.remove_writer(sock.fileno())

    def _on_want_write(self, _client: Client, _userdata: Any, sock: SocketLike) -> None:
        self.loop.add_writer(sock.fileno(), self._client.loop_write)

    def _on_wrote(self, _client: Client, _userdata: Any, sock: SocketLike) -> None:
        self.loop.remove_writer(sock.fileno())

    def _later(self, name: str, due: float, callback: Any, *arguments: Any) -> None:
        self._timers[name] = self.loop.call_at(due, callback, *arguments)

    def _topic(self, leaf: str) -> str:
        return str(Topic(self.region, self.site.listed.site, leaf))

    def _status(self, *, online: bool) -> bytes:
        return encode(self.site.status(online=online, connection=self._connection))


def _now() -> Moment:
    """Read the two clocks a Pi stamps its records with."""
    return Moment(
        at_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000,
        wall_ms=time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000,
    )


def _phase(site: str) -> float:
    """Return the site's place in the interval, 0…1: the same in every run."""
    return zlib.crc32(site.encode()) / 2**32


def _raise_open_files(connections: int) -> None:
    """One descriptor for each site; the usual soft limit is 1,024."""
    needed = connections + FILES_BESIDE_SITES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard < needed:
        sys.exit(
            f"fleet: {connections} sites need {needed} open files, the limit is {hard};"
            f" raise it (ulimit -Hn {needed}) or use --limit {hard - FILES_BESIDE_SITES}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def run(sites: Sequence[Site], options: argparse.Namespace) -> int:
    """Run the fleet until SIGTERM or SIGINT; return the process's exit status."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    broken: list[str] = []

    def on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A callback that raised is a bug in here: show it and end, do not limp on.
        loop.default_exception_handler(context)
        broken.append(context["message"])
        stop.set()

    loop.set_exception_handler(on_exception)
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop.set)

    tally = Tally(sites=len(sites))
    broker = Broker(options.socket, options.host, options.port)
    over_district = weather(sites, options.seed)
    publishers = [
        Publisher(
            loop=loop,
            site=SimulatedSite(
                listed=listed,
                seed=options.seed,
                boot=secrets.token_bytes(8),
                weather=over_district,
                interval_s=options.interval,
            ),
            region=options.region,
            broker=broker,
            will_delay_s=options.will_delay,
            tally=tally,
        )
        for listed in sites
    ]
    for number, publisher in enumerate(publishers):
        connect_in_s = options.connect_within * number / max(1, len(publishers))
        phase = _phase(publisher.site.listed.site)
        publisher.start(connect_in_s, connect_in_s + phase * options.interval)

    while not stop.is_set():
        # Whoever waits for the fleet to be up should not wait for a report.
        whole = tally.connected == tally.sites
        try:
            async with asyncio.timeout(
                options.report if whole else REPORT_CONNECTING_S
            ):
                await stop.wait()
        except TimeoutError:
            _report(tally)
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await asyncio.gather(*(publisher.close() for publisher in publishers))
    except TimeoutError:
        broken.append(f"{tally.connected} sites did not disconnect in time")
    _report(tally, done=True)
    for message in broken:
        print(f"fleet: {message}", file=sys.stderr)
    return 1 if broken else 0


def _report(tally: Tally, *, done: bool = False) -> None:
    waiting = tally.made - tally.acknowledged - tally.dropped
    line = {**asdict(tally), "waiting": waiting, "done": done}
    print(json.dumps(line), flush=True)


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.fleet",
        description="Simulate the polling sites of a list, one connection for each.",
    )
    parser.add_argument("--sites", type=Path, required=True, help="site list (CSV)")
    parser.add_argument(
        "--exclude", action="append", default=[], help="a site that runs for real"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", help="the broker's Unix socket")
    where.add_argument("--host", default="", help="the broker's address")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--region", default="6408", help="Kemendagri code, no dots")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="only the first so many sites")
    parser.add_argument(
        "--will-delay", type=int, default=30, help="seconds until a will is sent"
    )
    parser.add_argument(
        "--connect-within", type=float, default=5.0, help="seconds to spread dialling"
    )
    parser.add_argument("--report", type=float, default=5.0, help="seconds")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = options_of(arguments)
    try:
        listed = site_list.read(options.sites)
    except ConfigError as error:
        sys.exit(f"fleet: {error}")
    sites = [site for site in listed if site.site not in options.exclude]
    sites = sites[: options.limit]
    _raise_open_files(len(sites))
    return asyncio.run(run(sites, options))


if __name__ == "__main__":
    raise SystemExit(main())
