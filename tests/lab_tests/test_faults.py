"""Each fault does what it says, to the uplink it names and to no other."""

from __future__ import annotations

import pytest

from lab import Lab, LabError, boottime_s, topology
from support.waiting import until

pytestmark = pytest.mark.netns


def flags(lab: Lab, device: str) -> str:
    return lab.pi.run(["ip", "-o", "link", "show", device]).stdout


def ifindex(lab: Lab, device: str) -> int:
    return int(lab.pi.run(["cat", f"/sys/class/net/{device}/ifindex"]).stdout)


def test_carrier_loss_and_return(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    before_s = boottime_s()
    effect = uplink.carrier_loss()
    assert before_s <= effect.at_s
    assert effect.at_s + effect.within_s <= boottime_s()
    until(lambda: "NO-CARRIER" in flags(lab, "wan0"))
    assert ping("telkomsel").answered == 0
    assert ping("indosat").answered == 5
    assert "NO-CARRIER" not in flags(lab, "wan1")
    uplink.restore()
    until(lambda: "LOWER_UP" in flags(lab, "wan0"))
    assert ping("telkomsel").answered == 5
    assert uplink.faults == []


@pytest.mark.parametrize("ways", ["both", "up", "down"])
def test_blackhole(lab, gateway, ping, ways) -> None:
    uplink = lab.uplinks["telkom-fibre"]
    arrived = uplink.counters()["up"].delivered
    before_s = boottime_s()
    effect = uplink.blackhole(ways)
    assert before_s <= effect.at_s <= boottime_s()
    assert ping("telkom-fibre").answered == 0
    assert "LOWER_UP" in flags(lab, "wan2")
    assert ping("telkom-fibre", uplink.plan.gateway).answered == 5
    assert ping("telkomsel").answered == 5
    assert uplink.counters()["up"].delivered - arrived == (5 if ways == "down" else 0)
    uplink.restore()
    assert ping("telkom-fibre").answered == 5


def test_a_hanging_modem_does_not_answer_itself(lab, gateway, ping) -> None:
    uplink = lab.uplinks["indosat"]
    uplink.hang()
    assert "LOWER_UP" in flags(lab, "wan1")
    assert ping("indosat", uplink.plan.gateway).answered == 0
    assert ping("telkomsel", uplink.plan.gateway).answered == 5
    uplink.restore()
    assert ping("indosat", uplink.plan.gateway).answered == 5


@pytest.mark.slow
def test_loss(lab, gateway, ping) -> None:
    lab.uplinks["telkomsel"].loss(0.5, "down")
    answer = ping("telkomsel", count=100)
    # 100 draws of one half: outside of 25…75 once in a million runs.
    assert 25 <= answer.answered <= 75
    counters = lab.uplinks["telkomsel"].counters()
    assert counters["up"].lost == 0
    assert counters["down"].lost == 100 - answer.answered


def test_latency_stands_until_restored(lab, gateway, ping) -> None:
    uplink = lab.uplinks["indosat"]
    uplink.latency(100)
    assert ping("indosat", wait_s=1).mean_ms >= 2 * (14 + 100 - 1.5)
    uplink.restore()
    assert ping("indosat", wait_s=1).mean_ms < 150


def test_rate_limit_and_its_queue(lab, gateway) -> None:
    uplink = lab.uplinks["telkomsel"]
    uplink.rate(80_000, queue_bytes=20_000, ways="up")
    # 30 kB at once; 10 kB/s, room for 20 kB: the rest is dropped at once.
    lab.pi.run(
        ["ping", "-nq", "-c30", "-i0.002", "-s972", "-W0.1", "-I", "wan0", "192.0.2.1"]
    )
    before = uplink.counters()["up"]
    # How many depends on how fast a busy machine sends them; none may be unaccounted for.
    queued = before.offered - before.delivered - before.queue_dropped
    assert 1 <= before.queue_dropped <= 11
    assert 10 <= queued <= 20
    start_s = boottime_s()
    until(lambda: uplink.counters()["up"].delivered >= before.delivered + 10)
    assert boottime_s() - start_s > 0.5


def test_a_new_device_after_unplug_and_reenumeration(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    first = ifindex(lab, "wan0")
    uplink.unplug()
    assert flags(lab, "wan0") == ""
    uplink.restore()
    second = ifindex(lab, "wan0")
    uplink.reenumerate()
    third = ifindex(lab, "wan0")
    assert len({first, second, third}) == 3
    # Its own routes are back; those of the gateway's table went with the device.
    table = lab.pi.run(["ip", "route", "show", "table", "201"]).stdout
    assert "default via 192.168.8.1 dev wan0" in table
    assert ping("telkomsel", wait_s=0.2).answered == 0
    lab.pi.ip(*gateway.routes("telkomsel"))
    assert ping("telkomsel").answered == 5


def test_the_address_changes_and_comes_back(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    uplink.change_address("192.168.8.117")
    shown = lab.pi.run(["ip", "-o", "address", "show", "wan0"]).stdout
    assert "192.168.8.117/24" in shown
    assert "192.168.8.100" not in shown
    lab.pi.ip(*gateway.routes("telkomsel"))
    assert ping("telkomsel").answered == 5
    uplink.restore()
    shown = lab.pi.run(["ip", "-o", "address", "show", "wan0"]).stdout
    assert "192.168.8.100/24" in shown


def fetch(lab: Lab, url: str, *options: str):
    return lab.pi.run(
        ["curl", "-sS", "-m2", "--interface", "wan0", *options, url], timeout=5
    )


def test_quota_used_up(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    uplink.quota()
    assert ping("telkomsel").answered == 5
    redirect = fetch(lab, f"http://{topology.SIREKAP}/", "-i").stdout
    assert redirect.startswith("HTTP/1.1 302")
    assert "beli-kuota" in redirect
    # It connects, and is reset at its ClientHello.
    wanted = ("--cacert", str(lab.ca))
    url = f"https://{topology.SIREKAP}/"
    reset = fetch(lab, url, *wanted)
    assert reset.returncode == 35, reset.stderr  # CURLE_SSL_CONNECT_ERROR
    assert "reset" in reset.stderr
    uplink.restore()
    assert fetch(lab, url, *wanted).returncode == 0
    gateway.switch("telkomsel")
    phone = lab.phone.start(upload_bit_s=0)
    assert phone.wait_good("telkomsel")


def test_the_portal_sells_quota(lab, gateway) -> None:
    lab.uplinks["telkomsel"].quota()
    page = fetch(lab, f"http://{topology.SIREKAP}/beli-kuota").stdout
    assert "Kuota internet Anda habis" in page


def test_sirekap_speaks_tls_and_plain_text_on_one_port(lab, gateway) -> None:
    options = ("--cacert", str(lab.ca))
    url = "https://sirekap-web.kpu.go.id/"
    resolve = ("--resolve", f"sirekap-web.kpu.go.id:443:{topology.SIREKAP}")
    assert "Sirekap" in fetch(lab, url, *options, *resolve).stdout
    assert fetch(lab, url, *resolve).returncode == 60  # a CA that nobody knows
    moved = fetch(lab, f"http://{topology.SIREKAP}/x", "-i").stdout
    assert "Location: https://sirekap-web.kpu.go.id/x" in moved
    check = fetch(lab, f"http://{topology.SIREKAP}/check_network_status.txt").stdout
    assert check == "NetworkManager is online\n"


def test_an_isolated_carrier_still_answers_itself(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    uplink.isolate()
    assert ping("telkomsel", uplink.plan.carrier_ip).answered == 5
    assert ping("telkomsel", wait_s=0.2).answered == 0
    assert ping("indosat").answered == 5
    uplink.restore()
    assert ping("telkomsel").answered == 5


@pytest.mark.slow
def test_flapping_ends_healthy(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    start_s = boottime_s()
    effect = uplink.flap(1.0, down_s=0.2, up_s=0.3)
    assert start_s <= effect.at_s <= start_s + 0.2
    assert boottime_s() - start_s >= 1.0
    assert uplink.faults == []
    assert ping("telkomsel").answered == 5
    with pytest.raises(ValueError, match="shorter"):
        uplink.flap(1.0, down_s=2.0)


def test_a_sleeping_radio_takes_its_time(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    uplink.radio("lte")
    uplink.shape(gap_every_s=0.0)
    # One packet each time and a sleep that begins at once: each wakes the radio.
    uplink.shape("up", wake_idle_s=0.001)
    assert ping("telkomsel", count=1, wait_s=3).mean_ms >= 300
    uplink.restore()
    assert ping("telkomsel", wait_s=1).mean_ms < 150


def test_dns_dead_on_one_provider(lab, gateway, ping) -> None:
    def resolves(name: str) -> bool:
        gateway.switch(name)
        question = (
            b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
            b"\x03kpu\x02go\x02id\x00\x00\x01\x00\x01"
        )
        program = (
            "import socket\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "s.settimeout(0.5)\n"
            f"s.sendto({question!r}, ({topology.DNS!r}, 53))\n"
            "print(len(s.recv(512)))\n"
        )
        return lab.phone.run(["python3", "-c", program]).returncode == 0

    lab.uplinks["indosat"].dns_dead()
    assert not resolves("indosat")
    assert resolves("telkomsel")
    assert ping("indosat").answered == 5
    lab.uplinks["indosat"].restore()
    assert resolves("indosat")


def test_a_target_dead_everywhere(lab, gateway, ping) -> None:
    lab.internet.target_dead("192.0.2.1")
    for name in lab.uplinks:
        assert ping(name, "192.0.2.1", wait_s=0.2).answered == 0
        assert ping(name, "198.51.100.1").answered == 5
    lab.internet.target_back("192.0.2.1")
    assert ping("indosat", "192.0.2.1").answered == 5


def test_faults_add_up_and_one_restore_undoes_all(lab, gateway, ping) -> None:
    uplink = lab.uplinks["telkomsel"]
    uplink.latency(20)
    uplink.loss(1.0, "up")
    uplink.quota()
    uplink.hang()
    uplink.carrier_loss()
    uplink.carrier_loss()  # asked twice is done once
    assert len(uplink.faults) == 5
    lab.restore()
    answer = ping("telkomsel")
    assert answer.answered == 5
    assert uplink.faults == []
    uplink.restore()  # nothing to undo is no error


def test_the_relay_says_why_it_refuses(lab) -> None:
    with pytest.raises(TypeError):
        lab.uplinks["telkomsel"].shape(wrong=1)
    with pytest.raises(ValueError, match="ratio"):
        lab.uplinks["telkomsel"].loss(3)
    lab.uplinks["telkomsel"].name = "nobody"
    with pytest.raises(LabError, match="nobody"):
        lab.uplinks["telkomsel"].blackhole()
