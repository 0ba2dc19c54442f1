"""The ruleset's text is a contract with the kernel: pinned as it is."""

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
		oifname "wan0" ct state new ct mark set ct mark & 0xffff00ff | 0x00000100
		oifname "wan2" ct state new ct mark set ct mark & 0xffff00ff | 0x00000300
	}
	chain source_nat {
		type nat hook postrouting priority srcnat; policy accept;
		oifname { "wan0", "wan2" } masquerade
	}
	chain reset_own {
		type filter hook output priority filter; policy accept;
		oifname { "wan0", "wan2" } ct state new tcp flags & (syn | rst | fin) == 0 reject with tcp reset
	}
	chain reset_lan {
		type filter hook forward priority filter; policy accept;
		iifname { "lan0" } oifname { "wan0", "wan2" } ct state new tcp flags & (syn | rst | fin) == 0 reject with tcp reset
		iifname { "lan0" } oifname { "wan0", "wan2" } ct state invalid drop
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


def test_the_stamp_follows_the_content():
    stamps = {
        ruleset(config).stamp
        for config in (
            RoutingConfig(UPLINKS, ("lan0",)),
            RoutingConfig(UPLINKS, ("lan1",)),
            RoutingConfig(UPLINKS),
            RoutingConfig(UPLINKS[:1]),
            RoutingConfig(()),
        )
    }
    assert len(stamps) == 5
    same = ruleset(RoutingConfig(UPLINKS, ("lan0",)))
    assert same == ruleset(RoutingConfig(UPLINKS, ("lan0",)))


def test_each_counter_is_known_by_its_uplink():
    names = counter_names(RoutingConfig(UPLINKS))
    assert names["syn_out_1"] == ("tsel", "syn_out")
    assert names["dns_in_3"] == ("fibre", "dns_in")
    assert len(names) == len(UPLINKS) * len(FLOW_COUNTERS)
    text = ruleset(RoutingConfig(UPLINKS)).text
    assert all(text.count(f'"{name}"') == 1 for name in names), "each has one rule"
