"""One site end to end: real kernel, Mosquitto, agent and collector; what a phone sees."""

import signal
import subprocess

import pytest

from demo.stage import BIN, Stage, agent_config
from demo.view import View
from lab import boottime_s

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

TELKOMSEL, INDOSAT = "telkomsel", "indosat"


@pytest.fixture(scope="module")
def stage(shared_data, free_port):
    with Stage(
        shared_data, free_port(), fleet=0, say=print, hold_down_s=(2, 4)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def view(stage):
    following = View(stage.base, lambda _: None)
    following.start()
    return following


@pytest.fixture
def phone(stage):
    measuring = stage.lab.phone.start()
    measuring.wait_good(TELKOMSEL, timeout_s=30)
    yield measuring
    measuring.stop()


@pytest.fixture(autouse=True)
def repaired(stage, view):
    """Each test begins and ends with Telkomsel carrying and nothing broken."""
    wait_active(stage, view, TELKOMSEL)
    yield
    stage.lab.restore()
    if stage.agent.poll() is not None:
        stage.start_agent()
    wait_active(stage, view, TELKOMSEL)


def wait_active(stage, view, uplink, timeout_s=60):
    def seen(v):
        return v.sites.get(stage.site, {}).get("active") == uplink

    assert view.wait(seen, timeout_s), f"{uplink} did not come to carry the site"


def decision_after(stage, view, told, rules, timeout_s=30):
    def seen(v):
        return next(
            (
                e
                for e in v.events[told:]
                if e["site"] == stage.site and e["rule"] in rules
            ),
            None,
        )

    found = view.wait(seen, timeout_s)
    assert found, f"the collector heard of no {rules}"
    return found


# name: (the fault, the longest the phone may be without a new connection)
FAULTS = {
    "silent both ways": (lambda u: u.blackhole(), 2.0),
    "silent upwards": (lambda u: u.blackhole("up"), 2.0),
    "silent downwards": (lambda u: u.blackhole("down"), 2.0),
    "carrier lost": (lambda u: u.carrier_loss(), 0.2),
    "stick pulled": (lambda u: u.unplug(), 0.2),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_uplink_dies_and_the_phone_hardly_notices(stage, view, phone, fault):
    act, longest_s = fault
    told = len(view.events)
    effect = act(stage.lab.uplinks[TELKOMSEL])
    moved = decision_after(stage, view, told, {"failover"})
    assert (moved["old"], moved["new"]) == (TELKOMSEL, INDOSAT)
    phone.wait_good(INDOSAT, since_s=effect.at_s)
    until_s = boottime_s() + 3
    phone.wait_good(INDOSAT, since_s=until_s)
    gap = phone.summary(effect.at_s - 1, until_s)
    assert gap.gap_s <= longest_s, f"phone's gap {gap.gap_s:.2f} s: {gap}"


def test_loss_is_found_and_left(stage, view):
    told = len(view.events)
    # Each way: a third of all round trips. Told by the loss test, or by a race lost.
    stage.lab.uplinks[TELKOMSEL].loss(0.2)
    moved = decision_after(stage, view, told, {"failover", "switchover"}, timeout_s=90)
    assert moved["old"] == TELKOMSEL


def test_standing_delay_is_found_and_left(stage, view):
    told = len(view.events)
    # Each way: a round trip of 1.4 s. Idle, it may be told by silence or by its delay.
    stage.lab.uplinks[TELKOMSEL].latency(700)
    moved = decision_after(stage, view, told, {"failover", "switchover"}, timeout_s=90)
    assert moved["old"] == TELKOMSEL


def test_a_killed_agent_leaves_the_traffic_flowing(stage, phone):
    from_s = boottime_s()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.wait(5)
    phone.wait_good(TELKOMSEL, since_s=boottime_s() + 5)
    dead = phone.summary(from_s, boottime_s() - 2.1)
    assert dead.attempts > 20
    assert dead.bad_attempts == 0
    from_s = boottime_s()
    stage.start_agent()
    phone.wait_good(TELKOMSEL, since_s=boottime_s() + 5)
    restarted = phone.summary(from_s, boottime_s() - 2.1)
    assert restarted.attempts > 20
    assert restarted.bad_attempts == 0


def test_with_the_agent_dead_the_kernel_still_fails_over_on_carrier_loss(stage, phone):
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.wait(5)
    effect = stage.lab.uplinks[TELKOMSEL].carrier_loss()
    phone.wait_good(INDOSAT, since_s=effect.at_s)
    until_s = boottime_s() + 1
    phone.wait_good(INDOSAT, since_s=until_s)
    assert phone.summary(effect.at_s - 1, until_s).gap_s <= 0.5


def test_no_record_is_lost_over_outage_kill_and_broker_restart(stage, view):
    told = len(view.events)
    stage.lab.uplinks[TELKOMSEL].blackhole()
    decision_after(stage, view, told, {"failover"})
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.wait(5)
    stage.start_agent()

    def complete(_):
        records = stage.agent_status()["records"]
        detail = stage.get(f"/api/1/sites/{stage.site}")
        # A watermark comes each minute: what was made since then waits for the next.
        since = 2 + (records["watermark_age_s"] or 0) / 10
        return (
            records["waiting"] <= since
            and detail["last_seq"] == records["last_seq"]
            and detail["lost"] == detail["missing"] == 0
        )

    assert view.wait(complete, 40)


def test_status_is_what_a_technician_reads(stage):
    shown = subprocess.run(
        [
            BIN / "jaga-agent",
            "status",
            "--socket",
            stage.directory / "agent/agent.sock",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout
    assert f"The site uses {TELKOMSEL} (wan0): OK" in shown
    assert "Collector: connected for" in shown
    assert "Last decisions" in shown


def test_a_second_agent_is_refused(stage):
    config = stage.directory / "agent" / "agent.toml"
    second = stage.lab.pi.run([str(BIN / "jaga-agent"), "run", "--config", str(config)])
    assert second.returncode == 1
    assert "another jaga-agent is running" in second.stderr


def test_the_site_is_guarded_without_a_broker(stage, view, phone):
    stage.broker.process.send_signal(signal.SIGSTOP)
    try:
        effect = stage.lab.uplinks[TELKOMSEL].blackhole()
        phone.wait_good(INDOSAT, since_s=effect.at_s)
    finally:
        stage.broker.process.send_signal(signal.SIGCONT)


def test_the_journal_replays_what_was_decided(stage):
    replayed = subprocess.run(
        [BIN / "jaga-agent", "replay", stage.directory / "agent/journal.jsonl"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert replayed.returncode == 0, replayed.stderr
    assert "FAILOVER telkomsel → indosat" in replayed.stdout


def test_the_lab_agents_configuration_is_right(stage, tmp_path):
    config = tmp_path / "agent.toml"
    config.write_text(agent_config(stage.site, tmp_path, (2, 4)))
    checked = stage.lab.pi.run(
        [str(BIN / "jaga-agent"), "check-config", "--config", str(config)]
    )
    assert checked.returncode == 0, checked.stderr
    outside = subprocess.run(
        [BIN / "jaga-agent", "check-config", "--config", config],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    assert outside.returncode == 1
    assert "device wan0 does not exist here; plug it in" in outside.stderr
