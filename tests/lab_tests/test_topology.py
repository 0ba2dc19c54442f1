"""The site is what its plan says, and the machine around it is untouched."""

from __future__ import annotations

import json
import subprocess

import pytest

from lab import UPLINKS, Lab, boottime_s, topology

pytestmark = pytest.mark.netns
NAMES = [plan.name for plan in UPLINKS]


def machine() -> dict[str, str]:
    """What the lab may not change: the root namespace's network."""
    commands = (
        "ip -o link",
        "ip -o address",
        "ip rule",
        "ip route show table all",
        "nft list tables",
        "sysctl -a --pattern ^net.ipv[46].conf.all",
    )
    return {
        command: "\n".join(
            line
            for line in subprocess.run(
                command.split(), capture_output=True, text=True, check=True
            ).stdout.splitlines()
            if "expires" not in line
        )
        for command in commands
    }


def test_the_machine_is_untouched_and_the_build_is_fast() -> None:
    before = machine()
    start_s = boottime_s()
    with Lab.create() as lab:
        took_s = boottime_s() - start_s
        lab.start_broker()
        assert machine() == before
    assert machine() == before
    assert took_s < 3


def test_the_pi_is_left_as_a_dhcp_client_leaves_it(lab: Lab) -> None:
    links = json.loads(lab.pi.run(["ip", "-j", "address"]).stdout)
    twins = [link for link in links if link["ifname"] in {"wan0", "wan1"}]
    assert len(twins) == 2
    assert {link["address"] for link in twins} == {topology.HILINK_MAC}
    addresses = [link["addr_info"] for link in twins]
    assert [[a["local"] for a in one] for one in addresses] == [["192.168.8.100"]] * 2
    assert all(address["noprefixroute"] for one in addresses for address in one)
    main = json.loads(lab.pi.run(["ip", "-j", "route"]).stdout)
    assert {(route["dst"], route.get("metric")) for route in main} == {
        ("192.168.77.0/24", None),
        ("192.168.18.0/24", 700),
        ("default", 700),
    }
    for table, device in (("201", "wan0"), ("202", "wan1")):
        own = json.loads(
            lab.pi.run(["ip", "-j", "route", "show", "table", table]).stdout
        )
        assert {(route["dst"], route["dev"]) for route in own} == {
            ("192.168.8.0/24", device),
            ("default", device),
        }
    rules = json.loads(lab.pi.run(["ip", "-j", "rule"]).stdout)
    assert [rule["priority"] for rule in rules] == [0, 32766, 32767]
    assert lab.pi.run(["nft", "list", "ruleset"]).stdout == ""
    forward = lab.pi.run(["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout
    assert forward.strip() == "0"


@pytest.mark.parametrize("name", NAMES)
def test_the_phone_reaches_sirekap_by_each_uplink(lab, gateway, name) -> None:
    gateway.switch(name)
    phone = lab.phone.start()
    first = phone.wait_good(name)
    assert first.seen == lab.uplinks[name].plan.public
    log = phone.stop()
    assert {mark.what for mark in log.upload} >= {"connected"}


@pytest.mark.parametrize("target", topology.PING_TARGETS)
def test_every_target_answers_on_every_uplink(gateway, ping, target) -> None:
    for name in NAMES:
        answer = ping(name, target)
        assert answer.answered == answer.sent, name
        plan = next(plan for plan in UPLINKS if plan.name == name)
        assert answer.mean_ms >= 2 * plan.one_way_ms - 2 * plan.jitter_ms


def test_twins_carry_at_the_same_time_and_apart(lab, gateway, ping) -> None:
    for name in ("telkomsel", "indosat"):
        before = {n: lab.uplinks[n].counters()["up"].offered for n in NAMES}
        assert ping(name).answered == 5
        after = {n: lab.uplinks[n].counters()["up"].offered for n in NAMES}
        changed = {n: after[n] - before[n] for n in NAMES}
        assert changed == {n: 5 if n == name else 0 for n in NAMES}


def test_names_resolve_as_at_the_site(lab, gateway) -> None:
    gateway.switch("indosat")
    resolve = "import socket; print(socket.gethostbyname('sirekap-web.kpu.go.id'))"
    for space in (lab.phone, lab.pi):
        done = space.run(["python3", "-c", resolve])
        assert done.stdout.strip() == topology.SIREKAP, done.stderr


def test_two_labs_side_by_side(lab, gateway, ping) -> None:
    with Lab.create() as other:
        other.uplinks["telkomsel"].blackhole()
        assert ping("telkomsel").answered == 5
        assert other.tag != lab.tag
    assert ping("telkomsel").answered == 5
