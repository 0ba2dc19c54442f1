import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.host import PsutilHost


@pytest.fixture
def host(tmp_path):
    return PsutilHost(BoottimeClock(), tmp_path)


def test_readings_are_those_of_proc(host, tmp_path):
    reading = host.read()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert reading.uptime_s == pytest.approx(uptime, abs=2)
    meminfo = Path("/proc/meminfo").read_text().splitlines()
    kib = {k: int(v.split()[0]) for k, v in (line.split(":") for line in meminfo)}
    used = 1 - kib["MemAvailable"] / kib["MemTotal"]
    assert reading.memory_ratio == pytest.approx(used, abs=0.1)
    fs = os.statvfs(tmp_path)
    used_blocks = fs.f_blocks - fs.f_bfree
    want = used_blocks / (used_blocks + fs.f_bavail)
    assert reading.disk_ratio == pytest.approx(want, abs=0.02)
    assert reading.cpu_ratio is not None
    assert 0 <= reading.cpu_ratio <= 1


def test_cpu_is_the_mean_since_the_last_call(host):
    host.read()
    stop = threading.Event()
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        stop.wait(0.5)
        busy = host.read().cpu_ratio
    finally:
        burner.kill()
        burner.wait()
    # One process alone is at least its share of the processors.
    assert busy > 0.5 / os.cpu_count()


def test_a_sensor_that_is_absent_is_none_and_said_once(tmp_path, caplog):
    host = PsutilHost(BoottimeClock(), tmp_path / "gone")
    assert host.read().disk_ratio is None
    assert host.read().disk_ratio is None
    assert caplog.text.count("cannot read the host's disk") == 1
    temperature = host.read().temperature_c
    thermal = any(n.startswith("thermal_zone") for n in _listed("/sys/class/thermal"))
    if not thermal and not _listed("/sys/class/hwmon"):
        assert temperature is None
    else:
        assert temperature is None or -40 < temperature < 125


def _listed(path):
    return [p.name for p in Path(path).glob("*")]
