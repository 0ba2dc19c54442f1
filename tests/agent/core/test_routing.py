"""The routing layout as tables: configuration and links in, kernel state as text out."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.routes import (
    ACTIVE_METRIC,
    ACTIVE_TABLE,
    LAST_METRIC,
    AddRule,
    DeleteRoute,
    DeleteRule,
    Link,
    PutRoute,
    Route,
    RoutedUplink,
    RoutingConfig,
    RoutingState,
    Rule,
)
from jaga_agent.core.routing import (
    LearntGateway,
    adopted_active,
    desired,
    diff,
    kernel_settings,
    prune,
    recall_gateways,
)
from jaga_agent.errors import ConfigError

TSEL = RoutedUplink("tsel", "wan0", 1, preference=1)
FIBRE = RoutedUplink("fibre", "wan2", 3, preference=0)
CONFIG = RoutingConfig((TSEL, FIBRE), ("lan0",))
NOTHING = RoutingState()


def link(device, **changes):
    shown = Link(
        device,
        index=7,
        admin_up=True,
        carrier=True,
        address="192.168.8.100",
        subnet="192.168.8.0/24",
        gateway="192.168.8.1",
    )
    return replace(shown, **changes)


WAN0 = link("wan0")
WAN2 = link(
    "wan2", index=9, address="10.0.3.7", subnet="10.0.3.0/30", gateway="10.0.3.5"
)

RULES = """\
1000: from all lookup 254 suppress_prefixlength 0
1101: from all oif wan0 lookup 101
1103: from all oif wan2 lookup 103
1201: from all fwmark 0x100/0xff00 lookup 101
1203: from all fwmark 0x300/0xff00 lookup 103
2000: from all lookup 100
"""
NO_WAY_100 = "unreachable default table 100 metric 4294967295\n"
WAN0_TABLE = """\
192.168.8.0/24 dev wan0 table 101 src 192.168.8.100 metric 1
default via 192.168.8.1 dev wan0 table 101 metric 1
"""
WAN2_TABLE = """\
10.0.3.0/30 dev wan2 table 103 src 10.0.3.7 metric 1
default via 10.0.3.5 dev wan2 table 103 metric 1
"""
NO_WAY_101 = "unreachable default table 101 metric 4294967295\n"
NO_WAY_103 = "unreachable default table 103 metric 4294967295\n"
BY_WAN0 = "default via 192.168.8.1 dev wan0 table 100 metric 1\n"
STANDBYS = """\
default via 10.0.3.5 dev wan2 table 100 metric 10
default via 192.168.8.1 dev wan0 table 100 metric 11
"""
HELD_BY_WAN0 = RoutingState(
    frozenset({Route(ACTIVE_TABLE, "default", ACTIVE_METRIC, "wan0", "192.168.8.1")})
)
BOTH = {"wan0": WAN0, "wan2": WAN2}


@dataclass(frozen=True)
class Case:
    links: dict
    active: str | None
    observed: RoutingState
    routes: str


CASES = {
    "no device at all: nothing leaks": Case(
        {}, None, NOTHING, NO_WAY_100 + NO_WAY_101 + NO_WAY_103
    ),
    "first start: defaults by preference": Case(
        BOTH,
        None,
        NOTHING,
        STANDBYS + NO_WAY_100 + WAN0_TABLE + NO_WAY_101 + WAN2_TABLE + NO_WAY_103,
    ),
    "the active one first, and every one at its rank": Case(
        BOTH,
        "tsel",
        NOTHING,
        BY_WAN0
        + STANDBYS
        + NO_WAY_100
        + WAN0_TABLE
        + NO_WAY_101
        + WAN2_TABLE
        + NO_WAY_103,
    ),
    "none chosen: whoever carries goes on": Case(
        BOTH,
        None,
        HELD_BY_WAN0,
        BY_WAN0
        + STANDBYS
        + NO_WAY_100
        + WAN0_TABLE
        + NO_WAY_101
        + WAN2_TABLE
        + NO_WAY_103,
    ),
    "the chosen one has no gateway yet: whoever carries goes on": Case(
        {"wan0": WAN0, "wan2": replace(WAN2, gateway=None)},
        "fibre",
        HELD_BY_WAN0,
        BY_WAN0
        + "default via 192.168.8.1 dev wan0 table 100 metric 11\n"
        + NO_WAY_100
        + WAN0_TABLE
        + NO_WAY_101
        + NO_WAY_103,
    ),
    "whoever carries lost its address: the last route is not taken away": Case(
        {"wan0": replace(WAN0, address=None, subnet=None, gateway=None)},
        None,
        HELD_BY_WAN0,
        BY_WAN0 + NO_WAY_100 + NO_WAY_101 + NO_WAY_103,
    ),
    "the gateway changed under whoever carries": Case(
        {"wan0": replace(WAN0, gateway="192.168.8.254")},
        None,
        HELD_BY_WAN0,
        (
            BY_WAN0
            + "default via 192.168.8.1 dev wan0 table 100 metric 11\n"
            + NO_WAY_100
            + WAN0_TABLE
        ).replace("via 192.168.8.1 ", "via 192.168.8.254 ")
        + NO_WAY_101
        + NO_WAY_103,
    ),
    "carrier is the kernel's matter": Case(
        {"wan0": replace(WAN0, carrier=False)},
        "tsel",
        NOTHING,
        BY_WAN0
        + "default via 192.168.8.1 dev wan0 table 100 metric 11\n"
        + NO_WAY_100
        + WAN0_TABLE
        + NO_WAY_101
        + NO_WAY_103,
    ),
    "a device that is down takes no routes": Case(
        {"wan0": replace(WAN0, admin_up=False)},
        "tsel",
        NOTHING,
        NO_WAY_100 + NO_WAY_101 + NO_WAY_103,
    ),
    "point to point needs no gateway, and has no network": Case(
        {
            "wan0": replace(
                WAN0, subnet="10.64.3.2/32", gateway=None, point_to_point=True
            )
        },
        "tsel",
        NOTHING,
        "default dev wan0 table 100 metric 1\n"
        "default dev wan0 table 100 metric 11\n"
        + NO_WAY_100
        + "default dev wan0 table 101 metric 1\n"
        + NO_WAY_101
        + NO_WAY_103,
    ),
    "a device that is not ours is left out": Case(
        {"eth9": link("eth9")}, None, NOTHING, NO_WAY_100 + NO_WAY_101 + NO_WAY_103
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_desired_state(case):
    state = desired(CONFIG, case.links, case.active, case.observed)
    assert str(state) + "\n" == RULES + case.routes


def steps_of(wanted, observed):
    return [str(step) for step in diff(wanted, observed)]


def test_a_switch_is_one_replace():
    before = desired(CONFIG, BOTH, "tsel", NOTHING)
    after = desired(CONFIG, BOTH, "fibre", before)
    assert steps_of(after, before) == [
        "replace route default via 10.0.3.5 dev wan2 table 100 metric 1"
    ]


def test_first_steps_put_routes_before_rules_and_connected_before_default():
    kinds = [str(s) for s in diff(desired(CONFIG, BOTH, "tsel", NOTHING), NOTHING)]
    assert kinds[-6:] == [f"add rule {line}" for line in RULES.splitlines()]
    assert all(kind.startswith("add route") for kind in kinds[:-6])


def test_pruning_takes_the_default_rule_first():
    state = desired(CONFIG, BOTH, "tsel", NOTHING)
    steps = [str(step) for step in prune(state)]
    assert steps[0] == "delete rule 2000: from all lookup 100"
    assert len(steps) == len(state.rules) + len(state.routes)
    assert after(steps=prune(state), state=state) == NOTHING


def test_what_lies_outside_our_ranges_is_never_pruned():
    alien = RoutingState(
        frozenset({Route(254, "default", 0, "wan0", "192.168.8.1")}),
        frozenset({Rule(900, 101), Rule(2001, 101)}),
    )
    assert prune(alien) == ()


@pytest.mark.parametrize(
    ("observed", "links", "want"),
    [
        (NOTHING, BOTH, None),
        (desired(CONFIG, BOTH, "tsel", NOTHING), BOTH, "tsel"),
        (desired(CONFIG, BOTH, None, NOTHING), BOTH, "fibre"),
        (
            desired(CONFIG, BOTH, "tsel", NOTHING),
            BOTH | {"wan0": replace(WAN0, carrier=False)},
            "fibre",
        ),
        (
            desired(CONFIG, BOTH, "tsel", NOTHING),
            {d: replace(seen, carrier=False) for d, seen in BOTH.items()},
            "tsel",
        ),
        (desired(CONFIG, {}, None, NOTHING), {}, None),
    ],
    ids=[
        "nothing ours",
        "the chosen one",
        "by preference",
        "the kernel moved on when carrier was lost",
        "no carrier anywhere",
        "only unreachable",
    ],
)
def test_adopted_active(observed, links, want):
    assert adopted_active(CONFIG, links, observed) == want


LEARNT = {"wan0": LearntGateway(7, "192.168.8.100", "192.168.8.1")}
BARE = replace(WAN0, gateway=None)


@pytest.mark.parametrize(
    ("seen", "memory", "observed", "gateway"),
    [
        (WAN0, {}, NOTHING, "192.168.8.1"),
        (replace(WAN0, gateway="192.168.8.2"), LEARNT, NOTHING, "192.168.8.2"),
        (BARE, {}, NOTHING, None),
        (BARE, LEARNT, NOTHING, "192.168.8.1"),
        (replace(BARE, index=8), LEARNT, NOTHING, None),
        (replace(BARE, address="192.168.8.7"), LEARNT, NOTHING, "192.168.8.1"),
        (
            replace(BARE, address="10.1.1.2", subnet="10.1.1.0/24"),
            LEARNT,
            NOTHING,
            None,
        ),
        (replace(BARE, address=None, subnet=None), LEARNT, NOTHING, None),
        (BARE, {}, desired(CONFIG, BOTH, None, NOTHING), "192.168.8.1"),
        (
            replace(BARE, address="10.1.1.2", subnet="10.1.1.0/24"),
            {},
            desired(CONFIG, BOTH, None, NOTHING),
            None,
        ),
    ],
    ids=[
        "seen",
        "seen anew wins over memory",
        "never seen",
        "gone with the carrier",
        "re-enumerated",
        "new lease in the same network",
        "new lease in another network",
        "no address",
        "after a restart our own table remembers",
        "our own table is out of date",
    ],
)
def test_gateway_memory(seen, memory, observed, gateway):
    links, _ = recall_gateways(CONFIG, {"wan0": seen}, memory, observed)
    assert links["wan0"].gateway == gateway


def test_memory_outlives_a_time_without_address():
    gone = replace(BARE, address=None, subnet=None)
    _, memory = recall_gateways(CONFIG, {"wan0": gone}, LEARNT, NOTHING)
    links, _ = recall_gateways(CONFIG, {"wan0": BARE}, memory, NOTHING)
    assert links["wan0"].gateway == "192.168.8.1"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RoutingConfig((TSEL, replace(FIBRE, index=1))), "index 1 is used"),
        (lambda: RoutingConfig((TSEL, replace(FIBRE, device="wan0"))), "'wan0'"),
        (lambda: RoutingConfig((TSEL,), ("wan0",)), "'wan0' is used twice"),
        (lambda: replace(TSEL, index=0), "not in 1…99"),
        (lambda: replace(TSEL, index=100), "not in 1…99"),
        (lambda: replace(TSEL, device="wan*"), "'wan*' cannot be used"),
        (lambda: replace(TSEL, device='w"'), "cannot be used"),
        (lambda: replace(TSEL, device=".."), "cannot be used"),
        (lambda: replace(TSEL, device="a" * 16), "cannot be used"),
        (lambda: CONFIG.uplink("nobody"), "no uplink is named 'nobody'"),
    ],
    ids=[
        "index twice",
        "device twice",
        "device for LAN and uplink",
        "index zero",
        "index beyond the tables",
        "wildcard",
        "quote",
        "parent directory",
        "too long",
        "unknown name",
    ],
)
def test_unusable_configuration_names_its_fault(build, message):
    with pytest.raises(ConfigError, match=message.replace("*", r"\*")):
        build()


def test_settings_name_only_devices_that_exist():
    assert kernel_settings(CONFIG, {"wan0": WAN0}) == {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/rp_filter": "2",
        "net/ipv4/conf/all/ignore_routes_with_linkdown": "1",
        "net/ipv4/conf/default/rp_filter": "2",
        "net/ipv4/conf/default/ignore_routes_with_linkdown": "1",
        "net/ipv4/conf/wan0/rp_filter": "2",
        "net/ipv4/conf/wan0/ignore_routes_with_linkdown": "1",
        "net/ipv4/conf/wan0/arp_ignore": "1",
        "net/ipv4/conf/wan0/arp_announce": "2",
        "net/ipv6/conf/wan0/accept_ra": "0",
        "net/netfilter/nf_conntrack_tcp_loose": "1",
    }


def test_a_site_without_lan_does_not_forward():
    assert "net/ipv4/ip_forward" not in kernel_settings(RoutingConfig((TSEL,)), {})


# Invariants


def after(state, steps):
    """Apply the steps as the kernel does."""
    routes = {route.slot: route for route in state.routes}
    rules = set(state.rules)
    for step in steps:
        match step:
            case PutRoute(route, swap):
                assert swap == (route.slot in routes), "a slot is taken once"
                routes[route.slot] = route
            case DeleteRoute(route):
                assert routes.pop(route.slot) == route
            case AddRule(rule):
                assert rule not in rules
                rules.add(rule)
            case DeleteRule(rule):
                rules.remove(rule)
    return RoutingState(frozenset(routes.values()), frozenset(rules))


octets = st.integers(1, 3)


@st.composite
def configs(draw):
    count = draw(st.integers(0, 3))
    indices = draw(st.permutations([1, 2, 3]))
    return RoutingConfig(
        tuple(
            RoutedUplink(f"u{n}", f"wan{n}", indices[n], draw(st.integers(0, 2)))
            for n in range(count)
        )
    )


@st.composite
def links(draw, devices):
    seen = {}
    for device in devices:
        if draw(st.booleans()):
            net = draw(octets)
            address = draw(st.none() | octets.map(lambda n, net=net: f"10.0.{net}.{n}"))
            seen[device] = Link(
                device,
                index=draw(octets),
                admin_up=draw(st.booleans()),
                carrier=draw(st.booleans()),
                address=address,
                subnet=None if address is None else f"10.0.{net}.0/24",
                gateway=draw(st.none() | st.just(f"10.0.{net}.254")),
                point_to_point=draw(st.booleans()),
            )
    return seen


@st.composite
def moments(draw, config):
    """The links, and who is chosen."""
    names = [uplink.name for uplink in config.uplinks]
    active = draw(st.none() | st.sampled_from(names)) if names else None
    return draw(links(config.devices)), active


def default_out(state):
    """The kernel's choice in table 100: the device, or None for unreachable."""
    defaults = [r for r in state.routes if r.table == ACTIVE_TABLE]
    return min(defaults, key=lambda r: r.metric).device if defaults else None


