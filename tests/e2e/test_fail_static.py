"""The agent dies or freezes in the middle of a fault: what worked goes on working."""

from __future__ import annotations

import contextlib
import signal

import pytest

from lab import boottime_s
from lab.clock import sleep_until
from site_bench.runner import Bench
from site_bench.subjects import SUBJECTS

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

TELKOMSEL, INDOSAT = "telkomsel", "indosat"
TIMEOUT_S = 2.0
"""Of the phone's attempts: what became of one is known after it."""


@pytest.fixture(scope="module")
def bench():
    with Bench(SUBJECTS["jaga"]) as running:
        yield running


@pytest.fixture
def phone(bench):
    measuring = bench.lab.phone.start(timeout_s=TIMEOUT_S)
    measuring.wait_good(TELKOMSEL, timeout_s=30)
    yield measuring
    measuring.stop()


@pytest.fixture(autouse=True)
def repaired(bench):
    """Each test ends with the agent alive and Telkomsel carrying."""
    yield
    bench.lab.restore()
    agent = bench.subject.process
    if agent is None or agent.poll() is not None:
        bench.subject.start()
    agent_continues(agent)
    bench.subject.reset()


def agent_continues(agent) -> None:
    with contextlib.suppress(ProcessLookupError):
        agent.send_signal(signal.SIGCONT)


def kill(bench) -> None:
    agent = bench.subject.process
    agent.send_signal(signal.SIGKILL)
    agent.wait(5)


def watched(phone, from_s, seconds):
    """Return what the phone felt from then on, once it is known."""
    sleep_until(from_s + seconds + TIMEOUT_S + 0.1)
    return phone.summary(from_s, from_s + seconds)


def unbroken(summary, provider) -> None:
    """Every attempt good, all by one provider, the upload going on."""
    assert summary.attempts > 20
    assert summary.bad_attempts == 0, summary
    assert {spell.provider for spell in summary.spells} == {provider}
    assert summary.upload_gap.gap_s < 1.0


def resets(phone, from_s) -> int:
    return sum(m.what == "broken" and m.at_s >= from_s for m in phone.log().upload)


def test_killed_in_a_blackhole_after_the_move_the_site_stays_moved(bench, phone):
    effect = bench.lab.uplinks[TELKOMSEL].blackhole()
    phone.wait_good(INDOSAT, since_s=effect.at_s)
    # The upload is back as well; from here on all works.
    sleep_until(boottime_s() + 2)
    from_s = boottime_s()
    kill(bench)
    unbroken(watched(phone, from_s, 4), INDOSAT)
    # Nor does a dead agent go back when the fault is over: nobody verified it.
    bench.lab.restore()
    unbroken(watched(phone, boottime_s(), 2), INDOSAT)
    assert resets(phone, from_s) == 0


def test_frozen_while_all_works_nobody_notices(bench, phone):
    from_s = boottime_s()
    bench.subject.process.send_signal(signal.SIGSTOP)
    try:
        unbroken(watched(phone, from_s, 6), TELKOMSEL)
    finally:
        agent_continues(bench.subject.process)
    # Awake again it finds old questions unanswered: its own fault, no uplink's.
    awake_s = boottime_s()
    unbroken(watched(phone, awake_s, 6), TELKOMSEL)
    assert resets(phone, from_s) == 0
    assert bench.routes.moves(from_s, boottime_s()) == []


def test_carrier_lost_while_frozen_the_kernel_fails_over(bench, phone):
    bench.subject.process.send_signal(signal.SIGSTOP)
    try:
        effect = bench.lab.uplinks[TELKOMSEL].carrier_loss()
        phone.wait_good(INDOSAT, since_s=effect.at_s)
        summary = watched(phone, effect.at_s, 4)
        assert summary.bad_s <= 0.5
        assert {spell.provider for spell in summary.spells} == {INDOSAT}
    finally:
        agent_continues(bench.subject.process)
    # And the agent, awake, stays with what carries.
    sleep_until(boottime_s() + 1)
    assert watched(phone, boottime_s(), 2).bad_attempts == 0


def test_a_restart_in_a_blackhole_adopts_without_a_lost_connection(bench, phone):
    effect = bench.lab.uplinks[TELKOMSEL].blackhole()
    phone.wait_good(INDOSAT, since_s=effect.at_s)
    sleep_until(boottime_s() + 2)
    from_s = boottime_s()
    kill(bench)
    bench.subject.start(active=INDOSAT)
    unbroken(watched(phone, from_s, boottime_s() - from_s + 2), INDOSAT)
    assert resets(phone, from_s) == 0


def test_killed_just_before_a_fault_the_next_agent_moves_the_site(bench, phone):
    kill(bench)
    effect = bench.lab.uplinks[TELKOMSEL].blackhole()
    restarted_s = boottime_s()
    bench.subject.start(active=INDOSAT)
    first = phone.wait_good(INDOSAT, since_s=effect.at_s, timeout_s=20)
    assert first.start_s - restarted_s < 10
