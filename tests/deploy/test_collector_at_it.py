"""The real collector at the field's broker: with its certificate in, without it out."""

import pytest

from collector_lab import CollectorProcess, ScriptedSite
from jaga_agent.wire.messages import encode
from lab.field import Field
from support.mqtt_client import NOT_AUTHORIZED, Client
from support.waiting import until

A, B = "tps-6408041010-001", "tps-6408041010-002"


@pytest.fixture
def place(tmp_path):
    with Field(tmp_path / "field", sites=[A, B]) as running:
        yield running


@pytest.fixture
def collector(place, tmp_path):
    """A collector's process with the configuration that README shows."""

    def configured(files):
        process = CollectorProcess(tmp_path, place.port)
        text = process.config.read_text()
        assert "tls = false" in text
        process.config.write_text(
            text.replace(
                "tls = false",
                f'ca = "{files.ca}"\ncert = "{files.cert}"\nkey = "{files.key}"',
            )
        )
        started.append(process)
        process.start()
        return process

    started = []
    yield configured
    for process in started:
        process.stop()


def test_it_stores_what_sites_send_and_nothing_in_anothers_name(place, collector):
    running = collector(place.collector())
    running.wait_connected()
    own, forged = ScriptedSite(A), ScriptedSite(B)
    client = Client(place.site(A)).connect(place)
    try:
        for site, wanted in ((forged, False), (own, True)):
            beat = encode(site.heartbeat())
            refused = client.publish(site.topic("heartbeat"), beat) == NOT_AUTHORIZED
            assert refused != wanted
    finally:
        client.close()
    assert until(running.records) == [(A, own.boot, own.seq)]
    assert f"Denied PUBLISH from {A} " in place.broker.log()


def test_a_site_that_plays_the_collector_hears_nothing(place, collector):
    """The same configuration with a site's certificate: connected, and deaf."""
    running = collector(place.site(B))
    until(lambda: f"{B} 1 jaga/1/6408/+/heartbeat" in place.broker.log())
    site = ScriptedSite(A)
    client = Client(place.site(A)).connect(place)
    try:
        client.publish(site.topic("heartbeat"), encode(site.heartbeat()))
    finally:
        client.close()
    running.stop()
    assert running.records() == []