@given(st.data())
def test_the_steps_lead_there_and_leave_no_gap(data):
    old_config, new_config = data.draw(configs()), data.draw(configs())
    old_links, old_active = data.draw(moments(old_config))
    now_links, now_active = data.draw(moments(new_config))
    before = desired(old_config, old_links, old_active, NOTHING)
    wanted = desired(new_config, now_links, now_active, before)
    steps = diff(wanted, before)

    there = after(before, steps)
    assert there == wanted
    assert diff(wanted, there) == ()
    assert desired(new_config, now_links, now_active, there) == wanted, "stable"

    if default_out(before) is not None and default_out(wanted) is not None:
        for count in range(len(steps)):
            midway = after(before, steps[:count])
            assert default_out(midway) is not None, f"no way out after {steps[:count]}"


@given(st.data())
def test_who_carries_is_not_left_without_a_choice(data):
    config = data.draw(configs())
    first_links, active = data.draw(moments(config))
    before = desired(config, first_links, active, NOTHING)
    now_links = data.draw(links(config.devices))
    carrying = default_out(before)
    wanted = desired(config, now_links, None, before)
    still = now_links.get(carrying)
    held = any(r.metric == ACTIVE_METRIC for r in before.routes if r.table == 100)
    if held and still is not None and still.admin_up:
        assert default_out(wanted) == carrying


@given(st.data())
def test_every_table_ends_and_the_active_one_comes_first(data):
    config = data.draw(configs())
    seen, active = data.draw(moments(config))
    state = desired(config, seen, active, NOTHING)
    for table in {rule.table for rule in state.rules} - {254}:
        assert Route(table, "default", LAST_METRIC, None) in state.routes
    if active is not None:
        device = config.uplink(active).device
        chosen = seen.get(device)
        if chosen is not None and chosen.admin_up and chosen.routed:
            assert default_out(state) == device
