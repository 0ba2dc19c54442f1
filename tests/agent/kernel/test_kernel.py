"""The reconciler on a real kernel: what traffic does, not what we believe."""

import json

import pytest

from support.waiting import until

pytestmark = pytest.mark.netns

RESET = "ConnectionResetError"


def test_twins_with_the_same_address_and_mac_are_told_apart(site):
    agent, phone = site.agent(), site.client()
    report = agent.sync()
    assert report["failures"] == []
    assert report["adopted_active"] is None
    assert agent.connect(device="wan0") == "stick0"
    assert agent.connect(device="wan1") == "stick1"
    assert (agent.connect(), phone.connect()) == ("stick0", "stick0")
    agent.switch(active="second", previous="first")
    assert (agent.connect(), phone.connect()) == ("stick1", "stick1")
    assert agent.connect(device="wan0") == "stick0"


def test_a_restart_adopts_and_the_kernel_hears_nothing(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="second")
    assert phone.connect(key="flow") == "stick1"
    agent.kill()
    assert phone.echo(key="flow") == "stick1"
    rules = site.nft("-a -s list ruleset")

    until(lambda: site.flows() == {0x200: 1}, "the flow is tracked")
    with site.monitor() as monitor:
        report = site.agent().sync()
        assert monitor.heard_since_start() == []
    assert report == {"adopted_active": "second", "changed": [], "failures": []}
    assert site.nft("-a -s list ruleset") == rules
    assert phone.echo(key="flow") == "stick1"


