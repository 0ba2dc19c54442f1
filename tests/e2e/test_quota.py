"""A package's count on a running site, against the kernel's own."""

import json
import subprocess

import pytest

from demo.stage import BIN, Stage
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

DEVICE, UPLINK = "wan0", "telkomsel"


@pytest.fixture(scope="module")
def stage(shared_data, free_port):
    with Stage(
        shared_data, free_port(), fleet=0, say=print, hold_down_s=(2, 4)
    ) as running:
        yield running


def quota(stage, *words):
    config = stage.directory / "agent" / "agent.toml"
    command = [BIN / "jaga-agent", "quota", "--config", config, *words]
    return subprocess.run(
        [str(word) for word in stage.lab.pi.argv([str(word) for word in command])],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout


def row(stage):
    answer = json.loads(quota(stage, "--json"))
    (found,) = [r for r in answer["uplinks"] if r["name"] == UPLINK]
    return answer["running"], found


def carried(stage):
    """Return the device's own totals, both ways."""
    shown = subprocess.run(
        stage.lab.pi.argv(["ip", "-j", "-s", "link", "show", DEVICE]),
        capture_output=True,
        check=True,
    ).stdout
    totals = json.loads(shown)[0]["stats64"]
    return totals["rx"]["bytes"] + totals["tx"]["bytes"]


def pings(stage):
    """Return the IP bytes of the echoes that passed the device, both ways."""
    shown = subprocess.run(
        stage.lab.pi.argv(["nft", "-j", "list", "counters", "table", "inet", "weigh"]),
        capture_output=True,
        check=True,
    ).stdout
    listed = json.loads(shown)["nftables"]
    return sum(each["counter"]["bytes"] for each in listed if "counter" in each)


WEIGH = f"""
table inet weigh {{
  counter both {{ }}
  chain out {{
    type filter hook postrouting priority 0; policy accept;
    oifname "{DEVICE}" icmp type echo-request counter name both
  }}
  chain in {{
    type filter hook prerouting priority 0; policy accept;
    iifname "{DEVICE}" icmp type echo-reply counter name both
  }}
}}
"""


def test_what_the_agent_counts_is_what_the_kernel_counts(stage):
    stage.lab.pi.nft(WEIGH)
    running, before = row(stage)
    assert running
    since = pings(stage)
    device_before = carried(stage)
    phone = stage.lab.phone.start()
    try:
        phone.wait_good(UPLINK)
        until(lambda: carried(stage) > device_before + 500_000, "half a megabyte")
        until(lambda: pings(stage) >= since + 5 * 64, "five more pings", within_s=40)
    finally:
        phone.stop()
    # What is under way while we look is at most one sample, and one echo's half.
    until(
        lambda: (
            abs(
                row(stage)[1]["used_bytes"]
                - before["used_bytes"]
                - (carried(stage) - device_before)
            )
            < 20_000
        ),
        "the count of the device's bytes",
    )
    probes = (
        row(stage)[1]["probe_bytes_24h"]["icmp"] - before["probe_bytes_24h"]["icmp"]
    )
    assert abs(probes - (pings(stage) - since)) <= 64


def test_a_new_package_and_a_restart(stage):
    assert "0 MB are used; the running agent counts on" in quota(stage, "reset", UPLINK)
    assert row(stage)[1]["used_bytes"] < 50_000
    quota(stage, "reset", UPLINK, "--used-mb", "1500")
    before = row(stage)[1]["used_bytes"]
    assert 1_500_000_000 <= before < 1_500_100_000
    assert "telkomsel        1500." in quota(stage)

    stage.agent.terminate()
    stage.agent.wait(10)
    running, kept = row(stage)
    assert (running, kept["used_bytes"] >= before) == (False, True)
    assert "the agent will count on" in quota(stage, "reset", UPLINK, "--used-mb", "7")
    stage.start_agent()
    running, after = row(stage)
    assert (running, after["power_losses"]) == (True, 0)
    assert 7_000_000 <= after["used_bytes"] < 7_200_000


def test_a_name_that_is_none_and_a_wrong_number_are_refused(stage):
    for words, said in (
        (("reset", "wifi"), "no uplink is named 'wifi'; there are: telkomsel"),
        (("reset", UPLINK, "--used-mb", "-1"), "want 0 or more megabytes"),
    ):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            quota(stage, *words)
        assert refused.value.returncode == 1
        assert said in refused.value.stderr
