"""`make demo ARGS=--once` as a newcomer sees it, with the whole district on the page."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def demo(shared_data, free_port):
    """Run it once, and return the finished process."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "demo", "--once"),
            f"--port={free_port()}",
            f"--data={shared_data}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_it_ends_well(demo):
    assert demo.returncode == 0, demo.stdout + demo.stderr


def test_its_last_line_is_the_measurement(demo):
    numbers = json.loads(demo.stdout.splitlines()[-1])
    assert numbers["failover_s"] <= 1.5, demo.stdout
    assert numbers["gap_s"] <= 2.0, demo.stdout
    assert numbers["lost"] == 0, demo.stdout
    assert numbers["heartbeats"] >= 5, demo.stdout
    assert numbers["sites_online"] == 702, demo.stdout
    assert numbers["failback"] is True, demo.stdout


def test_it_tells_the_story(demo):
    for line in (
        "FAULT: Telkomsel is silent",
        "collector hears: FAILOVER telkomsel → indosat",
        "is carried by indosat",
        "REPAIR: Telkomsel answers again",
        "collector hears: FAILBACK indosat → telkomsel",
        "is carried by telkomsel",
    ):
        assert line in demo.stdout


def test_nothing_is_left_behind(demo):
    tag = demo.stdout.split("internet (", 1)[1].split(")", 1)[0]
    names = subprocess.run(
        ["ip", "netns", "list"], capture_output=True, text=True, check=True
    )
    assert tag not in names.stdout
    running = subprocess.run(
        ["pgrep", "-fa", tag], capture_output=True, text=True, check=False
    )
    assert running.stdout == ""
    assert not (Path(tempfile.gettempdir()) / f"jaga-lab-{tag}").exists()
