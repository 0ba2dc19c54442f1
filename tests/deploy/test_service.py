"""The systemd drop-in of the broker: its command, run as systemd would."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lab.field import Field
from support.mqtt_client import NOT_AUTHORIZED, Client, topic
from support.ports import free_port
from support.waiting import until

A, B = "tps-6408041010-001", "tps-6408041010-002"
UNIT = "[Unit]\nDescription=x\n[Service]\nType=notify\nExecStart=/bin/true\n"


def command(drop_in):
    """Return what systemd hands to bash: its quotes and C escapes undone."""
    line = re.search(r"^ExecStart=/bin/bash -c '(.*)'$", drop_in, re.MULTILINE)[1]
    return line.replace("\\\\", "\\")


@pytest.fixture
def service(tmp_path):
    """The broker, started by the drop-in's command; and its log."""
    place = Field(tmp_path, sites=[A, B], port=free_port())
    with place:
        place.broker.stop()
    drop_in = (place.config / "jaga-broker.conf").read_text()
    log = tmp_path / "journal"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["/bin/bash", "-c", command(drop_in)], stdout=file, stderr=file
        )
    try:
        until(lambda: "running" in log.read_text())
        yield place, process, log
    finally:
        process.terminate()
        process.wait(10)


def test_the_broker_is_the_main_process_and_its_log_is_short(service):
    place, process, log = service
    name = Path(f"/proc/{process.pid}/comm").read_text().strip()
    assert name == "mosquitto"
    client = Client(place.site(A)).connect(place)
    try:
        client.subscribe(topic(A, "command"))
        client.publish(topic(A, "heartbeat"))
        assert client.publish(topic(B, "heartbeat")) == NOT_AUTHORIZED
    finally:
        client.close()
    until(lambda: f"Client {A} disconnected" in log.read_text())
    said = log.read_text()
    assert f"Denied PUBLISH from {A} " in said
    assert f"{A} 1 {topic(A, 'command')}" in said
    assert "Received" not in said
    assert "Sending" not in said


def test_it_ends_when_told_and_says_so(service):
    _, process, log = service
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    until(lambda: "terminating" in log.read_text())


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed here"
)
def test_systemd_accepts_it(service, tmp_path):
    place, _, _ = service
    unit = tmp_path / "jaga-try.service"
    unit.write_text(UNIT)
    folder = tmp_path / "jaga-try.service.d"
    folder.mkdir()
    shutil.copy(place.config / "jaga-broker.conf", folder)
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in said.stderr.splitlines() if "jaga-broker" in line] == []
