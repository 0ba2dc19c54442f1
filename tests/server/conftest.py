"""Starts real things for the collector's tests and ends them, also when a test fails."""

import os
import secrets
import signal
from pathlib import Path

import hypothesis
import pytest

from collector_lab import (
    ROOT,
    CollectorProcess,
    Publisher,
    SimulatedSite,
    Stream,
    until,
)
from lab import Broker

# The machine is shared: a slow example is not a wrong one.
hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def shared_data():
    """The directory with the site list and the outlines of Kutai Timur."""
    place = os.environ.get("JAGA_SHARED_DATA")
    folder = Path(place) if place else ROOT.parent / "shared" / "data"
    if not (folder / "kutim-sites.csv").is_file():
        pytest.fail(
            f"no kutim-sites.csv in {folder}; set JAGA_SHARED_DATA to its folder"
        )
    return folder


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
def simulate():
    return SimulatedSite


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
