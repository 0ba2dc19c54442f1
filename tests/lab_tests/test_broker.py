"""One broker, reached from inside the lab by TCP and from the machine by its socket."""

from __future__ import annotations

import queue

import paho.mqtt.client as mqtt
import pytest

from lab import LabError
from lab.topology import BROKER

pytestmark = pytest.mark.netns


def test_a_message_from_the_pi_arrives_outside(lab, gateway) -> None:
    broker = lab.start_broker()
    gateway.switch("indosat")
    lab.pi.ip(gateway.rule("indosat").replace("oif wan1 ", "").replace("1102", "1500"))
    ready: queue.Queue[None] = queue.Queue()
    got: queue.Queue[bytes] = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, transport="unix")
    client.on_connect = lambda c, *_: c.subscribe("jaga/1/6408/#", qos=1)
    client.on_subscribe = lambda *_: ready.put(None)
    client.on_message = lambda _c, _u, message: got.put(message.payload)
    client.connect(str(broker.socket_path))
    client.loop_start()
    try:
        ready.get(timeout=5)
        topic = "jaga/1/6408/kpu-kutim/event"
        sent = lab.pi.run(
            ["mosquitto_pub", "-h", BROKER, "-q", "1", "-t", topic, "-m", "up"]
        )
        assert sent.returncode == 0, sent.stderr
        assert got.get(timeout=5) == b"up"
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_configuration_of_ones_own_and_a_restart(lab) -> None:
    config = (
        "user @USER@\nallow_anonymous true\npersistence true\npersistence_location @DIRECTORY@/\n"
        "listener @PORT@ @ADDRESS@\nlistener 0 @SOCKET@\n"
    )
    first = lab.start_broker(config)
    first.stop()
    assert (first.directory / "mosquitto.db").exists()
    second = lab.start_broker(config)
    assert second.process.poll() is None
    assert second.socket_path == first.socket_path


def test_a_wrong_configuration_is_told_in_mosquittos_words(lab) -> None:
    with pytest.raises(LabError, match="Unknown configuration variable"):
        lab.start_broker("no_such_option 1\n")
