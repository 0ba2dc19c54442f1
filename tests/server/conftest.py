"""Starts real things for the collector's tests and ends them, also when a test fails."""

import secrets
import signal

import pytest

from collector_lab import (
    CollectorProcess,
    Publisher,
    ScriptedSite,
    Stream,
)
from jaga_server.store.sqlite import Store
from lab import Broker
from support.waiting import until


@pytest.fixture
def make_broker(tmp_path):
    brokers = []

    def make(options=""):
        folder = tmp_path / f"broker-{secrets.token_hex(3)}"
        brokers.append(Broker(folder, options=options))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.stop()


@pytest.fixture
def broker(make_broker):
    broker = make_broker()
    broker.start()
    return broker


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "c.db")
    yield store
    store.close()


@pytest.fixture
def simulate():
    return ScriptedSite


@pytest.fixture
def publisher():
    opened = []

    def connect(port, will=None):
        opened.append(Publisher(port, will))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


@pytest.fixture
def collector(tmp_path):
    made = []

    def make(broker_port, **options):
        folder = tmp_path / f"collector-{secrets.token_hex(3)}"
        folder.mkdir()
        made.append(CollectorProcess(folder, broker_port, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop(signal.SIGKILL)


@pytest.fixture
def room(broker, collector):
    """A collector that runs and hears the broker."""
    room = collector(broker.port)
    room.start()
    room.wait_connected()
    return room


@pytest.fixture
def follow():
    streams = []

    def open_stream(collector):
        streams.append(Stream(f"{collector.url}/api/1/stream"))
        return streams[-1]

    yield open_stream
    for stream in streams:
        stream.close()


@pytest.fixture(scope="session")
def wait_until():
    return until
