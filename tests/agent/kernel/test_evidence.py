"""What the kernel counts of the site's flows and devices, on a real kernel."""

import subprocess
import sys

import pytest

from support.waiting import until

pytestmark = pytest.mark.netns

NOTHING = {"syn_out": 0, "synack_in": 0, "rst_in": 0, "dns_out": 0, "dns_in": 0}


def test_without_our_table_there_is_no_count(site):
    assert site.agent().read_flows() is None


def test_forwarded_and_own_flows_count_once_and_by_uplink(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    assert agent.read_flows() == {"first": NOTHING, "second": NOTHING}
    assert phone.connect() == "stick0"
    assert agent.connect() == "stick0"
    assert agent.connect(device="wan1") == "stick1"
    assert phone.ask_dns(times=3) == 3
    assert phone.knock(port=9) == "ConnectionRefusedError"
    want = {"syn_out": 3, "synack_in": 2, "rst_in": 1, "dns_out": 3, "dns_in": 3}
    assert agent.read_flows() == {
        "first": want,
        "second": NOTHING | {"syn_out": 1, "synack_in": 1},
    }


def test_an_answer_to_a_client_of_ours_is_no_syn_and_pings_are_not_flows(site):
    agent = site.agent()
    agent.sync(active="first")
    ping = ["ping", "-c", "3", "-i", "0.01", "-I", "wan0", "192.168.8.1"]
    subprocess.run(
        ["ip", "netns", "exec", site.pi, *ping], check=True, capture_output=True
    )
    assert agent.read_flows() == {"first": NOTHING, "second": NOTHING}


def test_retransmissions_are_evidence(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    # Nothing comes back, and nobody says why.
    site.ip(site.sticks[0], "route del 192.168.8.0/24 dev eth0")
    site.ip(site.sticks[0], "route add blackhole 192.168.8.0/24")
    assert phone.connect() == "TimeoutError"
    seen = agent.read_flows()["first"]
    # The first, and after 1 s again (RFC 6298), within the client's 2 s.
    assert seen["syn_out"] >= 2
    assert seen["synack_in"] == 0


def test_counts_outlive_a_switch_and_a_restart(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    assert phone.connect() == "stick0"
    agent.switch(active="second", previous="first")
    agent.kill()
    agent = site.agent()
    agent.sync()
    assert agent.read_flows()["first"]["syn_out"] == 1


def test_all_counters_cost_little(site):
    agent = site.agent()
    agent.sync(active="first")
    # 0.03 ms here; a bound that only a process per reading would break.
    assert agent.cost_us(what="flows") < 1000
    assert agent.cost_us(what="devices") < 1000


def test_without_permission_it_says_what_it_needs(site):
    agent = site.agent(uid=65534)
    with pytest.raises(Exception, match=r"FlowCountersError: .*needs CAP_NET_ADMIN"):
        agent.read_flows()


def test_devices_are_those_that_exist_with_carrier_and_totals(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    before = agent.read_devices()
    assert set(before) == {"wan0", "wan1"}
    assert before["wan0"]["carrier"]
    assert phone.connect() == "stick0"
    after = agent.read_devices()
    grown = {
        field: after["wan0"]["counters"][field] - before["wan0"]["counters"][field]
        for field in after["wan0"]["counters"]
    }
    # SYN, ACK, question, ACK …; each frame is 54 bytes at least.
    assert all(grown[f"{way}_packets"] >= 3 for way in ("rx", "tx"))
    assert all(
        grown[f"{way}_bytes"] >= 54 * grown[f"{way}_packets"] for way in ("rx", "tx")
    )


def test_a_device_behind_dozens_of_others_is_read_too(site):
    agent = site.agent()
    for n in range(30):
        site.ip(site.pi, f"link add left{n} type veth peer name right{n}")
    site.ip(site.pi, "link del wan0")
    site.plug(0)
    # As Docker has it: the kernel gives a page of devices at a time, wan0 not in the first.
    assert set(agent.read_devices()) == {"wan0", "wan1"}
    site.ip(site.pi, "link del wan0")
    assert set(agent.read_devices()) == {"wan1"}


def test_a_lost_carrier_is_read_at_once_and_admin_down_is_no_carrier(site):
    agent = site.agent()
    until(lambda: agent.read_devices()["wan0"]["carrier"], "carrier")
    for _ in range(3):
        # Again and again within a second: of the second, netlink tells late.
        site.carrier(0, "down")
        assert agent.read_devices()["wan0"]["carrier"] is False
        site.carrier(0, "up")
        assert agent.read_devices()["wan0"]["carrier"] is True
    site.ip(site.pi, "link set wan0 down")
    assert agent.read_devices()["wan0"]["carrier"] is False
    site.ip(site.pi, "link set wan0 up")
    assert agent.read_devices()["wan0"]["carrier"] is True


# A TUN device, because the kernel hurries for a veth: its losses are never told late.
FLAPS = """
import fcntl, os, struct, subprocess
from jaga_agent.adapters.devices import SysDevices

TUNSETIFF, TUNSETCARRIER, IFF_TUN_NO_PI = 0x400454CA, 0x400454E2, 0x1001
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun7", IFF_TUN_NO_PI))
subprocess.run(["ip", "link", "set", "tun7", "up"], check=True)
devices = SysDevices(["tun7"])
for carrier in (1, 0, 1, 0, 1, 0):
    fcntl.ioctl(tun, TUNSETCARRIER, struct.pack("i", carrier))
    print(int(devices.read()["tun7"].carrier), end="")
"""


def test_every_loss_of_a_flapping_carrier_is_read_at_once(site):
    seen = subprocess.run(
        ["ip", "netns", "exec", site.pi, sys.executable, "-c", FLAPS],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert seen == "101010"


def test_a_stick_that_re_enumerates_is_told_by_its_index(site):
    agent = site.agent()
    old = agent.read_devices()["wan0"]["index"]
    site.ip(site.pi, "link del wan0")
    assert "wan0" not in agent.read_devices()
    site.plug(0)
    new = agent.read_devices()["wan0"]
    assert (new["index"] != old, new["carrier"]) == (True, True)
    # And without a reading in between.
    site.ip(site.pi, "link del wan0")
    site.plug(0)
    assert agent.read_devices()["wan0"]["index"] not in {old, new["index"]}