def test_the_kernel_fails_over_on_carrier_loss_with_the_agent_dead(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    agent.kill()
    assert phone.connect(key="flow") == "stick0"
    site.carrier(0, "down")
    until(lambda: phone.connect() == "stick1", "failover by the kernel")
    assert phone.echo(key="flow") == RESET, "a hanging flow is told so"
    site.carrier(0, "up")
    until(lambda: phone.connect() == "stick0", "failback by the kernel")
    # Whoever starts now finds the kernel as it is, and who really carries.
    site.carrier(0, "down")
    until(lambda: phone.connect() == "stick1", "second failover")
    report = site.agent().sync()
    assert (report["adopted_active"], report["changed"]) == ("second", [])


def test_a_switch_flushes_only_the_flows_of_the_uplink_left(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    assert phone.connect(key="a") == "stick0"
    assert phone.connect(key="b") == "stick0"
    assert agent.connect(key="own", device="wan1") == "stick1"
    assert site.flows() == {0x100: 2, 0x200: 1}
    report = agent.switch(active="second", previous="first")
    assert (report["flushed"], report["failures"]) == ("first", [])
    assert site.flows() == {0x200: 1}
    assert agent.echo(key="own") == "stick1"


def test_a_mid_stream_flow_is_reset_behind_a_carrier_that_drops_it(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    assert phone.connect(key="flow") == "stick0"
    assert agent.connect(key="own") == "stick0"
    agent.switch(active="second", previous="first")
    assert phone.echo(key="flow") == RESET
    assert agent.echo(key="own") == RESET
    assert phone.connect() == "stick1"


def test_no_packet_finds_no_route_while_the_uplink_is_switched(site):
    agent = site.agent()
    agent.sync(active="first")
    traffic = site.start(site.pi, "client")
    traffic.begin("flood", seconds=1)
    for _ in range(50):
        agent.switch(active="second", previous="first")
        agent.sync(active="second")
        agent.switch(active="first", previous="second")
    met = traffic.end()
    assert met.pop("sent") > 1000
    # Between replace and flush, masquerade itself kills the flow's entry, and the one
    # packet that found it stale: EPERM to its sender. Never is there no route.
    assert met.pop("EPERM", 0) <= 100
    assert met == {}


@pytest.mark.parametrize("table", ["main", "777"])
def test_a_gateway_is_followed_in_whichever_table(site, table):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    site.ip(site.pi, "route del default dev wan0")
    site.ip(site.sticks[0], "addr del 192.168.8.1/24 dev eth0")
    site.ip(site.sticks[0], "addr add 192.168.8.254/24 dev eth0")
    site.dhcp_default(0, gateway="192.168.8.254", table=table)
    report = agent.sync(active="first")
    assert report["failures"] == []
    assert all("via 192.168.8.254" in step for step in report["changed"])
    site.ip(site.pi, "neigh flush dev wan0")
    assert phone.connect() == "stick0"
    assert agent.connect(device="wan0") == "stick0"


def test_a_gateway_outlives_the_loss_of_the_clients_default(site):
    agent = site.agent()
    agent.sync(active="first")
    site.ip(site.pi, "route del default dev wan0")
    assert agent.sync(active="first")["changed"] == []
    agent.kill()
    # After a restart our own table is the memory.
    agent = site.agent()
    report = agent.sync()
    assert (report["changed"], report["adopted_active"]) == ([], "first")
    # Down and up: the kernel deletes the device's routes in every table.
    site.ip(site.pi, "link set wan0 down")
    agent.sync(active="first")
    site.ip(site.pi, "link set wan0 up")
    until(lambda: agent.observe()["wan0"]["carrier"], "carrier")
    assert agent.sync(active="first")["failures"] == []
    assert agent.connect() == "stick0"


def test_a_stick_that_re_enumerates_is_a_new_stick(site):
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    old = agent.observe()["wan0"]["index"]
    site.ip(site.pi, "link del wan0")
    assert "wan0" not in agent.observe()
    assert phone.connect() == "stick1", "the kernel went on by itself"
    assert agent.sync(active="first")["failures"] == []

    site.plug(0, default=False)
    seen = agent.observe()["wan0"]
    assert seen["index"] != old
    assert seen["gateway"] is None
    with pytest.raises(Exception, match=r"NetlinkError: .* has no gateway yet"):
        agent.switch(active="first", previous="second")
    assert phone.connect() == "stick1"

    site.dhcp_default(0)
    agent.sync(active="first")
    assert (phone.connect(), agent.connect(device="wan0")) == ("stick0", "stick0")


def everything(site):
    """Return all routes, rules and nftables of the Pi, as the tools print them."""
    return (
        json.loads(site.ip(site.pi, "-j -d route show table all")),
        json.loads(site.ip(site.pi, "-j -d rule show")),
        site.nft("-a list ruleset"),
    )


def test_aliens_are_never_touched_and_prune_leaves_no_trace(site):
    for route in (
        "192.168.50.0/24 dev wan0 table 101 proto static",
        "default via 192.168.8.1 dev wan0 onlink table 101 metric 500 proto dhcp",
        "default via 192.168.8.1 dev wan1 onlink table 100 metric 900 proto static",
        "203.0.113.9/32 dev wan1 proto boot",
    ):
        site.ip(site.pi, f"route add {route}")
    site.ip(site.pi, "rule add priority 1500 from 10.9.9.9 lookup 101 protocol static")
    site.ip(site.pi, "rule add priority 900 from 10.9.9.8 lookup main")
    site.nft("-f -", stdin="table ip alien {\n chain c {\n }\n}\n")
    before = everything(site)
    agent = site.agent()
    assert agent.sync(active="first")["failures"] == []
    agent.switch(active="second", previous="first")
    during = everything(site)
    for part, kept in zip(during[:2], before[:2], strict=True):
        assert all(line in part for line in kept)
    assert "table ip alien" in during[2]
    assert len(agent.prune()) == 6 + 10 + 1, "rules, routes, the nftables table"
    assert everything(site) == before
    assert agent.prune() == []


def test_a_route_of_another_program_in_our_slot_is_left_and_told(site):
    taken = "192.168.8.0/24 dev wan0 table 101 metric 1 proto static scope link"
    site.ip(site.pi, f"route add {taken}")
    agent = site.agent()
    (failure,) = agent.sync(active="first")["failures"]
    assert failure == (
        "NetlinkError: add route 192.168.8.0/24 dev wan0 table 101 src 192.168.8.100 "
        "metric 1: another program's route stands in that place"
    )
    shown = site.ip(site.pi, "route show table 101 192.168.8.0/24")
    assert shown.split() == [
        "192.168.8.0/24",
        "dev",
        "wan0",
        "proto",
        "static",
        "scope",
        "link",
        "metric",
        "1",
    ]
    assert agent.connect() == "stick0"


def test_settings_and_rules_that_others_change_are_put_right(site):
    agent = site.agent()
    agent.sync(active="first")
    path = "/proc/sys/net/ipv4/conf/wan0/rp_filter"
    site.pi_sh(f"echo 1 > {path}")
    site.ip(site.pi, "rule del priority 1101")
    site.nft("flush ruleset")
    report = agent.sync(active="first")
    assert report["failures"] == []
    assert len(report["changed"]) == 3
    assert "net/ipv4/conf/wan0/rp_filter: 1 -> 2" in report["changed"]
    assert "add rule 1101: from all oif wan0 lookup 101" in report["changed"]
    assert agent.sync(active="first")["changed"] == []


def test_without_permission_each_part_says_what_it_needs(site):
    agent = site.agent(uid=65534)
    failures = agent.sync(active="first")["failures"]
    assert {failure.split(":")[0] for failure in failures} == {
        "NetlinkError",
        "FirewallError",
        "SettingError",
    }
    assert all("no permission" in failure for failure in failures)
    assert "needs CAP_NET_ADMIN (run as root or by systemd unit)" in failures[0]
    with pytest.raises(Exception, match=r"NetlinkError: .*no permission"):
        agent.switch(active="second", previous="first")


def test_a_missing_nft_names_the_package_and_stops_nothing_else(site):
    agent = site.agent(nft="nft-is-not-here")
    (failure,) = agent.sync(active="first")["failures"]
    assert failure == (
        "FirewallError: nft-is-not-here is not installed: "
        "install the Debian package nftables"
    )
    assert agent.connect() == "stick0"


def test_carrier_loss_is_told(site):
    agent = site.agent()
    agent.sync()
    agent.watch()
    until(lambda: agent.observe()["wan0"]["carrier"], "carrier")
    seen = len(agent.events_since(count=0))
    site.carrier(0, "down")
    (kind, _), *_ = agent.events_since(count=seen)
    assert kind == "link"
    assert agent.observe()["wan0"]["carrier"] is False


def test_lost_events_mean_to_read_again(site):
    agent = site.agent(event_buffer=4096)
    agent.watch()
    agent.begin("block", seconds=1)
    flood = "".join(f"route add 10.99.{n}.0/24 dev lo\n" for n in range(250))
    site.ip(site.pi, "-batch -", stdin=flood)
    assert agent.end() is None
    until(
        lambda: [e for e, _ in agent.events_since(count=0)].count("events-lost") == 2,
        "a second start of listening",
    )
    count = len(agent.events_since(count=0))
    site.ip(site.pi, "route add 10.98.0.0/24 dev lo")
    assert agent.events_since(count=count)[0][0] == "routing"
