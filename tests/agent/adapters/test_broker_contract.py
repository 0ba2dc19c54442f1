"""What `ports.Broker` promises, on the fake and on the real thing."""

import asyncio
import contextlib

import pytest

from jaga_agent.adapters.fakes import FakeBroker
from jaga_agent.adapters.mqtt import MqttBroker, Settings
from jaga_agent.ports import Message, Will
from lab import Broker

TOPIC = "jaga/1/6408/kpu-kutim/status"
COMMAND = "jaga/1/6408/kpu-kutim/command"


class Listener:
    def __init__(self):
        self.told = []

    def connected(self, session_present):
        self.told.append(("connected", session_present))

    def disconnected(self, reason):
        self.told.append(("disconnected", reason))

    def acknowledged(self, token):
        self.told.append(("acknowledged", token))

    def rejected(self, token, reason):
        self.told.append(("rejected", token, reason))

    def message(self, message):
        self.told.append(("message", message))


class Fake:
    """The fake, driven as the real broker behaves."""

    def __init__(self, listener, next_will):
        self.broker = FakeBroker(listener, next_will, max_inflight=3)

    async def settle(self):
        if self.broker.started and not self.broker.closed and not self.broker.online:
            self.broker.go_online(session_present=bool(self.broker.reconnects))
        self.broker.acknowledge(10)
        await asyncio.sleep(0)

    async def bring(self, message):
        self.broker.bring(message)


class Real:
    def __init__(self, listener, next_will, port):
        settings = Settings(
            "127.0.0.1",
            "kpu-kutim",
            port,
            max_inflight=3,
            subscriptions=(COMMAND,),
        )
        self.port = port
        self.broker = MqttBroker(settings, listener, next_will)

    async def settle(self):
        await asyncio.sleep(0.05)

    async def bring(self, message):
        said = ["-t", message.topic, "-m", message.payload.decode(), "-q", "1"]
        for name, value in (
            ("correlation-data", message.correlation.decode()),
            ("response-topic", message.response_topic),
            ("message-expiry-interval", str(message.expiry_s)),
        ):
            said += ["-D", "publish", name, value]
        speaker = await asyncio.create_subprocess_exec(
            "mosquitto_pub", "-V", "5", "-p", str(self.port), *said
        )
        assert await speaker.wait() == 0


@pytest.fixture(params=["fake", "real"])
async def world(request, tmp_path):
    listener, wills = Listener(), []

    def next_will():
        wills.append(Will(TOPIC, b"offline", 30))
        return wills[-1]

    async with contextlib.AsyncExitStack() as stack:
        if request.param == "fake":
            yield Fake(listener, next_will), listener, wills
            return
        mosquitto = stack.enter_context(Broker(tmp_path))
        yield Real(listener, next_will, mosquitto.port), listener, wills


async def settle(side, listener, *want):
    """Let things happen until the listener has been told this since the last time."""
    async with asyncio.timeout(15):
        while not set(want) <= set(listener.told):
            await side.settle()
    told, listener.told = [t for t in listener.told if t in want], []
    return told


async def test_a_broker_keeps_its_promises(world):
    side, listener, wills = world
    broker = side.broker
    assert not broker.publish(TOPIC, b"before start", token=1)
    broker.start()
    assert not broker.publish(TOPIC, b"before it is connected", token=1)
    await settle(side, listener, ("connected", False))

    # The window, and acknowledgements in order.
    taken = [broker.publish(TOPIC, b"x", token=token) for token in (1, 2, 3, 4)]
    assert taken == [True, True, True, False]
    want = [("acknowledged", token) for token in (1, 2, 3)]
    assert await settle(side, listener, *want) == want

    # What comes, with its properties as values.
    command = Message(COMMAND, b"do it", b"id", "answer/here", 60)
    await side.bring(command)
    want = [("message", command)]
    assert await settle(side, listener, *want) == want

    # A new connection has a new will, and knows nothing of the old one's messages.
    before = len(wills)
    assert broker.publish(TOPIC, b"in flight", token=5)
    broker.reconnect_now("wan0 is dead")
    want = [("disconnected", "wan0 is dead"), ("connected", True)]
    assert await settle(side, listener, *want) == want
    assert len(wills) == before + 1
    assert [broker.publish(TOPIC, b"x", token=t) for t in (5, 6, 7, 8)].count(True) == 3
    want = [("acknowledged", token) for token in (5, 6, 7)]
    assert await settle(side, listener, *want) == want

    await broker.close(last_topic=TOPIC, last_payload=b"goodbye")
    assert not broker.publish(TOPIC, b"after the end", token=9)
    assert listener.told == []
