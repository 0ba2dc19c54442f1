"""What the gateway does for the LAN's packets, on a real kernel: sizes and IPv6."""

import json

import pytest

from jaga_agent.core.firewall import ruleset
from jaga_agent.core.routes import RoutedUplink, RoutingConfig
from support.waiting import until

pytestmark = pytest.mark.netns

UPLOAD_BYTES = 60_000
SMALL_MTU = 1400

# Nothing larger passes, and nobody is told: "fragmentation needed" is filtered.
BLACK_HOLE = f"""
table netdev narrow {{
  chain input {{
    type filter hook ingress device "eth0" priority 0; policy accept;
    meta protocol ip meta length > {SMALL_MTU} drop
  }}
}}
table inet narrow {{
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname "eth0" meta length > {SMALL_MTU} drop
  }}
}}
"""
NOT_TOLD = """
table ip deaf {
  chain input {
    type filter hook input priority filter; policy accept;
    icmp type destination-unreachable drop
  }
}
"""

LAN6 = "fd77::"
OLD6 = "2001:db8:dead::"
WAN6 = "2001:db8:1::"
TARGET6 = "2001:db8:ffff::1"
SOON_MS = 50


def narrow(site, n=0):
    """Let the way through stick n carry SMALL_MTU bytes and say nothing of it."""
    stick = site.sticks[n]
    # Each segment a packet of its own: a veth passes a large one whatever its parts.
    site.ip(stick, "link set eth0 gso_max_segs 1")
    site.ip(site.phone, "link set eth0 gso_max_segs 1")
    site.ip(site.pi, f"link set wan{n} gso_max_segs 1")
    site.sh(stick, "nft -f -", stdin=BLACK_HOLE)


def moved(client):
    """Return what became of an upload and a download of full segments."""
    return client.upload(size_bytes=UPLOAD_BYTES), client.download(size_bytes=50_000)


def test_full_segments_hang_where_nobody_clamps(site):
    """The fault is real: what the next tests show would not be there by itself."""
    agent, phone = site.agent(), site.client()
    agent.sync(active="first")
    assert moved(phone) == ("stick0", 50_000)
    narrow(site)
    assert moved(phone) == ("TimeoutError", "TimeoutError")


def test_full_segments_pass_a_device_with_a_small_mtu(site):
    agent, phone = site.agent(), site.client()
    # As ppp0 or wwan0. Both ends are deaf to ICMP, so only the handshake can tell them.
    site.ip(site.pi, f"link set wan0 mtu {SMALL_MTU}")
    agent.sync(active="first")
    narrow(site)
    for namespace in (site.phone, site.sticks[0]):
        site.sh(namespace, "nft -f -", stdin=NOT_TOLD)
    assert moved(phone) == ("stick0", 50_000)
    assert moved(agent) == ("stick0", 50_000)
    # The clamp goes by the uplink that carries.
    agent.switch(active="second", previous="first")
    assert moved(phone) == ("stick1", 50_000)


def test_full_segments_pass_a_provider_that_carries_less_than_its_device_says(site):
    agent = site.agent(
        uplinks=[("first", "wan0", 1, 1, SMALL_MTU), ("second", "wan1", 2, 2)]
    )
    phone = site.client()
    assert agent.sync(active="first")["failures"] == []
    assert agent.sync(active="first")["changed"] == []
    narrow(site)
    for namespace in (site.phone, site.sticks[0]):
        site.sh(namespace, "nft -f -", stdin=NOT_TOLD)
    assert moved(phone) == ("stick0", 50_000)
    assert moved(agent) == ("stick0", 50_000)
    agent.switch(active="second", previous="first")
    agent.switch(active="first", previous="second")
    assert moved(phone) == ("stick0", 50_000)


def test_no_flow_is_offloaded_past_the_route(site):
    agent = site.agent()
    agent.sync(active="first")
    listed = json.loads(site.nft("-j list flowtables"))["nftables"]
    assert [entry for entry in listed if "flowtable" in entry] == []
    assert "flow add" not in site.nft("list ruleset")


@pytest.fixture
def dual(site):
    """The same site with IPv6 everywhere: an answering world behind the first stick."""
    site.pi_sh(
        "for d in lan0 wan0; do echo 0 > /proc/sys/net/ipv6/conf/$d/disable_ipv6; done"
    )
    for namespace, words in (
        (site.phone, f"addr add {LAN6}20/64 dev eth0 nodad"),
        # Kept from a provider that is gone; never chosen by itself (RFC 6724, 5: rule 3).
        (site.phone, f"addr add {OLD6}20/64 dev eth0 nodad preferred_lft 0"),
        (site.phone, f"-6 route add default via {LAN6}1 dev eth0"),
        (site.pi, f"addr add {LAN6}1/64 dev lan0 nodad"),
        (site.pi, f"addr add {WAN6}100/64 dev wan0 nodad"),
        (site.pi, f"-6 route add default via {WAN6}1 dev wan0 proto ra"),
        (site.sticks[0], f"addr add {WAN6}1/64 dev eth0 nodad"),
        (site.sticks[0], f"addr add {TARGET6}/128 dev lo nodad"),
        (site.sticks[0], f"-6 route add {LAN6}/64 via {WAN6}100"),
        (site.sticks[0], f"-6 route add {OLD6}/64 via {WAN6}100"),
    ):
        site.ip(namespace, words)
    # What leaves by the uplink and is not neighbours' talk.
    site.sh(
        site.sticks[0],
        "nft -f -",
        stdin="""
table ip6 seen {
 counter beyond { }
 chain c {
  type filter hook prerouting priority raw;
  iifname "eth0" ip6 daddr != { fe80::/10, ff00::/8, 2001:db8:1::/64 } counter name beyond
 }
}
""",
    )
    return site


