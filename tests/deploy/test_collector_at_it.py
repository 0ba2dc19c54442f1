"""The real collector at the field's broker: with its certificate in, without it out."""

import json
import subprocess

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

    def configured(files, history=None):
        process = CollectorProcess(tmp_path, place.port)
        process.certify(files, history)
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


@pytest.mark.parametrize("beside", [True, False], ids=["two sessions", "one"])
def test_what_comes_late_is_stored_by_whichever_session(place, collector, beside):
    running = collector(
        place.collector(), place.collector("history") if beside else None
    )
    running.wait_connected()
    site = ScriptedSite(A)
    client = Client(place.site(A)).connect(place)
    try:
        history = encode(site.history([site.heartbeat(), site.event()]))
        client.publish(site.topic("history"), history)
        client.publish(site.topic("heartbeat"), encode(site.heartbeat()))
    finally:
        client.close()
    until(lambda: len(running.records()) == 3)
    log = place.broker.log()
    assert ("collector-history 1 jaga/1/6408/+/history" in log) == beside
    assert "already connected" not in log


def test_tail_has_a_certificate_of_its_own_or_does_not_begin(place, collector):
    running = collector(place.collector())
    running.wait_connected()
    refused = subprocess.run(
        running.command("tail"), capture_output=True, text=True, timeout=30, check=False
    )
    assert refused.returncode == 1
    assert "collector issue tail" in refused.stderr
    files = place.collector("tail")
    place.reload()
    tail = subprocess.Popen(
        [*running.command("tail"), "--cert", files.cert, "--key", files.key],
        stdout=subprocess.PIPE,
        text=True,
    )
    site = ScriptedSite(A)
    client = Client(place.site(A)).connect(place)
    try:
        until(lambda: "collector-tail 1 jaga/1/6408/+/event" in place.broker.log())
        client.publish(site.topic("event"), encode(site.event()))
        assert json.loads(tail.stdout.readline())["site"] == A
    finally:
        client.close()
        tail.terminate()
        tail.wait(10)
        tail.stdout.close()
    assert running.connected()


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
