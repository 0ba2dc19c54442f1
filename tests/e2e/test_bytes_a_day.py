"""What telling costs a site in a day, each mode: heartbeats, TLS, TCP, acknowledgements.

Each kind of message is sent many times by the agent's own connection to the field's
broker (TLS 1.3, certificates, rights) and weighed in captured packets; a day is so many
of each as the agent's and the collector's schedules make. The pauses between them let
TCP acknowledge as it does in the field.
"""

import asyncio
import itertools
import random
import secrets

import msgspec
import pytest

from jaga_agent import config as config_module
from jaga_agent.config import HEARTBEAT_S
from jaga_agent.core.model import Mode
from jaga_agent.core.outbox import CADENCE_S
from jaga_agent.wire.base import encode
from jaga_agent.wire.evidence import (
    BootMark,
    Digest,
    Histogram,
    History,
    HistoryItem,
    RecordCode,
    UplinkHistogram,
    Watermark,
    pack,
)
from jaga_server.core import marking, model
from lab.field import Field
from support.capture import Capture
from support.mqtt_client import Client
from support.slim_site import UPLINKS, SlimSite, configuration

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]

SITE = "tps-6408052001-901"
DAY_S = 86_400
ALLOWED_BYTES = {
    Mode.POLLING_DAY: 4_000_000,
    Mode.READY: 1_000_000,
    Mode.DORMANT: 300_000,
}
SENT = 60
"""Of each kind of message."""
PAUSE_S = 0.06
"""Longer than a delayed TCP acknowledgement (Linux: 40 ms)."""
STAGE = {mode: model.Mode[mode.name] for mode in Mode}
RECONNECTIONS = 20
"""Failovers, a broker's restart, a NAT that forgets: a bad day's."""
RECORD_S = 300
"""Between two histograms, and two digests."""

dice = random.Random(4)  # noqa: S311 - guards nothing


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    with Field(tmp_path_factory.mktemp("f"), sites=[SITE]) as field:
        yield field


def histogram(stamp):
    counts = tuple(dice.randint(0, 9) for _ in range(14))
    return Histogram(
        *stamp,
        begin_ms=stamp[2] - RECORD_S * 1000,
        uplinks=tuple(
            UplinkHistogram(
                name, 30, 0, 0, 120, counts, 1_240_371, 412_993, 398_112,
                (0, 300_000, 0, 0),
            )
            for name in UPLINKS
        ),
    )  # fmt: skip


def digest(stamp):
    random_bytes = dice.randbytes
    return Digest(
        *stamp, stamp[0], stamp[1] - 31, stamp[1] - 1, (), random_bytes(32),
        random_bytes(32), None, random_bytes(71),
    )  # fmt: skip


def history(boot, minutes):
    """A history as it goes at a quiet site: histograms and digests of its time."""
    items = []
    for n in range(round(minutes * 60 / RECORD_S)):
        at_ms = 47_100_000 + n * RECORD_S * 1000
        stamp = (boot, 4700 + 32 * n, at_ms, 1_802_570_400_123 + at_ms, 312)
        items += [
            HistoryItem(RecordCode.HISTOGRAM, encode(histogram(stamp))),
            HistoryItem(RecordCode.DIGEST, encode(digest(stamp))),
        ]
    return encode(History(pack(items)))


async def until(done):
    while not done():  # noqa: ASYNC110 - lists that callbacks fill, no event
        await asyncio.sleep(0.01)


async def test_a_day_of_telling_costs_what_it_may(field, tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(configuration(SITE, field.address, field.port, field.site(SITE)))
    collector = Client(field.collector()).connect(field)
    collector.subscribe("jaga/1/6408/+/heartbeat", "jaga/1/6408/+/history")
    site = SlimSite(path, boot=secrets.token_bytes(8))
    presence, broker = site.presence, site.broker
    acknowledged, marks, births = [], [], []
    presence.acknowledged = acknowledged.append
    site.delivery.watermark = marks.append
    presence.on_connected = lambda: births.append(1)

    ours = collector.paho.socket().getsockname()[1]
    with Capture(field.port, but=ours) as capture:

        async def weigh(times, act, counted):
            """Return the bytes of one, of so many."""
            await asyncio.sleep(3 * PAUSE_S)
            before = capture.total
            for _ in range(times):
                wanted = len(counted) + 1
                act()
                await until(lambda wanted=wanted: len(counted) >= wanted)
                await asyncio.sleep(PAUSE_S)
            return (capture.total - before) / times

        try:
            async with asyncio.timeout(200):
                first = await weigh(1, presence.start, births)
                again = await weigh(
                    RECONNECTIONS, lambda: presence.reconnect_now("weighed"), births
                )
                heartbeat = await weigh(SENT, site.beat, acknowledged)
                boot = site.spool.boot
                numbers = itertools.count(1_802_570_400_123, 60_000)
                told = Watermark(b"a store!", 0, (BootMark(boot, 4711, 4711),))
                watermark = await weigh(
                    SENT,
                    lambda: collector.paho.publish(
                        f"jaga/1/6408/{SITE}/watermark",
                        encode(msgspec.structs.replace(told, revision=next(numbers))),
                        qos=1,
                        retain=True,
                    ),
                    marks,
                )
                histories = {
                    mode: await weigh(
                        10,
                        lambda mode=mode: broker.publish(
                            site.delivery.topic("history"),
                            history(boot, CADENCE_S[mode] / 60),
                            token=10**6,
                        ),
                        acknowledged,
                    )
                    for mode in Mode
                }
        finally:
            await presence.close()
            collector.close()
    said = [
        (
            f"connection {first:.0f} B, again {again:.0f} B, heartbeat {heartbeat:.0f}"
            f" B, watermark {watermark:.0f} B"
        )
    ]
    day = {}
    for mode in Mode:
        beats = DAY_S / HEARTBEAT_S[mode]
        batches = DAY_S / CADENCE_S[mode]
        # While it only ticks along, and after each connection.
        told_of = DAY_S * 1000 / marking.TICKING_MS[STAGE[mode]] + RECONNECTIONS
        day[mode] = (
            first
            + RECONNECTIONS * again
            + beats * heartbeat
            + batches * histories[mode]
            + told_of * watermark
        )
        said.append(
            f"{mode.value}: {day[mode] / 1e6:.3f} MB a day: {beats:.0f} heartbeats,"
            f" {batches:.0f} histories of {histories[mode]:.0f} B,"
            f" {told_of:.0f} watermarks"
        )
    print("\n".join(said))  # noqa: T201 - the measured figures, shown by -s
    assert {m: b for m, b in day.items() if b > ALLOWED_BYTES[m]} == {}


@pytest.mark.parametrize("mode", Mode)
def test_no_ping_is_sent_between_heartbeats(mode, tmp_path):
    path = tmp_path / "site.toml"
    text = configuration(SITE, "127.0.0.1", 8883, None)
    path.write_text(text.replace("[[uplink]]", f'mode = "{mode.value}"\n[[uplink]]', 1))
    config, _ = config_module.load(path)
    # paho pings when nothing went, or nothing came, for so long.
    assert config.keepalive_s > HEARTBEAT_S[mode]
