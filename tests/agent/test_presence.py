"""The site towards the broker: birth, newest state, commands and their replies."""

from types import SimpleNamespace

import pytest

from jaga_agent.adapters.fakes import FakeBroker, FakeClock, MemorySpool
from jaga_agent.ports import Message
from jaga_agent.runtime.delivery import Delivery
from jaga_agent.runtime.presence import REPLIES, Presence
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.runtime.troubles import Troubles
from jaga_agent.wire import messages as wire
from jaga_agent.wire.evidence import BootMark, Watermark
from support.collector_model import beat, event, site_config

BASE = "jaga/1/6408/tps-1"


class Desk:
    def __init__(self):
        config, clock = site_config(), FakeClock()
        self.spool = MemorySpool()
        self.troubles = Troubles()

        def make_broker(listener, next_will):
            self.broker = FakeBroker(listener, next_will)
            return self.broker

        self.delivery = Delivery(
            config, spool=self.spool, clock=clock, is_busy=lambda: False
        )
        self.recorder = Recorder(self.spool, clock, self.delivery.recorded)
        self.presence = Presence(
            config,
            config_hash="0" * 16,
            version="1",
            doors=SimpleNamespace(
                clock=clock, spool=self.spool, make_broker=make_broker
            ),
            delivery=self.delivery,
            troubles=self.troubles,
            changed=lambda: None,
        )
        self.presence.on_connected = lambda: self.recorder.record(beat)
        self.presence.start()

    def published(self):
        return [p.topic.removeprefix(f"{BASE}/") for p in self.broker.published]


@pytest.fixture
async def desk():
    desk = Desk()
    yield desk
    await desk.presence.close()


async def test_birth_then_the_state_now_then_the_news(desk):
    desk.recorder.record(event)
    desk.broker.go_online()
    assert desk.published() == ["status", "heartbeat", "event"]
    assert desk.broker.retained.keys() == {f"{BASE}/status"}


async def test_a_watermark_ends_the_duty(desk):
    desk.broker.go_online()
    desk.broker.acknowledge(9)
    assert desk.delivery.waiting == 1
    boot = desk.spool.boot
    mark = Watermark(b"store--1", 1, (BootMark(boot, 1, 1),))
    desk.broker.bring(Message(f"{BASE}/watermark", wire.encode(mark)))
    assert desk.delivery.waiting == 0


async def test_commands_go_to_the_hook_with_their_correlation(desk, caplog):
    command = Message(f"{BASE}/command", b"do it", b"order 1")
    desk.broker.go_online()
    desk.broker.bring(command)
    assert "nobody here carries out commands" in caplog.text
    told = []
    desk.presence.on_command = lambda payload, order: told.append((payload, order))
    desk.broker.bring(command)
    assert told == [(b"do it", b"order 1")]


async def test_a_reply_outlives_the_connection_that_it_ends(desk):
    desk.broker.go_online()
    desk.presence.reply(b"done", b"order 1")
    desk.broker.go_offline()
    desk.presence.reply(b"done too", b"order 2")
    desk.broker.go_online()
    replies = [p for p in desk.broker.published if p.topic == f"{BASE}/reply"]
    assert [(r.payload, r.correlation) for r in replies] == [
        (b"done", b"order 1"),
        (b"done", b"order 1"),
        (b"done too", b"order 2"),
    ]
    desk.broker.acknowledge(9)
    desk.broker.go_offline()
    desk.broker.go_online()
    assert desk.published().count("reply") == 3
    assert desk.delivery.waiting == 3, "the three heartbeats, and no reply"


async def test_a_reply_that_found_no_room_goes_with_the_next_acknowledgement(desk):
    desk.broker.go_online()
    for _ in range(30):
        desk.recorder.record(event)
    desk.presence.reply(b"done", b"order 1")
    assert "reply" not in desk.published()
    for _ in range(3):
        desk.broker.acknowledge(20)
    assert desk.published().count("reply") == 1


async def test_too_many_replies_are_told(desk, caplog):
    for n in range(REPLIES + 3):
        desk.presence.reply(b"done", b"order %d" % n)
    assert caplog.text.count("a reply was dropped") == 3
    desk.broker.go_online()
    desk.broker.acknowledge(20)
    desk.broker.acknowledge(20)
    first = next(p for p in desk.broker.published if p.topic == f"{BASE}/reply")
    assert first.correlation == b"order 3"
    assert desk.published().count("reply") == REPLIES


async def test_refusals_are_told(desk):
    desk.broker.go_online()
    desk.presence.rejected(1, "quota exceeded")
    assert desk.troubles.all() == ["the broker rejected a record: quota exceeded"]
    desk.broker.go_offline()
    desk.broker.go_online()
    assert desk.troubles.all() == []