def left_by_the_uplink(site):
    listed = json.loads(site.sh(site.sticks[0], "nft -j list counter ip6 seen beyond"))
    (counter,) = (e["counter"] for e in listed["nftables"] if "counter" in e)
    return counter["packets"]


@pytest.mark.parametrize("forwarding", [0, 1])
def test_a_phones_ipv6_is_refused_at_once(dual, forwarding):
    agent, phone = dual.agent(), dual.client()
    dual.pi_sh(f"echo {forwarding} > /proc/sys/net/ipv6/conf/all/forwarding")
    if forwarding:
        # The world is real: without the agent the phone gets through.
        until(lambda: phone.attempt(address=TARGET6)[0] == "stick0", "IPv6 works")
        assert left_by_the_uplink(dual) > 0
        dual.sh(dual.sticks[0], "nft reset counters")
    assert agent.sync(active="first")["failures"] == []
    for kind, refusal in (
        ("tcp", "ConnectionRefusedError"),
        ("udp", "PermissionError"),
    ):
        outcomes = [phone.attempt(address=TARGET6, kind=kind) for _ in range(3)]
        assert {outcome for outcome, _ in outcomes} == {refusal}
        assert min(ms for _, ms in outcomes) <= SOON_MS
    assert phone.connect() == "stick0", "IPv4 goes on"
    # The Pi itself is no stranger: its own address answers, or refuses by itself.
    dual.start(dual.pi, "serve", "pi")
    assert phone.attempt(address=f"{LAN6}1")[0] == "pi"
    assert left_by_the_uplink(dual) == 0


@pytest.mark.parametrize("forwarding", [0, 1])
def test_a_dead_providers_prefix_on_a_phone_leads_nowhere(dual, forwarding):
    agent, phone = dual.agent(), dual.client()
    dual.pi_sh(f"echo {forwarding} > /proc/sys/net/ipv6/conf/all/forwarding")
    agent.sync(active="first")
    # The Pi knows no way back to such an address but its default: not even the
    # refusal may go there.
    outcome, _ = phone.attempt(address=TARGET6, source=f"{OLD6}20")
    assert outcome == "TimeoutError"
    assert left_by_the_uplink(dual) == 0


def test_the_pi_itself_does_not_leave_by_ipv6_either(dual):
    agent = dual.agent()
    before = dual.start(dual.pi, "client")
    until(lambda: before.attempt(address=TARGET6)[0] == "stick0", "IPv6 works")
    dual.sh(dual.sticks[0], "nft reset counters")
    changed = agent.sync(active="first")["changed"]
    assert "net/ipv6/conf/wan0/accept_ra: 1 -> 0" in changed
    for kind, refusal in (
        ("tcp", "ConnectionRefusedError"),
        ("udp", "PermissionError"),
    ):
        outcome, _ = agent.attempt(address=TARGET6, kind=kind)
        assert outcome == refusal
    assert left_by_the_uplink(dual) == 0
    # Neighbours are still found, at link-local and at global addresses.
    dual.ip(dual.pi, "neigh flush dev wan0")
    dual.pi_sh(f"ping -6 -c 1 -W 2 {WAN6}1")


def test_ipv6_is_left_to_whoever_set_it_up_if_so_configured(dual):
    agent, phone = dual.agent(refuse_ipv6=False), dual.client()
    dual.pi_sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    report = agent.sync(active="first")
    assert not [change for change in report["changed"] if "ipv6" in change]
    until(lambda: phone.attempt(address=TARGET6)[0] == "stick0", "IPv6 works")
    # As it came: our masquerade and marks are of IPv4 only.
    listed = dual.sh(dual.pi, "conntrack -L -f ipv6")
    flows = [line for line in listed.splitlines() if TARGET6 in line]
    assert flows
    assert all("mark=0 " in line and f"dst={LAN6}20" in line for line in flows)


def test_the_ruleset_needs_no_etc_protocols(site):
    """A small Debian has none (netbase), and nft would refuse all of it for one name."""
    agent = site.agent()
    agent.sync(active="first")
    loaded = site.nft("list table inet jaga")
    text = ruleset(
        RoutingConfig(
            (RoutedUplink("first", "wan0", 1, 1), RoutedUplink("second", "wan1", 2, 2)),
            ("lan0",),
        )
    ).text
    site.sh(site.pi, "mount --bind /dev/null /etc/protocols && nft -f -", stdin=text)
    assert site.nft("list table inet jaga") == loaded
