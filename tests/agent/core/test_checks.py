"""The check of the real thing: whose fault is it, and how soon is it known."""

import pytest

from jaga_agent.core.actions import ReportCheck, ReportTarget
from jaga_agent.core.events import CheckVerdict
from jaga_agent.core.model import Health
from sim.world import FIBRE, NAMES, SIREKAP, TELKOMSEL, XL, World, policy

ALL = (TELKOMSEL, XL, FIBRE)
PORTAL = {"checks": CheckVerdict.REDIRECTED}
CUT = {"checks": CheckVerdict.RESET, "resets_per_s": 10.0}
FINE = {"checks": CheckVerdict.OK, "resets_per_s": 0.0}
NO_NAMES = {"checks": CheckVerdict.DNS_FAILED}


def world(*checks, **changes):
    return World(policy(checks=checks or (SIREKAP,), **changes))


def test_a_used_up_quota_is_left_in_a_second_though_pings_answer():
    site = world()
    site.change(60, TELKOMSEL, **CUT)
    site.run(70)
    (_, (at, rule, uplink)) = site.moves()
    assert (rule, uplink) == ("failover", XL)
    assert at - 60 < 1.0
    reason = site.state.of(TELKOMSEL).reason
    assert reason.code == "check.failed"
    assert "sirekap fails here and works by xl: reset" in str(reason)


def test_a_portal_without_traffic_is_found_by_the_next_check():
    site = World(policy(checks=(SIREKAP,)), traffic_per_s=0)
    site.change(60, TELKOMSEL, **PORTAL)
    site.run(60 + SIREKAP.interval_s + 30)
    assert site.moves()[-1][1:] == ("failover", XL)


def test_it_comes_back_when_the_check_works_again_and_not_before():
    site = world(hold_down_s=20.0)
    site.change(20, TELKOMSEL, **CUT)
    site.change(150, TELKOMSEL, **FINE)
    site.run(140)
    assert site.state.of(TELKOMSEL).health is Health.DOWN
    site.run(300)
    assert [m[1] for m in site.moves()] == ["first", "failover", "failback"]
    assert site.moves()[-1][0] > 150


def test_a_target_that_fails_everywhere_is_the_targets_fault():
    site = World(policy(checks=(SIREKAP,)), traffic_per_s=0)
    site.at(160.0, lambda: site.dead_checks.add("sirekap"))
    site.run(3600)
    site.dead_checks.clear()
    site.run(7200)
    told = [a.answering for _, a in site.log if isinstance(a, ReportTarget)]
    assert told == [False, True]
    assert [m[1] for m in site.moves()] == ["first"]


@pytest.mark.parametrize("verdict", [CheckVerdict.TIMEOUT, CheckVerdict.REFUSED])
def test_what_one_lost_packet_explains_is_asked_again(verdict):
    site = World(policy(checks=(SIREKAP,)), traffic_per_s=0)
    site.run(30)
    failed = site.checks_sent[TELKOMSEL]
    site.roads[TELKOMSEL].checks = verdict
    site.run(3 + SIREKAP.interval_s)
    site.run(9 + SIREKAP.interval_s)
    assert site.checks_sent[TELKOMSEL] >= failed + 2
    assert site.moves()[-1][1:] == ("failover", XL)


def test_one_failed_check_moves_nothing():
    site = World(policy(checks=(SIREKAP,)), traffic_per_s=0)
    site.change(800, TELKOMSEL, checks=CheckVerdict.TIMEOUT)
    site.change(903.1, TELKOMSEL, checks=CheckVerdict.OK)
    site.run(2000)
    assert [m[1] for m in site.moves()] == ["first"]


def test_dead_names_are_a_brownout_and_resolved_elsewhere():
    site = World(policy(checks=(NAMES,)), traffic_per_s=0)
    site.change(60, TELKOMSEL, **NO_NAMES)
    site.run(1200)
    assert site.state.of(TELKOMSEL).health is Health.DEGRADED
    assert site.state.of(TELKOMSEL).reason.code == "dns.dead"
    assert site.moves()[-1][1:] == ("switchover", XL)


def test_the_last_uplink_that_answers_is_used_though_its_check_fails():
    site = world()
    site.change(60, TELKOMSEL, **CUT)
    for name in (XL, FIBRE):
        site.change(120, name, silent=True)
    site.run(180)
    assert site.state.active == TELKOMSEL
    assert site.state.of(TELKOMSEL).health is Health.DEGRADED


def test_a_silent_uplink_is_not_checked_and_keeps_nobody_awake():
    """World asserts that no deadline is met twice."""
    site = World(policy(checks=(SIREKAP, NAMES)), traffic_per_s=0)
    site.change(60, TELKOMSEL, silent=True)
    site.run(100)
    asked, events = site.checks_sent[TELKOMSEL], site.events
    site.run(100 + 2 * 3600)
    assert site.checks_sent[TELKOMSEL] == asked
    assert site.events - events < 40_000
    site.change(7400, TELKOMSEL, silent=False)
    site.run(7500)
    assert site.checks_sent[TELKOMSEL] > asked


def test_resets_that_mean_nothing_cost_few_checks():
    """A site whose applications are reset all day: checks pass, and grow rarer."""
    site = World(policy(checks=(SIREKAP,)), traffic_per_s=0)
    site.change(60, TELKOMSEL, resets_per_s=5.0)
    site.run(2 * 3600)
    assert [m[1] for m in site.moves()] == ["first"]
    at_leisure = 2 * 3600 / SIREKAP.interval_s
    assert site.checks_sent[TELKOMSEL] <= 2 * at_leisure + 12


def test_at_leisure_a_check_is_asked_once_in_its_interval():
    site = World(policy(checks=(SIREKAP,)), traffic_per_s=0)
    site.run(4 * 3600)
    for name in ALL:
        assert site.checks_sent[name] in (16, 17)
    assert not [a for _, a in site.log if isinstance(a, ReportCheck)]


def test_a_service_that_ignores_everybody_is_found_in_seconds():
    """Its openings are repeated and never answered, while pings are."""
    site = world()
    site.change(60, TELKOMSEL, ignored_per_s=5.0)
    site.at(160.0, lambda: site.dead_checks.add("sirekap"))
    site.run(80)
    told = [(at, a.answering) for at, a in site.log if isinstance(a, ReportTarget)]
    assert [answering for _, answering in told] == [False]
    assert told[0][0] < 75
    assert [m[1] for m in site.moves()] == ["first"]
