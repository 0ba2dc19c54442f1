"""The ruleset's text is a contract with the kernel: pinned as it is."""

import pytest

from jaga_agent.core.firewall import FLOW_COUNTERS, counter_names, ruleset
from jaga_agent.core.routes import RoutedUplink, RoutingConfig

UPLINKS = (
    RoutedUplink("tsel", "wan0", 1, preference=1),
    RoutedUplink("fibre", "wan2", 3, preference=0),
)

GATEWAY = """\
table inet jaga
delete table inet jaga
table inet jaga {
	comment "STAMP"
	counter syn_out_1 { }
	counter dns_out_1 { }
	counter synack_in_1 { }
	counter rst_in_1 { }
	counter dns_in_1 { }
	counter syn_out_3 { }
	counter dns_out_3 { }
	counter synack_in_3 { }
	counter rst_in_3 { }
	counter dns_in_3 { }
	chain mark_flows {
		type filter hook postrouting priority mangle; policy accept;
		meta nfproto ipv4 oifname "wan0" ct state new ct mark set ct mark & 0xffff00ff | 0x00000100
		meta nfproto ipv4 oifname "wan2" ct state new ct mark set ct mark & 0xffff00ff | 0x00000300
	}
	chain source_nat {
		type nat hook postrouting priority srcnat; policy accept;
		meta nfproto ipv4 oifname { "wan0", "wan2" } masquerade
	}
	chain reset_own {
		type filter hook output priority filter; policy accept;
		meta nfproto ipv4 oifname { "wan0", "wan2" } ct state new tcp flags & (syn | rst | fin) == 0 reject with tcp reset
	}
	chain reset_lan {
		type filter hook forward priority filter; policy accept;
		meta nfproto ipv4 iifname { "lan0" } oifname { "wan0", "wan2" } ct state new tcp flags & (syn | rst | fin) == 0 reject with tcp reset
		meta nfproto ipv4 iifname { "lan0" } oifname { "wan0", "wan2" } ct state invalid drop
	}
	chain clamp_mss {
		type filter hook forward priority mangle; policy accept;
		iifname { "lan0" } oifname { "wan0", "wan2" } tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
		iifname { "wan0", "wan2" } oifname { "lan0" } tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
	}
	chain refuse_ipv6_lan {
		type filter hook prerouting priority filter; policy accept;
		iifname { "lan0" } ip6 daddr != { fe80::/10, ff00::/8 } fib daddr type != local fib saddr . iif oif missing drop
		iifname { "lan0" } ip6 daddr != { fe80::/10, ff00::/8 } fib daddr type != local meta l4proto tcp reject with tcp reset
		iifname { "lan0" } ip6 daddr != { fe80::/10, ff00::/8 } fib daddr type != local reject with icmpv6 admin-prohibited
	}
	chain refuse_ipv6_own {
		type filter hook output priority filter; policy accept;
		oifname { "wan0", "wan2" } ip6 daddr != { fe80::/10, ff00::/8 } ct state new meta l4proto tcp reject with tcp reset
		oifname { "wan0", "wan2" } ip6 daddr != { fe80::/10, ff00::/8 } ct state new meta l4proto != 58 reject with icmpv6 admin-prohibited
	}
	chain count_out {
		type filter hook postrouting priority srcnat + 10; policy accept;
		tcp flags & (syn | ack) == syn counter name oifname map { "wan0" : "syn_out_1", "wan2" : "syn_out_3" }
		udp dport 53 counter name oifname map { "wan0" : "dns_out_1", "wan2" : "dns_out_3" }
	}
	chain count_in {
		type filter hook prerouting priority raw; policy accept;
		tcp flags & (syn | ack) == (syn | ack) counter name iifname map { "wan0" : "synack_in_1", "wan2" : "synack_in_3" }
		tcp flags & rst == rst counter name iifname map { "wan0" : "rst_in_1", "wan2" : "rst_in_3" }
		udp sport 53 counter name iifname map { "wan0" : "dns_in_1", "wan2" : "dns_in_3" }
	}
}
"""


def test_a_gateway():
    rules = ruleset(RoutingConfig(UPLINKS, ("lan0",)))
    assert rules.text == GATEWAY.replace("STAMP", rules.stamp)


def test_a_site_that_guards_only_itself_forwards_nothing():
    text = ruleset(RoutingConfig(UPLINKS)).text
    assert "reset_own" in text
    assert "hook forward" not in text
    assert "refuse_ipv6_lan" not in text
    assert "refuse_ipv6_own" in text


def test_ipv6_is_left_alone_if_so_said():
    text = ruleset(RoutingConfig(UPLINKS, ("lan0",), refuse_ipv6=False)).text
    assert "ip6" not in text
    assert "icmpv6" not in text


@pytest.mark.parametrize("lan", [(), ("lan0",)])
def test_what_belongs_to_the_routes_is_of_their_family(lan):
    rules = ruleset(RoutingConfig(UPLINKS, lan)).text.splitlines()
    for word in ("masquerade", "ct mark set", "== 0 reject", "invalid drop"):
        assert all("meta nfproto ipv4" in rule for rule in rules if word in rule), word


def test_there_is_no_flowtable():
    text = ruleset(RoutingConfig(UPLINKS, ("lan0",))).text
    assert "flow" not in text.replace("mark_flows", "")


def test_the_stamp_follows_the_content():
    stamps = {
        ruleset(config).stamp
        for config in (
            RoutingConfig(UPLINKS, ("lan0",)),
            RoutingConfig(UPLINKS, ("lan1",)),
            RoutingConfig(UPLINKS),
            RoutingConfig(UPLINKS, refuse_ipv6=False),
            RoutingConfig(UPLINKS[:1]),
            RoutingConfig(()),
        )
    }
    assert len(stamps) == 6
    same = ruleset(RoutingConfig(UPLINKS, ("lan0",)))
    assert same == ruleset(RoutingConfig(UPLINKS, ("lan0",)))


def test_each_counter_is_known_by_its_uplink():
    names = counter_names(RoutingConfig(UPLINKS))
    assert names["syn_out_1"] == ("tsel", "syn_out")
    assert names["dns_in_3"] == ("fibre", "dns_in")
    assert len(names) == len(UPLINKS) * len(FLOW_COUNTERS)
    text = ruleset(RoutingConfig(UPLINKS)).text
    assert all(text.count(f'"{name}"') == 1 for name in names), "each has one rule"
